"""Settings of `decision.collect`."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from core.checks import check_at_least, check_choices, check_positive
from core.cli.arguments import REQUIRED
from decision.environments.settings import LIMIT, parse_arguments
from decision.trained import FILE

TRAINED = ("ppo", "sac", "a2c", "dqn", "td3")
"""Policies that are trained before they act."""
SAVED = ".pt"
"""Ending of a file with a teacher that --agent saved."""
TRAINING_ENVS = 8


@dataclass(frozen=True)
class CollectConfig:
    """Settings of `decision.collect`."""

    env: str = ""
    """Gymnasium's id of the environment, or module:id."""
    env_args: tuple[str, ...] = ()
    """Arguments of the environment, NAME=VALUE, such as is_slippery=false; max_episode_steps=N sets its limit."""
    policy: str = "random"
    """Who acts: random; ppo, sac, a2c, dqn or td3, which are trained first (needs stable-baselines3); an agent.zip that
    stable-baselines3 saved; an agent.pt that --agent saved; a run folder of decision.train; or module:function, from an
    observation as the environment shows it to an action."""
    statistics: str = ""
    """With an agent.zip: the file that VecNormalize saved with it; default one beside it, such as vecnormalize.pkl;
    none = the agent takes observations as they are."""
    target_return: float | None = None
    """With a run folder: the return to ask for; default the best of its data."""
    level: str = "expert"
    """Trained policies: train until recent episodes return this much: medium (a third of the way from random to
    expert), expert, or a number. Expert is D4RL's score, else the environment's own threshold; where that is not
    reached, or neither is known, it is the agent at the end of training, and a notice says so."""
    record: Literal["rollouts", "replay"] = "rollouts"
    """Trained policies: episodes of the trained policy, or all episodes of its training."""
    train_steps: int = 1_000_000
    """Trained policies: the most environment steps of training."""
    agent: str = ""
    """Trained policies: a file, ending in .pt, to save the trained agent to, for use as --policy."""
    max_steps: int | None = None
    """Steps after which an episode is cut off; default the environment's own limit, if it has one."""
    steps: int = 100_000
    """Record whole episodes until they have this many steps."""
    seed: int = 0
    """Seed of training, episodes and actions."""
    envs: int = 8
    """Environments to act in at once; training takes 8 at most."""
    join: tuple[str, ...] = ()
    """Data sets of one environment to join instead of recording: files, minari:NAME."""
    out: str = field(default="", metadata={REQUIRED: True})
    """The file to write; with --join also minari:NAME."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "train_steps", "steps", "envs", "max_steps")
        check_at_least(self, 0, "seed")
        if LIMIT in parse_arguments(self.env_args) and self.max_steps is not None:
            raise ValueError(f"max_steps = {self.max_steps} and env_args = {self.env_args} both set a limit of steps")
        if self.agent and not self.agent.endswith(SAVED):
            raise ValueError(f"agent = {self.agent!r} must end in {SAVED}")
        if self.level not in ("medium", "expert") and not is_number(self.level):
            raise ValueError(f"level = {self.level!r} is not one of: medium, expert, a number")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        if self.join:
            names = (f.name for f in fields(self) if f.name not in ("join", "out"))
            return dict.fromkeys(names, "--join records nothing")
        unused = {} if self.is_run else {"target_return": "only the agent of a run folder has a return to reach"}
        if not self.policy.endswith(".zip"):
            unused["statistics"] = "only an agent.zip was normalised by others"
        if not self.is_trained:
            reason = f"only {', '.join(TRAINED)} are trained"
            return unused | dict.fromkeys(("level", "record", "train_steps", "agent"), reason)
        if not self.is_replay:
            return unused
        most = {} if self.envs <= TRAINING_ENVS else {"envs": f"training has {TRAINING_ENVS} at most"}
        return unused | {"steps": "a replay is as long as its training"} | most

    @property
    def is_run(self) -> bool:
        """Whether the policy is the agent of a run folder."""
        return (Path(self.policy) / FILE).is_file()

    @property
    def is_trained(self) -> bool:
        """Whether the policy is trained before it acts."""
        return self.policy in TRAINED

    @property
    def is_replay(self) -> bool:
        """Whether the episodes of a training are recorded."""
        return self.is_trained and self.record == "replay"

    def settings(self) -> dict[str, Any]:
        """The settings that a recording and its continuation must have in common."""
        names = ["env", "policy", "seed"] + (["level", "record"] if self.is_trained else [])
        names += [name for name in ("env_args", "max_steps", "statistics") if getattr(self, name)]
        names += [] if self.is_replay and self.envs >= TRAINING_ENVS else ["envs"]
        names += ["target_return"] if self.is_run else []
        values = {name: getattr(self, name) for name in names}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def is_number(text: str) -> bool:
    """Whether a word is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
