"""From a name to trajectories: files, and data sets of Minari's, which are read and written."""

import json
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.files.atomic import remove
from core.files.downloads import data_root
from core.messages import first_line
from core.training.folder import is_run_folder
from decision.data.files import D4RL, PICKLES, extra, is_plain_npz, read_d4rl, read_npz, read_pickle
from decision.data.store import Episode, Trajectories, stack
from decision.environments.settings import AS_REGISTERED, name_of_class, settings_of, specification
from decision.environments.spaces import describe, describe_actions

MINARI = "minari:"
MINARI_EXTRA = "minari[hdf5]"
ORIGIN = ("algorithm_name", "author", "description", "minari_version")
"""What a Minari data set may say about how it was made."""
SCORES = ("ref_min_score", "ref_max_score")


def read_minari(name: str) -> Trajectories:
    """The Minari data set `name`, such as `mujoco/hopper/medium-v0`, which is downloaded unless it is installed.

    Observations that are dictionaries or tuples are flattened. An episode that is neither terminated nor truncated at
    its end counts as truncated.

    Raises ValueError of one sentence: Minari is not installed, there is no such data set, its spaces are not handled,
    or what `Trajectories` raises.
    """
    minari = _minari_for(name)
    try:
        with _quiet():
            data = minari.load_dataset(name, download=True)
    except Exception as error:  # the library raises whatever its storage and the network raise
        raise ValueError(f"{MINARI}{name} cannot be loaded: {first_line(error)}") from error
    metadata, spec = data.storage.metadata, _env_spec(data)
    try:
        scores = tuple(float(metadata[key]) for key in SCORES if key in metadata)
        return stack(
            [_from_minari(data.observation_space, episode) for episode in data.iterate_episodes()],
            environment=spec.id if spec else "",
            settings=settings_of(spec) if spec else AS_REGISTERED,
            observation_space=describe(data.observation_space),
            action_space=describe_actions(data.action_space),
            provenance={"source": MINARI + name} | {key: str(metadata[key]) for key in ORIGIN if key in metadata},
            reference=scores if len(scores) == 2 else None,
        )
    except ValueError as error:
        raise ValueError(f"{MINARI}{name}: {error}") from error


def write_minari(data: Trajectories, name: str) -> None:
    """Writes a new local Minari data set, which `read_minari` reads back unchanged.

    Raises ValueError of one sentence: Minari is not installed, the name is taken or malformed, the environment is
    not registered, or the data lacks the observations in which episodes end.
    """
    minari = _minari_for(name)
    if data.final_observations is None:
        raise ValueError("a Minari data set needs the observation in which each episode ends, which this data lacks")
    metadata = _metadata(data)
    folder = minari.storage.get_dataset_path(name)
    if folder.exists():
        raise ValueError(f"{MINARI}{name} exists already, at {folder}")
    try:
        with _quiet():
            written = minari.create_dataset_from_buffers(
                name,
                [_to_minari(data, number, episode) for number, episode in enumerate(data)],
                observation_space=data.observation_space.gym(),
                action_space=data.action_space.gym(),
                algorithm_name=str(data.provenance.get("policy", "unknown")),
                description=json.dumps(dict(data.provenance)),
                jpeg_encoding=False,
            )
            written.storage.update_metadata(metadata)
    except BaseException:
        remove(folder)
        raise


def _minari_for(name: str) -> Any:
    """The library, for the data set of that name. Raises ValueError if the name has no version."""
    if not re.search(r"-v\d+$", name):
        raise ValueError(f"{MINARI}{name} has no version, as {MINARI}NAME-v0 has")
    return extra("minari", MINARI_EXTRA)


def _env_spec(data: Any) -> Any:
    """Gymnasium's specification of the environment to evaluate in, else of the recorded one, else None."""
    from gymnasium.envs.registration import EnvSpec

    stored = data.storage.metadata.get("eval_env_spec")
    if not stored:
        return data.env_spec
    accepted = {f.name for f in fields(EnvSpec) if f.init}  # older versions of Gymnasium had other fields as well
    return EnvSpec.from_json(json.dumps({name: x for name, x in json.loads(stored).items() if name in accepted}))


def _from_minari(space: Any, episode: Any) -> Episode:
    observations = _flattened(space, episode.observations, len(episode) + 1)
    terminated, truncated = bool(episode.terminations[-1]), bool(episode.truncations[-1])
    for name, flags in (("terminated", episode.terminations), ("truncated", episode.truncations)):
        for step in np.flatnonzero(flags[:-1]).tolist():
            raise ValueError(f"step {step} of episode {episode.id} is {name} but not the last")
    ends = terminated, truncated or not terminated
    return Episode(observations[:-1], episode.actions, episode.rewards, *ends, observations[-1])


def _flattened(space: Any, values: Any, count: int) -> NDArray[Any]:
    """`count` values of a space, those of dictionaries and tuples as `gymnasium.spaces.flatten` lays them out."""
    from gymnasium import spaces
    from gymnasium.vector.utils import batch_space, iterate

    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        return np.asarray(values)
    return np.stack([np.asarray(spaces.flatten(space, value)) for value in iterate(batch_space(space, count), values)])


def _to_minari(data: Trajectories, number: int, episode: Episode) -> Any:
    steps = slice(*data.offsets[number : number + 2])
    assert episode.final_observation is not None
    observations = np.concatenate([episode.observations, episode.final_observation[None]])  # (T + 1, ...)
    return extra("minari.data_collector", MINARI_EXTRA).EpisodeBuffer(
        id=number,
        observations=observations.astype(data.observation_space.dtype),
        actions=episode.actions.astype(data.action_space.dtype),
        rewards=list(episode.rewards),
        terminations=list(data.terminated[steps]),
        truncations=list(data.truncated[steps]),
        infos={},
    )


def _metadata(data: Trajectories) -> dict[str, Any]:
    """The environment and the reference scores under Minari's names."""
    metadata: dict[str, Any] = dict(zip(SCORES, data.reference, strict=True)) if data.reference else {}
    if data.environment:
        spec = specification(data.environment, data.settings)
        if spec is None:
            raise ValueError(f"environment {data.environment!r} is not registered: Minari keeps how it is made")
        spec.entry_point, limit = name_of_class(spec.entry_point), data.settings.max_steps
        spec.kwargs |= data.settings.kwargs
        spec.max_episode_steps = spec.max_episode_steps if limit is None else None if limit == -1 else limit
        metadata["env_spec"] = spec.to_json()
    return metadata


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the library's warnings are ignored, and what it prints goes to standard error."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def locate(name: str) -> str:
    """The name of a data set by which it is found from another folder as well."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.is_file() else name


ACCEPTED = f"a file that decision.collect wrote, {MINARI}NAME-vN, a .hdf5 file of D4RL's, an .npz of arrays, a .pkl"


def load_data(name: str | Path, root: Path | None = None) -> Trajectories:
    """The data set of a name, see ACCEPTED; files are looked for as a path, then under `root` (default: `data_root()`).

    Raises ValueError of one sentence: there is no such data, or it is damaged.
    """
    if str(name).startswith(MINARI):
        return read_minari(str(name).removeprefix(MINARI))
    path = Path(name).expanduser()
    path = path if path.exists() else (root or data_root()) / path
    if str(name) and path.is_dir():
        what = "a run folder, whose files are not data" if is_run_folder(path) else "a folder"
        raise ValueError(f"{path} is {what}; accepted are: {ACCEPTED}")
    if not path.is_file():
        raise ValueError(f"there is no data {str(name)!r}; accepted are: {ACCEPTED}")
    if path.suffix.lower() in D4RL:
        return read_d4rl(path)
    if path.suffix.lower() in PICKLES:
        return read_pickle(path)
    return read_npz(path) if is_plain_npz(path) else Trajectories.load(path)
