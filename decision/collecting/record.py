"""Recording the episodes of a policy, and joining data sets, as `decision.collect` does."""

import datetime
import importlib.metadata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.cli.exits import Interrupted, StopRequest
from core.messages import notice, number
from decision.acting.policy import ModelPolicy
from decision.collecting.agents import Agent, load_agent, read_agent
from decision.collecting.config import SAVED, TRAINING_ENVS, CollectConfig
from decision.collecting.recording import Behaviour, Recorder, Recording, find_behaviour, record_episodes
from decision.collecting.teacher import (
    RECENT,
    find_goal,
    find_reference,
    first_seed,
    progress_bar,
    random_return,
    reference_of,
    saved_agent,
    trained_agent,
)
from decision.data.files import D4RL, PICKLES
from decision.data.sources import MINARI, load_data, write_minari
from decision.data.store import Trajectories, concatenate
from decision.environments.make import (
    full_name,
    open_environments,
    require_length,
    require_spaces,
    settings_used,
    spaces_of,
    step_limit,
)
from decision.environments.settings import AS_REGISTERED
from decision.models.config import check_head
from decision.trained import load

PACKAGES = ("gymnasium", "mujoco", "box2d", "stable-baselines3")


def collect(config: CollectConfig) -> Trajectories:
    """Records as configured, or continues an interrupted recording, and writes the file.

    Raises ValueError for bad input, RunFailure when training ends below its level, and Interrupted.
    """
    target = native_file(config.out)
    if config.agent and Path(config.agent).exists():
        raise ValueError(f"{config.agent} exists already: remove it, or name another --agent")
    settings = AS_REGISTERED.with_arguments(config.env_args)
    if config.max_steps is not None:
        settings = replace(settings, max_steps=config.max_steps)
    with StopRequest() as stop, open_environments(config.env, config.envs, settings) as environments:
        recorders = [Recorder(environment, stop) for environment in environments]
        name, (observed, acted) = full_name(config.env, environments[0]), spaces_of(environments[0])
        check_head("auto", acted)
        if step_limit(environments[0]) is None:
            notice(f"{name} has no limit of steps: --max-steps cuts off episodes that do not end by themselves")
        metadata = {"environment": name, "observation_space": observed, "action_space": acted}
        metadata["settings"] = settings_used(environments[0], settings)
        recording = Recording(target, config.settings(), metadata)
        try:
            return record(config, recorders, recording)
        except KeyboardInterrupt:  # asked to stop, or stopped at once
            raise Interrupted(f"interrupted; {keep(config, recording)}") from None


def native_file(out: str) -> Path:
    """The native file to write. Raises ValueError for no name, and for one that would be read as another format."""
    if not out:
        raise ValueError("name the file to write with --out")
    if out.startswith(MINARI):
        raise ValueError(f"out = {out!r} needs --join: record to a file first, then --join FILE --out {out}")
    if Path(out).suffix.lower() in D4RL + PICKLES:
        kind = "a file of D4RL's" if Path(out).suffix.lower() in D4RL else "a pickle"
        raise ValueError(f"out = {out!r} would be read as {kind}: give it another ending, such as .npz")
    return Path(out)


def keep(config: CollectConfig, recording: Recording) -> str:
    """Writes the episodes of an interrupted recording; what was kept, and what the same command does next."""
    if config.is_trained and not saved_agent(recording).exists():
        return f"the same command begins the training of {config.policy} anew"
    recording.flush()
    return f"{recording.steps:,} steps are kept in {recording.folder}, and the same command continues"


def record(config: CollectConfig, recorders: Sequence[Recorder], recording: Recording) -> Trajectories:
    """The requested episodes in a file, with where they come from."""
    reference = find_reference(config, recorders)
    origin: dict[str, Any] = config.settings() | {"first_seed": first_seed(config.seed)}
    agent, notes = find_agent(config, recorders, recording, reference)
    if agent:
        behaviour: Behaviour = agent.behaviour
    elif config.is_run:
        behaviour = run_behaviour(config, recorders[0])
    else:
        behaviour = find_behaviour(config.policy, recorders)
    if not config.is_replay:
        record_steps(config, behaviour, recorders[: config.envs], recording)
        if config.is_trained and config.level == "expert" and reference is None:
            reference = reference_of(random_return(config, recorders), float(recording.returns.mean()))
    origin |= notes | {"versions": versions(), "date": datetime.date.today().isoformat()}
    if agent and config.agent:
        agent.save(Path(config.agent), **origin)
    return recording.finish(None if config.is_replay else config.steps, provenance=origin, reference=reference)


def find_agent(
    config: CollectConfig, recorders: Sequence[Recorder], recording: Recording, reference: tuple[float, float] | None
) -> tuple[Agent | None, dict[str, Any]]:
    """An agent of stable-baselines3's, trained if need be, and notes on it; None if the policy is of another kind."""
    if config.is_trained:
        return trained_agent(config, recorders[:TRAINING_ENVS], recording, find_goal(config, reference))
    if config.policy.endswith(".zip"):
        return read_agent(Path(config.policy), recorders, config.statistics), {}
    if config.policy.endswith(SAVED):
        agent, notes = load_agent(Path(config.policy), recorders)
        return agent, {"agent": notes}
    return None, {}


def run_behaviour(config: CollectConfig, environment: Recorder) -> Behaviour:
    """The agent of a run folder. Raises ValueError for an environment or a target that it does not fit."""
    trained = load(config.policy)
    model, summary = trained.model, trained.summary
    if config.target_return is not None and model.config.returns != "token":
        raise ValueError("--target-return has no effect: the model takes no return to reach")
    require_spaces(environment, summary.observation_space, summary.action_space, config.policy)
    require_length(environment, model.config.longest)
    target = summary.returns[-1] if config.target_return is None else config.target_return
    return lambda seeds: ModelPolicy(model, summary.normaliser, [target] * len(seeds))


def record_steps(
    config: CollectConfig, behaviour: Behaviour, recorders: Sequence[Recorder], recording: Recording
) -> None:
    """Records episodes, numbered from `first_seed` on, until they have the steps asked for.

    All that are begun are finished, in the order of their numbers, so that short ones are not favoured.
    """
    first = first_seed(config.seed)
    with progress_bar(recording.steps, config.steps, "recording") as bar:
        while recording.steps < config.steps:
            begun = first + len(recording.returns)
            recording.add(record_episodes(recorders, behaviour, range(begun, begun + len(recorders))))
            if recording.due:
                recording.flush()
            bar.set_postfix_str(f"return {number(recording.returns[-RECENT:].mean())}", refresh=False)
            bar.update(recording.steps - bar.n)


def versions() -> dict[str, str]:
    """Versions of the packages that the data depends on."""
    installed = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def join(sources: Sequence[str], out: str) -> Trajectories:
    """Joins data sets of any kind in a native file or, as `minari:NAME`, in a Minari data set.

    Raises ValueError: one of them cannot be read, they do not fit each other, or `out` exists.
    """
    target = None if out.startswith(MINARI) else native_file(out)
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
