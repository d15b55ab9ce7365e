"""Train an agent from trajectories.

python -m decision.train PRESET --data FILE --out DIR [--any.config.field VALUE ...]
python -m decision.train --out DIR --resume

`--model.returns none` is behaviour cloning, with `--top-percent 10` of the best tenth (10 %BC).
"""

import sys

from core.cli.exits import main
from core.training.command import parse, resumed_folder
from decision.config import TrainConfig
from decision.presets import PRESETS
from decision.tasks.loop import train
from decision.trained import require_run


def parse_command(argv: list[str]) -> TrainConfig:
    """The command line as a run. Raises ValueError of one sentence for anything wrong."""
    if folder := resumed_folder(argv):
        require_run(folder)
    return parse(TrainConfig, PRESETS, argv, description="Trains an agent from trajectories.")


if __name__ == "__main__":
    main(lambda: train(parse_command(sys.argv[1:])))
