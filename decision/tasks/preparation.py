"""What a run begins from: trajectories, a shape, weights, and whether they fit each other and the environment."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.files.downloads import data_root
from core.training.checkpoints import read_config
from core.training.folder import resume_point
from decision.acting.episodes import opened
from decision.config import TrainConfig
from decision.data.load import Normaliser, Summary, Trajectories, load_data
from decision.environments.make import limit_of, require_length, require_spaces
from decision.environments.spaces import misfit
from decision.models.decision_transformer import DecisionConfig, DecisionTransformer
from decision.models.pretrained import load_pretrained
from decision.presets import RECIPES
from decision.trained import FILE, load, read_data_record

if TYPE_CHECKING:
    from decision.acting.episodes import Environment


def prepare(config: TrainConfig) -> tuple[Trajectories, Summary, TrainConfig]:
    """What is learnt from, a summary, and the configuration with everything filled in that depends on them.

    The summary is that of all the data, of which `top_percent` may leave only a part to learn from.
    Raises ValueError of one sentence for whatever is missing, damaged or does not fit.
    """
    data = read_data(config)
    summary = Summary.of(data)
    if (
        config.resume
        and (config.out / FILE).exists()
        and read_data_record(config.out).fingerprint != summary.fingerprint
    ):
        raise ValueError(f"{config.out} was trained on other trajectories: {config.data} is not the same any more")
    if resume_point(config) is not None:
        summary = read_data_record(config.out)
    elif config.init_from:
        summary = replace(summary, normaliser=read_given(config)[1] or summary.normaliser)
    with opened(environment_of(config, summary), int(config.acts)) as environments:
        model = choose_shape(config, summary, environments)
    check_exploring(config, model)
    part = data if config.top_percent is None else data.top(config.top_percent)
    return part, summary, replace(config, model=model)


def read_data(config: TrainConfig) -> Trajectories:
    """The trajectories that are named. Raises ValueError of one sentence, with how those of a preset are made."""
    if not config.data:
        raise ValueError("name the trajectories to learn from with --data; python -m decision.collect makes some")
    stored = data_root() / config.data
    if config.data in RECIPES and not (stored.exists() or Path(config.data).exists()):
        words = shlex.join(["python", "-m", "decision.collect", *RECIPES[config.data].split(), "--out", str(stored)])
        raise ValueError(f"there is no data {config.data!r}; to make it: {words}")
    return load_data(config.data)


def environment_of(config: TrainConfig, summary: Summary) -> str:
    """Gymnasium's id of where to act, "" if that is nowhere. Raises ValueError when nothing tells it."""
    identifier = config.environment or summary.environment
    if config.acts and not identifier:
        raise ValueError(
            f"{config.data} does not say of which environment it is: name one with --environment, "
            f"or act in none with --eval-episodes 0"
        )
    return identifier


def choose_shape(config: TrainConfig, summary: Summary, environments: list[Environment]) -> DecisionConfig:
    """The model's shape: that of a resumed run, or of the weights to start from, or the one described."""
    observed, acted = summary.observation_space, summary.action_space
    for environment in environments:
        require_spaces(environment, observed, acted, "the data")
    if resume_point(config) is not None:
        return resumed_shape(config)
    shape = given_shape(config, summary) if config.init_from else config.model
    longest = shape.max_timestep or max(summary.longest, known_limit(environment_of(config, summary)))
    shape = replace(shape, observation_space=observed, action_space=acted, max_timestep=longest)
    if shape.longest is not None and shape.longest < summary.longest:
        raise ValueError(
            f"{config.data} has an episode of {summary.longest} steps, the model's table of timesteps ends at "
            f"{shape.longest}: set model.max_timestep to {summary.longest} or more"
        )
    for environment in environments:
        if limit_of(environment) is not None:  # else episodes are cut off where the table of timesteps ends
            require_length(environment, shape.longest)
    return shape


def resumed_shape(config: TrainConfig) -> DecisionConfig:
    """A resumed run's own shape with what is asked for now, which has to be the same: the run compares them."""
    own, asked = read_config(config.out, TrainConfig).model, config.model
    if config.init_from:
        return replace(own, context=asked.context)
    return replace(
        asked,
        observation_space=own.observation_space,
        action_space=own.action_space,
        max_timestep=asked.max_timestep or own.max_timestep,
    )


def known_limit(environment: str) -> int:
    """Steps after which the environment of an id cuts episodes off; 0 if it never does, or is not known here."""
    import gymnasium

    try:
        return gymnasium.spec(environment.rpartition(":")[2]).max_episode_steps or 0
    except (gymnasium.error.Error, ImportError):
        return 0


def given_shape(config: TrainConfig, summary: Summary) -> DecisionConfig:
    """That of the weights to start from. Raises ValueError when they are of another environment than the data."""
    shape = read_given(config)[0].config
    assert shape.observation_space is not None
    assert shape.action_space is not None
    shown = misfit(shape.observation_space, summary.observation_space)
    taken = misfit(shape.action_space, summary.action_space, bounds="compared")
    for what, reason in (("observations", shown), ("actions", taken)):
        if reason:
            raise ValueError(f"the {what} of {config.init_from} are {reason} as in {config.data}")
    return replace(shape, context=config.model.context)


def check_exploring(config: TrainConfig, model: DecisionConfig) -> None:
    """Raise ValueError when a model cannot learn from what it does itself, but is to."""
    if not config.online.every:
        return
    assert model.action_space is not None
    if model.returns == "none":
        raise ValueError(f"online.every = {config.online.every} needs a model that is told the return to reach")
    if model.action_space.kind == "box" and model.head != "gaussian":
        raise ValueError(
            f"online.every = {config.online.every} needs a head that draws actions: train with --model.head gaussian"
        )


def read_given(config: TrainConfig) -> tuple[DecisionTransformer, Normaliser | None]:
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
    """The model that training starts from; what a checkpoint holds comes later."""
    model = DecisionTransformer(config.model)
    if config.init_from and resume_point(config) is None:
        model.load_state_dict(read_given(config)[0].state_dict())
    return model
