"""Train a text model.

python -m text.train PRESET --data NAME_OR_PATH --out DIR [--any.config.field VALUE ...]
python -m text.train --out DIR --resume
"""

from __future__ import annotations

import shlex
from functools import partial
from typing import Any

from core.cli.exits import main
from core.optim.groups import build_optimizer
from core.training.command import parse
from core.training.run import Run
from text.config import TrainConfig
from text.presets import PRESETS
from text.start import prepare


def train(config: TrainConfig) -> dict[str, Any]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    start = prepare(config)
    config, task = start.config, start.task
    figures: dict[str, Any] = {}
    with Run(config, unit=task.unit) as run:
        model = start.build_model()
        if run.main:
            task.save_data(run.folder)
        objective = run.prepare(task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.log_summary(task.summary())
        for _, batch in run.steps(task.order):
            run.update(run.backward(objective, batch, count=task.count))
            if run.due("eval"):
                with run.evaluating():
                    figures = task.evaluate(run)
                    task.show(run)
                run.log(figures, best=task.best, mode=task.mode)
        run.progress.say(f"done; {task.use} {shlex.quote(str(run.folder))}")
    return figures


if __name__ == "__main__":
    main(lambda: train(parse(TrainConfig, PRESETS, description="Trains a text model.")))
