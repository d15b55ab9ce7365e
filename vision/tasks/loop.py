"""The training loop of every task."""

import shlex
from functools import partial

import torch

from core.optim.groups import build_optimizer
from core.scale.plan import print_plan
from core.training.run import Run
from vision.config import VisionConfig
from vision.models.build import build_model
from vision.tasks.by_name import TASKS
from vision.tasks.task import VisionTask


def train(config: VisionConfig) -> dict[str, float]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    return train_task(TASKS[config.task].prepare(config))


def train_task(task: VisionTask) -> dict[str, float]:
    """The same for a task that is prepared."""
    config, figures = task.config, dict[str, float]()
    if config.plan != "off":
        task.to(torch.device("cpu"))
        return print_plan(config, task, lambda: task.trained_part(build_model(config.model)))
    with Run(config, unit=task.unit) as run:
        task.to(run.device)
        model = task.trained_part(task.first_model())
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
