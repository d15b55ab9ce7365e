"""Train a text model.

python -m text.train PRESET --data NAME_OR_PATH --out DIR [--any.config.field VALUE ...]
python -m text.train --out DIR --resume
"""

import shlex
from functools import partial
from typing import Any

from core.cli.exits import main
from core.optim.groups import build_optimizer
from core.scale.plan import print_plan
from core.training.command import parse
from core.training.folder import resume_point
from core.training.run import Run
from text.config import TextConfig
from text.presets import PRESETS
from text.tasks.by_name import TASKS
from text.tasks.configs import CONFIGS
from text.tasks.task import planned_model, starting_model


def train(config: TextConfig) -> dict[str, Any]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    task = TASKS[config.task].prepare(config)
    config = task.config
    if config.plan != "off":
        return print_plan(config, task, partial(planned_model, config))
    figures: dict[str, Any] = {}
    with Run(config, unit=task.unit) as run:
        started = bool(config.init_from) and resume_point(config) is None  # else a checkpoint is restored later
        model = starting_model(config, started)
        with run.processes.recording_data(run.folder) as folder:
            task.save_data(folder)
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
    main(lambda: train(parse(CONFIGS, PRESETS, description="Trains a text model.")))
