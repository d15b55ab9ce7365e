"""From a name or a file to trajectories: our own, Minari's (read and written), and D4RL's HDF5 files."""

import importlib
import json
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.files.atomic import remove
from core.files.downloads import data_root
from core.messages import first_line
from decision.data.store import Episode, Trajectories, stack
from decision.environments.spaces import Space, describe, describe_actions

MINARI = "minari:"
MINARI_EXTRA = "minari[hdf5]"
ORIGIN = ("algorithm_name", "author", "description", "minari_version")
"""What a Minari data set may say about how it was made."""
SCORES = ("ref_min_score", "ref_max_score")
D4RL = (".hdf5", ".h5")
D4RL_ENVIRONMENTS = {"hopper": "Hopper-v4", "halfcheetah": "HalfCheetah-v4", "walker2d": "Walker2d-v4"}
"""Gymnasium's closest versions of the environments (version 2) that D4RL recorded."""
D4RL_ARRAYS = ("observations", "actions", "rewards", "terminals", "timeouts")


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
    metadata = data.storage.metadata
    try:
        scores = tuple(float(metadata[key]) for key in SCORES if key in metadata)
        return stack(
            [_from_minari(data.observation_space, episode) for episode in data.iterate_episodes()],
            environment=data.env_spec.id if data.env_spec else "",
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


def read_d4rl(path: Path) -> Trajectories:
    """A file of D4RL's, such as `hopper_medium-v2.hdf5`; the unfinished episode at its end is left out.

    The environment follows from the file's name where it is one of D4RL_ENVIRONMENTS, else it is unknown. Actions are
    taken to lie within [-1, 1], as all of D4RL's do.

    Raises ValueError of one sentence: h5py is not installed, or the file is cut short, damaged, or lacks an array.
    """
    arrays = _d4rl_arrays(path)
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"]) + 1
    if not len(ends):
        raise ValueError(f"{path} has no finished episode")
    whole = {name: array[: ends[-1]] for name, array in arrays.items()}
    following = whole.get("next_observations")
    observed, acted = whole["observations"].shape[1:], whole["actions"].shape[1:]
    try:
        return Trajectories(
            observations=whole["observations"],
            actions=whole["actions"],
            rewards=whole["rewards"],
            terminated=whole["terminals"],
            truncated=whole["timeouts"],
            offsets=np.concatenate([[0], ends]),
            environment=D4RL_ENVIRONMENTS.get(re.split("[-_]", path.stem.lower())[0], ""),
            observation_space=Space("box", observed, "float32", low=(None,), high=(None,)),
            action_space=Space("box", acted, "float32", low=(-1.0,), high=(1.0,)),
            final_observations=None if following is None else following[ends - 1],
            provenance={"source": path.name, "left_out_steps": len(arrays["rewards"]) - int(ends[-1])},
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def extra(module: str, package: str) -> Any:
    """An optional library. Raises ValueError saying what to install if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"this needs the library {module}, which is not installed: pip install '{package}'") from error


def _minari_for(name: str) -> Any:
    """The library, for the data set of that name. Raises ValueError if the name has no version."""
    if not re.search(r"-v\d+$", name):
        raise ValueError(f"{MINARI}{name} has no version, as {MINARI}NAME-v0 has")
    return extra("minari", MINARI_EXTRA)


def _d4rl_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a D4RL file, those of one number a step as (N,)."""
    h5py = extra("h5py", "h5py")
    try:
        with h5py.File(path, "r") as file:
            if missing := [name for name in D4RL_ARRAYS if name not in file]:
                raise ValueError(f"{path} has no array {missing[0]!r}, which D4RL's files of version 2 have")
            arrays = {name: file[name][()] for name in (*D4RL_ARRAYS, "next_observations") if name in file}
    except OSError as error:
        raise ValueError(f"{path} is cut short or damaged, or not an HDF5 file: {first_line(error)}") from error
    flags = {name: arrays[name].astype(bool).reshape(-1) for name in ("terminals", "timeouts")}
    return arrays | flags | {"rewards": arrays["rewards"].reshape(-1)}


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
    import gymnasium

    metadata: dict[str, Any] = dict(zip(SCORES, data.reference, strict=True)) if data.reference else {}
    if data.environment:
        try:
            metadata["env_spec"] = gymnasium.spec(data.environment).to_json()
        except (gymnasium.error.Error, ImportError) as error:
            raise ValueError(f"environment {data.environment!r} is not registered: {first_line(error)}") from error
    return metadata


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the library's warnings are ignored, and what it prints goes to standard error."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


ACCEPTED = f"a file that decision.collect wrote, {MINARI}NAME-vN, or a .hdf5 file of D4RL's"


def load_data(name: str | Path, root: Path | None = None) -> Trajectories:
    """The data set of a name, see ACCEPTED; files are looked for as a path, then under `root` (default: `data_root()`).

    Raises ValueError of one sentence: there is no such data, or it is damaged.
    """
    if str(name).startswith(MINARI):
        return read_minari(str(name).removeprefix(MINARI))
    path = Path(name).expanduser()
    path = path if path.exists() else (root or data_root()) / path
    if str(name) and path.is_dir():
        raise ValueError(f"{path} is a folder; accepted are: {ACCEPTED}")
    if not path.is_file():
        raise ValueError(f"there is no data {str(name)!r}; accepted are: {ACCEPTED}")
    return read_d4rl(path) if path.suffix.lower() in D4RL else Trajectories.load(path)
