"""A decision run: the shared settings, the data, the environment it is evaluated in, and the model."""

from dataclasses import dataclass, field, fields
from typing import ClassVar

from core.checks import check_at_least, check_positive
from core.files.serialize import FORMERLY
from core.training.config import RunConfig
from decision.acting.policy import check_finite
from decision.environments.settings import AS_REGISTERED, EnvSettings, parse_arguments
from decision.models.config import DecisionConfig


@dataclass(frozen=True)
class OnlineConfig:
    """Learning from the model's own episodes, in rounds (Online Decision Transformer, Zheng 2022)."""

    every: int = 0
    """Optimiser steps from one round of acting to the next; 0 = no rounds, the data stays the same."""
    episodes: int = 4
    """Episodes of a round."""
    target: float | None = None
    """Return to ask for in a round; default 20 % above the best so far."""
    temperature: float = 1.0
    """Temperature at which actions are drawn; 1 = as often as predicted."""
    capacity: int = 1000
    """Episodes to learn from: the newest of the model's own, then the best of the data."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "every")
        check_positive(self, "episodes", "temperature", "capacity")
        if self.target is not None:
            check_finite("target", self.target)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        others = [f.name for f in fields(self) if f.name != "every"]
        return {} if self.every else dict.fromkeys(others, "every = 0 collects nothing")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """A run of `decision.train`; batches count windows of `model.context` steps."""

    resumable: ClassVar[tuple[str, ...]] = (*RunConfig.resumable, "data", "envs")

    data: str = ""
    """A file that decision.collect wrote, minari:NAME, a .hdf5 file of D4RL's, an .npz of arrays, a .pkl of them."""
    top_percent: float | None = None
    """Learn only from the episodes of highest return that hold this percentage of all steps; default all. With
    model.returns = none this is %BC."""
    env: str = field(default="", metadata={FORMERLY: "environment"})
    """Gymnasium's id of the environment to act in, or module:id; default that of the data, made as it was recorded."""
    env_args: tuple[str, ...] = ()
    """Arguments of the environment, NAME=VALUE, such as is_slippery=false; max_episode_steps=N sets its limit."""
    envs: int = 64
    """The most environments to act in at once."""
    eval_episodes: int = 20
    """Episodes of an evaluation, for each target; 0 = no evaluation, which needs no simulator."""
    eval_targets: tuple[float, ...] = ()
    """Returns to ask for in an evaluation; default the data's median, 90 %, best, and 20 % above the best."""
    init_from: str = ""
    """Start from trained weights: a run folder of decision.train, or a folder in Hugging Face's layout."""
    online: OnlineConfig = field(default_factory=OnlineConfig)
    """Acting while training."""
    model: DecisionConfig = field(default_factory=DecisionConfig)
    """The model; with init_from only its context has an effect, the rest comes with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 0, "eval_episodes")
        check_positive(self, "envs")
        parse_arguments(self.env_args)
        if self.top_percent is not None and not 0 < self.top_percent <= 100:
            raise ValueError(f"top_percent = {self.top_percent!r} must be above 0 and at most 100")
        for target in self.eval_targets:
            check_finite("eval_targets", target)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        unused = super().unused()
        unused |= dict.fromkeys(("model.observation_space", "model.action_space"), "they are those of the data")
        if not self.eval_episodes:
            unused["eval_targets"] = "eval_episodes = 0 evaluates nothing"
            if not self.online.every:
                unused["eval_every"] = unused["eval_targets"]
                acting = ("env", "env_args", "envs")
                unused |= dict.fromkeys(acting, "eval_episodes = 0 acts in no environment")
        if self.model.returns == "none":
            unused["eval_targets"] = "the model takes no return to reach"
        if self.init_from:
            brought = [f"model.{f.name}" for f in fields(DecisionConfig) if f.name != "context"]
            unused |= dict.fromkeys(brought, "init_from brings its own")
        return unused

    def settings(self, recorded: EnvSettings) -> EnvSettings:
        """How the environment is made; recorded: how that of the data is."""
        return (AS_REGISTERED if self.env else recorded).with_arguments(self.env_args)

    @property
    def acts(self) -> bool:
        """Whether an environment is needed."""
        return bool(self.eval_episodes or self.online.every)


FORMER = {"--environment": "--env", "--at-once": "--envs"}
"""Options by other names, which are taken as well."""


def renamed(argv: list[str]) -> list[str]:
    """A command line with the options of FORMER by their names."""
    split = (word.partition("=") for word in argv)
    return [FORMER.get(name.replace("_", "-"), name) + equals + value for name, equals, value in split]
