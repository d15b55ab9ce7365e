"""The training loop, and what a run begins with: trajectories, a shape and weights that fit each other."""

import shlex
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from core.adapters.lora import adapt
from core.files.downloads import data_root
from core.messages import number
from core.optim.groups import build_optimizer
from core.scale.plan import print_plan
from core.training.checkpoints import read_config
from core.training.config import with_steps
from core.training.folder import resume_point
from core.training.run import Run
from core.training.trained import matches_data, save_data_record
from decision.acting.episodes import without_limit
from decision.config import TrainConfig
from decision.data.sources import load_data, locate
from decision.data.store import Trajectories
from decision.data.summary import Summary
from decision.environments.make import (
    open_environments,
    registered_limit,
    require_length,
    require_spaces,
    spaces_of,
    step_limit,
)
from decision.environments.observations import Environment, name_of
from decision.environments.spaces import contains, differences
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer
from decision.presets import RECIPES
from decision.tasks.imitation import Imitation, eval_targets
from decision.tasks.online import OnlineRounds
from decision.trained import read_initial, read_summary, save_summary, starting_model


def train(config: TrainConfig) -> dict[str, float]:
    """Train as configured; returns the last evaluation. Raises ValueError for bad input, before anything is written."""
    data, summary, config = prepare(config)
    if config.plan != "off":
        task = Imitation(data, summary, config, [], torch.device("cpu"))
        return print_plan(config, task, lambda: adapt(DecisionTransformer(config.model), config.adapter))
    figures: dict[str, float] = {}
    with evaluation_environments(config, summary) as environments, Run(config, unit=Imitation.unit) as run:
        model = starting_model(config, started=bool(config.init_from) and resume_point(config) is None)
        with run.processes.recording_data(run.folder) as folder:
            save_summary(summary, folder)
            save_data_record(folder, config.data, data.fingerprint(), episodes=len(data), steps=data.steps)
        task = Imitation(data, summary, config, environments, run.device)
        objective = run.prepare(task.objective(model), model, partial(build_optimizer, config=config.optimizer))
        run.log_summary(task.summary())
        warn_of_targets(run, summary, config)
        where = choose_environment(config, summary), config.settings(summary.settings)
        if config.acts and (said := without_limit(*where, config.model.longest)):
            run.progress.say(f"notice: {said}")
        online = OnlineRounds(run, task)
        online.act_when_due()
        for _, batch in run.steps(task.order):
            run.update(run.backward(objective, batch, count=task.count))
            if run.due("eval"):
                with run.evaluating():
                    figures = task.evaluate(run)
                run.log(figures | online.figures(), best=task.best, mode=task.mode)
            online.act_when_due()
        say_results(run, figures)
    return figures


def evaluation_environments(config: TrainConfig, summary: Summary) -> AbstractContextManager[list[Environment]]:
    """The environments to act in, as many as can be used at once; no episode exceeds the table of timesteps."""
    episodes = config.eval_episodes * max(1, len(eval_targets(config, summary)))
    if config.online.every:
        episodes = max(episodes, config.online.episodes)
    environment, settings = choose_environment(config, summary), config.settings(summary.settings)
    return open_environments(environment, min(episodes, config.envs), settings, longest=config.model.longest)


def warn_of_targets(run: Run, summary: Summary, config: TrainConfig) -> None:
    """Says so when no target of the evaluations is near the returns of the data, as with a preset for another task."""
    least, best, most = summary.returns[0], summary.returns[-1], summary.targets()["max + 20 %"]
    targets = eval_targets(config, summary) if config.eval_episodes else ()
    if targets and not any(least <= target <= most for target in targets):
        returns = f"the data returns {number(least)} to {number(best)}"
        asked = ", ".join(map(number, targets))
        run.progress.say(f"notice: evaluations ask for {asked}, {returns}: name others with --eval-targets")


def say_results(run: Run, figures: dict[str, float]) -> None:
    """What the best and the last evaluation returned, and what to do next."""
    results = "done"
    if run.best:
        results += f": the best evaluation returned {number(run.best['value'])} at step {run.best['step']}"
    if figures:
        results += f", the last {number(figures['val/return'])}"
    run.progress.say(f"{results}; judge it with: python -m decision.evaluate {shlex.quote(str(run.folder))}")


def prepare(config: TrainConfig) -> tuple[Trajectories, Summary, TrainConfig]:
    """What to learn from, its summary, and the configuration with everything filled in that depends on them.

    The summary is that of all the data, even if `top_percent` leaves only a part of it to learn from.
    Raises ValueError for anything that is missing, damaged or does not fit.
    """
    data = read_data(config.data)
    environment, settings = choose_environment(config, data), config.settings(data.settings)
    with open_environments(environment, int(config.acts), settings) as environments:
        for each in environments:  # one, or none
            data = in_spaces_of(each, data)
        part = data if config.top_percent is None else data.top(config.top_percent)
        if config.resume and not matches_data(config.out, part.fingerprint()):
            raise ValueError(f"{config.out} was trained on other trajectories: {config.data} has changed since")
        if resume_point(config) is not None:
            summary = read_summary(config.out)
        else:
            summary = Summary.of(data)
            if config.init_from:
                summary = replace(summary, normaliser=read_initial(config)[1] or summary.normaliser)
        model = choose_shape(config, summary, environments)
    if config.online.every:
        check_online(config.online.every, model)
    return part, summary, with_steps(replace(config, model=model, data=locate(config.data)), part.steps)


def in_spaces_of(environment: Environment, data: Trajectories) -> Trajectories:
    """The same data in the spaces of an environment, where its own only span what it has.

    Raises ValueError for actions that the environment does not take.
    """
    spaces: dict[str, Any] = {}
    owns = (data.observation_space, data.action_space)
    for name, own, theirs in zip(("observations", "actions"), owns, spaces_of(environment), strict=True):
        alike = (own.kind, own.shape, own.stored.kind) == (theirs.kind, theirs.shape, theirs.stored.kind)
        if own.extent == "data" and alike:
            if name == "actions" and not contains(theirs, own):
                bounds = f"from {own.span()} are not among those of {name_of(environment)}, {theirs.span()}"
                raise ValueError(f"actions {bounds}")
            spaces[f"{name[:-1]}_space"] = replace(theirs, precision=own.precision)
    return replace(data, **spaces) if spaces else data


def read_data(name: str) -> Trajectories:
    """The trajectories to learn from. Raises ValueError of one sentence, with how those of a preset are made."""
    if not name:
        raise ValueError("name the trajectories to learn from with --data; python -m decision.collect makes some")
    stored = data_root() / name
    if name in RECIPES and not (stored.exists() or Path(name).exists()):
        words = shlex.join(["python", "-m", "decision.collect", *RECIPES[name].split(), "--out", str(stored)])
        raise ValueError(f"there is no data {name!r}; to make it: {words}")
    return load_data(name)


def choose_environment(config: TrainConfig, data: Trajectories | Summary) -> str:
    """Gymnasium's id of the environment to act in, "" for none. Raises ValueError when it is needed but unknown."""
    identifier = config.env or data.environment
    if config.acts and not identifier:
        remedy = "name one with --env, or act in none with --eval-episodes 0"
        raise ValueError(f"the environment of {config.data} is unknown: {remedy}")
    return identifier


def choose_shape(config: TrainConfig, summary: Summary, environments: list[Environment]) -> DecisionConfig:
    """The model's shape: that of a resumed run, or of the weights to start from, or the configured one."""
    observed, acted = summary.observation_space, summary.action_space
    for environment in environments:
        require_spaces(environment, observed, acted, "the data")
    if resume_point(config) is not None:
        return resumed_shape(config)
    shape = initial_shape(config, summary) if config.init_from else config.model
    limit = registered_limit(choose_environment(config, summary), config.settings(summary.settings))
    longest = shape.max_timestep or max(summary.longest, limit)
    shape = replace(shape, observation_space=observed, action_space=acted, max_timestep=longest)
    if shape.longest is not None and shape.longest < summary.longest:
        raise ValueError(
            f"{config.data} has an episode of {summary.longest} steps, the model's table of timesteps ends at "
            f"{shape.longest}: set model.max_timestep to {summary.longest} or more"
        )
    for environment in environments:
        if step_limit(environment) is not None:  # otherwise episodes are cut off where the table of timesteps ends
            require_length(environment, shape.longest)
    return shape


def resumed_shape(config: TrainConfig) -> DecisionConfig:
    """The configured shape, filled in as in the resumed run, which is compared with its own when training begins."""
    own, configured = read_config(config.out, TrainConfig).model, config.model
    if config.init_from:
        return replace(own, context=configured.context)
    longest, (observed, acted) = configured.max_timestep or own.max_timestep, own.spaces()
    return replace(configured, observation_space=observed, action_space=acted, max_timestep=longest)


def initial_shape(config: TrainConfig, summary: Summary) -> DecisionConfig:
    """That of the weights to start from. Raises ValueError when they are of another environment than the data."""
    shape = read_initial(config)[0].config
    for what, reason in differences(shape.spaces(), (summary.observation_space, summary.action_space)):
        raise ValueError(f"the {what} of {config.init_from} are {reason} as in {config.data}")
    return replace(shape, context=config.model.context)


def check_online(every: int, model: DecisionConfig) -> None:
    """Raise ValueError when a model cannot learn from its own episodes."""
    if model.returns == "none":
        raise ValueError(f"online.every = {every} needs a model with model.returns = 'token'")
    if model.spaces()[1].kind == "box" and model.head != "gaussian":
        raise ValueError(f"online.every = {every} needs a head that draws actions: train with --model.head gaussian")
