"""What a run begins with: trajectories, a shape, weights, and whether they fit each other and the environment."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.files.downloads import data_root
from core.training.checkpoints import read_config
from core.training.folder import resume_point
from core.training.trained import matches_data
from decision.config import TrainConfig
from decision.data.load import load_data
from decision.data.normaliser import Normaliser
from decision.data.store import Trajectories
from decision.data.summary import Summary
from decision.environments.make import open_environments, require_length, require_spaces, step_limit
from decision.environments.spaces import mismatch
from decision.models.config import DecisionConfig
from decision.models.decision_transformer import DecisionTransformer
from decision.models.pretrained import load_pretrained
from decision.presets import RECIPES
from decision.trained import FILE, load, read_summary

if TYPE_CHECKING:
    from decision.environments.make import Environment


def prepare(config: TrainConfig) -> tuple[Trajectories, Summary, TrainConfig]:
    """What to learn from, its summary, and the configuration with everything filled in that depends on them.

    The summary is that of all the data, even if `top_percent` leaves only a part of it to learn from.
    Raises ValueError of one sentence for anything that is missing, damaged or does not fit.
    """
    data = read_data(config)
    part = data if config.top_percent is None else data.top(config.top_percent)
    if config.resume and not matches_data(config.out, part.fingerprint()):
        raise ValueError(f"{config.out} was trained on other trajectories: {config.data} has changed since")
    if resume_point(config) is not None:
        summary = read_summary(config.out)
    else:
        summary = Summary.of(data)
        if config.init_from:
            summary = replace(summary, normaliser=read_initial(config)[1] or summary.normaliser)
    with open_environments(choose_environment(config, summary), int(config.acts)) as environments:
        model = choose_shape(config, summary, environments)
    check_online(config, model)
    return part, summary, replace(config, model=model)


def read_data(config: TrainConfig) -> Trajectories:
    """The trajectories of a configuration. Raises ValueError of one sentence, with how those of a preset are made."""
    if not config.data:
        raise ValueError("name the trajectories to learn from with --data; python -m decision.collect makes some")
    stored = data_root() / config.data
    if config.data in RECIPES and not (stored.exists() or Path(config.data).exists()):
        words = shlex.join(["python", "-m", "decision.collect", *RECIPES[config.data].split(), "--out", str(stored)])
        raise ValueError(f"there is no data {config.data!r}; to make it: {words}")
    return load_data(config.data)


def choose_environment(config: TrainConfig, summary: Summary) -> str:
    """Gymnasium's id of the environment to act in, "" for none. Raises ValueError when it is needed but unknown."""
    identifier = config.environment or summary.environment
    if config.acts and not identifier:
        raise ValueError(
            f"the environment of {config.data} is unknown: name one with --environment, "
            f"or act in none with --eval-episodes 0"
        )
    return identifier


def choose_shape(config: TrainConfig, summary: Summary, environments: list[Environment]) -> DecisionConfig:
    """The model's shape: that of a resumed run, or of the weights to start from, or the configured one."""
    observed, acted = summary.observation_space, summary.action_space
    for environment in environments:
        require_spaces(environment, observed, acted, "the data")
    if resume_point(config) is not None:
        return resumed_shape(config)
    shape = initial_shape(config, summary) if config.init_from else config.model
    longest = shape.max_timestep or max(summary.longest, registered_limit(choose_environment(config, summary)))
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
    return replace(
        configured,
        observation_space=own.observation_space,
        action_space=own.action_space,
        max_timestep=configured.max_timestep or own.max_timestep,
    )


def registered_limit(environment: str) -> int:
    """Steps after which the environment of an id cuts episodes off; 0 if it never does, or is not installed."""
    import gymnasium

    try:
        return gymnasium.spec(environment.rpartition(":")[2]).max_episode_steps or 0
    except (gymnasium.error.Error, ImportError):
        return 0


def initial_shape(config: TrainConfig, summary: Summary) -> DecisionConfig:
    """That of the weights to start from. Raises ValueError when they are of another environment than the data."""
    shape = read_initial(config)[0].config
    observed, acted = shape.spaces()
    differences = {
        "observations": mismatch(observed, summary.observation_space),
        "actions": mismatch(acted, summary.action_space, bounds="compared"),
    }
    for what, reason in differences.items():
        if reason:
            raise ValueError(f"the {what} of {config.init_from} are {reason} as in {config.data}")
    return replace(shape, context=config.model.context)


def check_online(config: TrainConfig, model: DecisionConfig) -> None:
    """Raise ValueError when a model is to learn from its own episodes, but cannot."""
    if not config.online.every:
        return
    if model.returns == "none":
        raise ValueError(f"online.every = {config.online.every} needs a model with model.returns = 'token'")
    if model.spaces()[1].kind == "box" and model.head != "gaussian":
        raise ValueError(
            f"online.every = {config.online.every} needs a head that draws actions: train with --model.head gaussian"
        )


def read_initial(config: TrainConfig) -> tuple[DecisionTransformer, Normaliser | None]:
    """The weights to start from, and the statistics that they were trained with, where those are known."""
    folder = Path(config.init_from).expanduser()
    if (folder / FILE).is_file() or (folder / "checkpoints").is_dir():
        trained = load(folder)
        return trained.model, trained.summary.normaliser
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"init_from = {config.init_from!r} is neither a run folder of decision.train nor a folder in "
            f"Hugging Face's layout"
        )
    return load_pretrained(folder, config.model.context), None


def first_model(config: TrainConfig) -> DecisionTransformer:
    """The model that training starts from, before a checkpoint is restored."""
    model = DecisionTransformer(config.model)
    if config.init_from and resume_point(config) is None:
        model.load_state_dict(read_initial(config)[0].state_dict())
    return model
