"""Train an image model.

python -m vision.train PRESET --data NAME_OR_FOLDER --out DIR [--any.config.field VALUE ...]
python -m vision.train --out DIR --resume
"""

from core.cli.exits import main
from core.training.command import parse
from vision.presets import PRESETS
from vision.tasks.configs import CONFIGS
from vision.tasks.loop import train

if __name__ == "__main__":
    main(lambda: train(parse(CONFIGS, PRESETS, description="Trains an image model.")))
