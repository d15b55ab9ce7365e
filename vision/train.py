"""Train an image model.

python -m vision.train PRESET --data NAME_OR_FOLDER --out DIR [--any.config.field VALUE ...]
python -m vision.train --out DIR --resume
"""

import shlex
from functools import partial

from core.cli.exits import main
from core.optim.groups import build_optimizer
from core.training.command import parse
from core.training.run import Run
from vision.config import TrainConfig
from vision.presets import PRESETS
from vision.pretrained.start import first_model, prepare
from vision.tasks.classification import Classification
from vision.trained import save_data_record


def train(config: TrainConfig) -> dict[str, float]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    data, config = prepare(config)
    figures: dict[str, float] = {}
    with Run(config, unit="images") as run:
        model = first_model(config, data)
        if run.main:
            save_data_record(run.folder, data)
        task = Classification(data, config, run.device)
        objective = run.prepare(task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.log_summary(task.summary())
        for _, batch in run.steps(task.order):
            run.update(run.backward(objective, batch, count=task.count))
            if run.due("eval"):
                with run.evaluating():
                    figures = task.evaluate(run)
                run.log(figures, best=task.best, mode=task.mode)
        run.progress.say(f"done; evaluate it with: python -m vision.evaluate {shlex.quote(str(run.folder))}")
    return figures


if __name__ == "__main__":
    main(lambda: train(parse(TrainConfig, PRESETS, description="Trains an image model.")))
