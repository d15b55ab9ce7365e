"""Record trajectories of a behaviour policy as a data set file.

    python -m decision.collect --env ID --policy P --steps N --out FILE
    python -m decision.collect --join DATA ... --out FILE

The recipes of D4RL:

    random           --policy random
    medium           --policy ppo --level medium
    medium-replay    --policy ppo --level medium --record replay
    expert           --policy ppo --level expert
    medium-expert    --join MEDIUM EXPERT

Interrupted, it keeps what it has in the folder FILE.part; the same command goes on. Only the training of SAC begins
anew, unless a replay is recorded, which holds all that SAC goes on from. `--join` takes data of any kind, one set or
more, and writes a native file or, as `--out minari:NAME`, a Minari data set. One training makes both
medium-replay and medium: the former with `--agent medium.pt` keeps the agent, which `--policy medium.pt` records.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.cli.arguments import main, parse_fields
from core.cli.errors import Interrupted
from core.cli.signals import StopRequest
from core.config import check_choices, check_positive
from core.messages import number
from core.training.config import check_at_least
from core.training.order import stream
from decision.acting.episodes import opened, play
from decision.acting.policy import Actors
from decision.collecting.agents import ALGORITHMS, Agent, read_agent, read_kept
from decision.collecting.behaviour import Behaviour, RandomActors, find_behaviour
from decision.collecting.recording import Recorder, Recording
from decision.collecting.teacher import AGENT, RECENT, Training, goal, progress
from decision.data.load import load_data, reference_scores
from decision.data.sources import D4RL, MINARI, write_minari
from decision.data.store import Episode, Trajectories, concatenate
from decision.environments.make import full_name, require_length, require_spaces, spaces_of
from decision.environments.spaces import describe
from decision.models.decision_transformer import check_head
from decision.trained import FILE, load

KEPT = ".pt"  # how a file of an agent ends that was trained here
TRAINED_IN = 8  # environments
MEASURED = 100  # episodes from which the return of a random policy is taken, or fewer
MEASURED_STEPS = 20_000  # from this many steps on
PACKAGES = ("gymnasium", "mujoco", "box2d", "stable-baselines3")


@dataclass(frozen=True)
class CollectConfig:
    """Settings of `decision.collect`."""

    env: str = ""
    """Gymnasium's id of the environment, or module:id."""
    policy: str = "random"
    """Who acts: random; ppo or sac, trained first (needs stable-baselines3); an agent.zip that stable-baselines3
    saved; an agent.pt that --agent kept; a run folder of decision.train; or module:function, from an observation to
    an action."""
    target_return: float | None = None
    """A run folder: return that its agent is asked for; default the best of its data."""
    level: str = "expert"
    """ppo, sac: train until recent episodes return this much: medium (a third of the way from random to expert),
    expert, or a number. Expert is D4RL's score, else the environment's own threshold; where that is not reached, or
    neither is known, it is the agent at the end of training, and a notice says so."""
    record: Literal["rollouts", "replay"] = "rollouts"
    """ppo, sac: episodes of the trained policy, or all those of its training."""
    train_steps: int = 1_000_000
    """ppo, sac: environment steps of training at most."""
    agent: str = ""
    """ppo, sac: a file, ending in .pt, to keep the trained agent in; --policy takes it."""
    steps: int = 100_000
    """Record whole episodes until they hold this many steps."""
    seed: int = 0
    """Seed of training, of episodes and of actions."""
    envs: int = 8
    """Environments that are acted in at once."""
    join: tuple[str, ...] = ()
    """Data sets of one environment to put together in place of recording: files, minari:NAME."""
    out: str = ""
    """The file to write; with --join also minari:NAME."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "train_steps", "steps", "envs")
        check_at_least(self, 0, "seed")
        if self.agent and not self.agent.endswith(KEPT):
            raise ValueError(f"agent = {self.agent!r} must end in {KEPT}")
        if self.level not in ("medium", "expert") and not is_number(self.level):
            raise ValueError(f"level = {self.level!r} is not one of: medium, expert, a number")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        if self.join:
            names = (f.name for f in fields(self) if f.name not in ("join", "out"))
            return dict.fromkeys(names, "--join records nothing")
        idle = {} if self.is_run else {"target_return": "only the agent of a run folder is asked for one"}
        if self.policy not in ALGORITHMS:
            return idle | dict.fromkeys(("level", "record", "train_steps", "agent"), "only ppo and sac are trained")
        if not self.is_replay:
            return idle
        return idle | {"steps": "a replay is as long as its training", "envs": f"training has {TRAINED_IN}"}

    @property
    def is_run(self) -> bool:
        """Whether the policy is the agent of a run folder."""
        return (Path(self.policy) / FILE).is_file()

    @property
    def is_replay(self) -> bool:
        """Whether the episodes of a training are recorded."""
        return self.policy in ALGORITHMS and self.record == "replay"

    @property
    def resumes(self) -> bool:
        """Whether training goes on where it was interrupted: SAC does only with all that it saw, which a replay is."""
        return self.policy != "sac" or self.is_replay

    def settings(self) -> dict[str, Any]:
        """What a recording that is gone on with must have in common with its beginning."""
        kept = ["env", "policy", "seed"] + (["level", "record"] if self.policy in ALGORITHMS else [])
        kept += ([] if self.is_replay else ["envs"]) + (["target_return"] if self.is_run else [])
        return {name: getattr(self, name) for name in kept}


def collect(config: CollectConfig) -> Trajectories:
    """Records as configured, or goes on where it was interrupted, and writes the file.

    Raises ValueError for bad input, RunFailure when training ends below a level that is not expert, and Interrupted.
    """
    target = native(config.out)
    if config.agent and Path(config.agent).exists():
        raise ValueError(f"{config.agent} exists already: remove it, or name another --agent")
    number = max(config.envs, TRAINED_IN) if config.policy in ALGORITHMS else config.envs
    with StopRequest() as stop, opened(config.env, number) as environments:
        recorders = [Recorder(environment, stop) for environment in environments]
        name, (observed, acted) = full_name(config.env, environments[0]), spaces_of(environments[0])
        check_head("auto", acted)
        about = {"environment": name, "observation_space": observed, "action_space": acted}
        recording = Recording(target, config.settings(), about)
        try:
            return record(config, recorders, recording)
        except Interrupted:
            recording.flush()
            kept = f"{recording.steps:,} steps are kept in {recording.folder}"
            goes_on = config.resumes or (recording.folder / AGENT).exists()
            then = "goes on" if goes_on else "begins SAC's training anew"
            raise Interrupted(f"interrupted; {kept}, and the same command {then}") from None


def native(out: str) -> Path:
    """The native file to write. Raises ValueError for no name, and for one that would be read as another format."""
    if not out:
        raise ValueError("name the file to write with --out")
    if out.startswith(MINARI):
        raise ValueError(f"out = {out!r} needs --join: record to a file first, then --join FILE --out {out}")
    if Path(out).suffix.lower() in D4RL:
        raise ValueError(f"out = {out!r} would be read as a file of D4RL's: give it another ending, as .npz")
    return Path(out)


def record(config: CollectConfig, recorders: Sequence[Recorder], recording: Recording) -> Trajectories:
    """The episodes asked for, in a file with where they come from."""
    reference = find_reference(config, recorders)
    origin: dict[str, Any] = config.settings() | {"first_seed": first_seed(config.seed)}
    agent, told = find_agent(config, recorders, recording, reference)
    if agent:
        behaviour: Behaviour = agent.actors
    elif config.is_run:
        behaviour = trained_behaviour(config, recorders[0])
    else:
        behaviour = find_behaviour(config.policy, recording.about["action_space"])
    if not config.is_replay:
        roll(config, behaviour, recorders[: config.envs], recording)
        if config.policy in ALGORITHMS and config.level == "expert":
            reference = reference or between(random_return(config, recorders), float(recording.returns.mean()))
    origin |= told | {"versions": versions(), "date": datetime.date.today().isoformat()}
    if agent and config.agent:
        agent.save(Path(config.agent), **origin)
    return recording.finish(None if config.is_replay else config.steps, provenance=origin, reference=reference)


def find_agent(
    config: CollectConfig, recorders: Sequence[Recorder], recording: Recording, reference: tuple[float, float] | None
) -> tuple[Agent | None, dict[str, Any]]:
    """PPO or SAC, trained if need be, and what there is to say about it; None where neither acts."""
    if config.policy in ALGORITHMS:
        training = Training(config, recorders[:TRAINED_IN], recording, goal(config, reference))
        training.run()
        return training.agent, {"trained_steps": training.agent.steps, "trained_return": training.recent_return()}
    if config.policy.endswith(".zip"):
        return read_agent(Path(config.policy), recorders), {}
    if config.policy.endswith(KEPT):
        agent, about = read_kept(Path(config.policy), recorders)
        return agent, {"agent": about}
    return None, {}


def trained_behaviour(config: CollectConfig, environment: Recorder) -> Behaviour:
    """The agent of a run folder. Raises ValueError for an environment or a target that it does not fit."""
    trained = load(config.policy)
    model, summary = trained.model, trained.summary
    if config.target_return is not None and model.config.returns != "token":
        raise ValueError("--target-return has no effect: the model is told no return to reach")
    require_spaces(environment, summary.observation_space, summary.action_space, config.policy)
    require_length(environment, model.config.longest)
    target = summary.returns[-1] if config.target_return is None else config.target_return
    return lambda seeds: Actors(model, summary.normaliser, [target] * len(seeds))


def roll(config: CollectConfig, behaviour: Behaviour, recorders: Sequence[Recorder], recording: Recording) -> None:
    """Records episodes, numbered from `first_seed` on, until they hold the steps asked for.

    They are begun by their numbers and all finished, so that short ones are not favoured.
    """
    first = first_seed(config.seed)
    with progress(recording.steps, config.steps, "recording") as bar:
        while recording.steps < config.steps:
            begun = first + len(recording.returns)
            recording.add(wave(recorders, behaviour, range(begun, begun + len(recorders))))
            if recording.due:
                recording.flush()
            bar.set_postfix_str(f"return {number(recording.returns[-RECENT:].mean())}", refresh=False)
            bar.update(recording.steps - bar.n)


def wave(recorders: Sequence[Recorder], behaviour: Behaviour, seeds: Sequence[int]) -> list[Episode]:
    """One episode for each seed."""
    play(recorders[: len(seeds)], seeds, behaviour(seeds))
    return [episode for recorder in recorders[: len(seeds)] for episode in recorder.take()]


def find_reference(config: CollectConfig, recorders: Sequence[Recorder]) -> tuple[float, float] | None:
    """Returns of a random and an expert policy: D4RL's, or measured and the environment's own threshold."""
    threshold = None if recorders[0].spec is None else recorders[0].spec.reward_threshold
    known = reference_scores(config.env)
    if known is not None or threshold is None:
        return known
    return between(random_return(config, recorders), float(threshold))


def random_return(config: CollectConfig, recorders: Sequence[Recorder]) -> float:
    """The mean return of a random policy, measured."""
    behaviour, seed = partial(RandomActors, describe(recorders[0].action_space)), first_seed(config.seed + 1)
    found: list[Episode] = []
    while len(found) < MEASURED and sum(len(episode.rewards) for episode in found) < MEASURED_STEPS:
        found += wave(recorders[:1], behaviour, [seed + len(found)])
    return float(np.mean([episode.rewards.sum(dtype=np.float64) for episode in found]))


def between(random: float, expert: float) -> tuple[float, float] | None:
    """A scale of returns, unless the random policy is no worse than the expert."""
    return (random, expert) if random < expert else None


def first_seed(seed: int) -> int:
    """What the first episode is reset with, the next ones counting on from it; not those that policies are tried on."""
    return int(stream(seed, "collected").random_raw() >> np.uint64(34))


def is_number(text: str) -> bool:
    """Whether a word is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def versions() -> dict[str, str]:
    """Of what has a part in the data."""
    found = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def join(sources: Sequence[str], out: str) -> Trajectories:
    """Data sets of any kind put together as one, in a native file or, as `minari:NAME`, in a Minari data set.

    Raises ValueError: one of them cannot be read, they do not fit, or `out` exists.
    """
    target = None if out.startswith(MINARI) else native(out)
    if target and target.exists():
        raise ValueError(f"{out} exists already: remove it, or name another --out")
    parts = [load_data(source) for source in sources]
    origin = {"joined": [{"data": name, **part.provenance} for name, part in zip(sources, parts, strict=True)]}
    data = concatenate(parts, parts[0].provenance if len(parts) == 1 else origin)
    if target:
        data.save(target)
    else:
        write_minari(data, out.removeprefix(MINARI))
    return data


def collect_or_join(argv: list[str]) -> None:
    """The command."""
    config = parse_fields(
        CollectConfig, CollectConfig(), argv, prog="python -m decision.collect", description=__doc__ or ""
    )
    if not (config.env or config.join):
        raise ValueError("name an environment to record with --env, or data sets to put together with --join")
    data = join(config.join, config.out) if config.join else collect(config)
    returns = data.returns()
    whole = f"{len(data):,} episodes, {data.steps:,} steps of {data.environment or 'an unknown environment'}"
    spread = f"{number(returns.min())} to {number(returns.max())}, {number(returns.mean())} on average"
    print(f"{config.out}: {whole}; returns {spread}")


if __name__ == "__main__":
    main(lambda: collect_or_join(sys.argv[1:]))
