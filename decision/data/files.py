"""Trajectories in files and lists that others made: D4RL's HDF5, NumPy's .npz, pickles and lists of episodes."""

from __future__ import annotations

import importlib
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.messages import first_line, notice
from decision.data.store import HEADER, UNREADABLE, Episode, Trajectories, stack
from decision.environments.make import registered_limit
from decision.environments.settings import AS_REGISTERED
from decision.environments.spaces import Space, spanned

D4RL = (".hdf5", ".h5")
PICKLES = (".pkl", ".pickle")
D4RL_ENVIRONMENTS = {"hopper": "Hopper-v4", "halfcheetah": "HalfCheetah-v4", "walker2d": "Walker2d-v4"}
"""Gymnasium's closest versions of the environments (version 2) that D4RL recorded."""
D4RL_UNIT = (*D4RL_ENVIRONMENTS, "ant", "antmaze", "maze2d", "pen", "door", "hammer", "relocate", "kitchen")
"""Tasks of D4RL's, all of whose actions lie within [-1, 1]."""
NAMES = {
    "observations": ("observations", "obs", "observation", "states", "state"),
    "actions": ("actions", "action", "acts"),
    "rewards": ("rewards", "reward", "rews"),
    "terminals": ("terminals", "terminated", "terminations", "dones", "done"),
    "timeouts": ("timeouts", "truncated", "truncations"),
    "next_observations": ("next_observations", "next_obs", "next_states"),
    "lengths": ("lengths", "episode_lengths"),
    "episode_starts": ("episode_starts",),
}
"""What arrays are called, by our name of them."""
NEEDED = ("observations", "actions", "rewards")
ENDS = ("terminals", "timeouts", "lengths", "episode_starts")
Arrays = dict[str, NDArray[Any]]


def read_d4rl(path: Path) -> Trajectories:
    """A file of D4RL's, such as `hopper_medium-v2.hdf5`; the unfinished episode at its end is left out.

    Raises ValueError of one sentence: h5py is not installed, or the file is cut short, damaged, or lacks an array.
    """
    h5py = extra("h5py", "h5py")
    try:
        with h5py.File(path, "r") as file:
            known = {name for names in NAMES.values() for name in names}
            stored = {name: file[name][()] for name in file if name in known}
    except OSError as error:
        raise ValueError(f"{path} is cut short or damaged, or not an HDF5 file: {first_line(error)}") from error
    return _from_file(path, stored)


def read_npz(path: Path) -> Trajectories:
    """Arrays that NumPy saved: one row a step, or (episodes, steps, ...), named as in NAMES; `environment` may be one.

    Raises ValueError of one sentence: the file is damaged, holds pickles, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
    except UNREADABLE as error:
        raise ValueError(f"{path} is cut short or damaged, or holds more than arrays: {first_line(error)}") from error
    return _from_file(path, stored)


def read_pickle(path: Path) -> Trajectories:
    """A pickle of a list of episodes, as the authors of the Decision Transformer wrote them, or of one dictionary.

    Nothing in it is executed: it may hold lists, dictionaries, numbers, text and NumPy's arrays. Raises ValueError of
    one sentence for anything else, and for a file that is damaged or lacks an array.
    """
    try:
        with path.open("rb") as file:
            stored = _Unpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"{path} cannot be read: {first_line(error)}") from error
    if isinstance(stored, Mapping):
        return _from_file(path, stored)
    if not isinstance(stored, (list, tuple)):
        raise ValueError(f"{path} holds a {type(stored).__name__}, not a list of episodes")
    try:
        data = from_episodes(stored, environment=_environment(path), provenance={"source": path.name})
        return _with_d4rl_bounds(data, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def is_plain_npz(path: Path) -> bool:
    """Whether a file is an archive of NumPy's, rather than one of ours."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return HEADER not in names and any(name.endswith(".npy") for name in names)


def from_episodes(
    episodes: Sequence[Mapping[str, Any]], environment: str = "", provenance: Mapping[str, Any] | None = None
) -> Trajectories:
    """Trajectories from a list of episodes, each a mapping of arrays with a row for each step, named as in NAMES.

    observations may have one row more, the last. Without a terminal step an episode counts as truncated. Spaces are
    what the data spans: whole numbers are choices, others a box.

    Raises ValueError naming the episode for an array that is missing or of another length, and as `Trajectories` does.
    """
    parts = [_episode(episode, f"episode {number}") for number, episode in enumerate(episodes)]
    if not parts:
        raise ValueError("there is no episode")
    acted = _actions(np.concatenate([part.actions for part in parts]))
    observed = _observed_space(np.concatenate([part.observations for part in parts]))
    return stack(
        [part._replace(actions=part.actions.reshape(-1, *acted.shape[1:])) for part in parts],
        environment=environment,
        observation_space=observed,
        action_space=spanned(acted),
        provenance=dict(provenance or {}),
    )


def extra(module: str, package: str) -> Any:
    """An optional library. Raises ValueError saying what to install if it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"this needs the library {module}, which is not installed: pip install '{package}'") from error


class _Unpickler(pickle.Unpickler):
    """Makes nothing but containers and NumPy's arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """The few things by which NumPy's arrays are pickled."""
        module = module.replace("numpy.core", "numpy._core")
        if module == "numpy._core.multiarray" and name in ("_reconstruct", "scalar"):
            return getattr(importlib.import_module(module), name)
        if module == "numpy._core.numeric" and name == "_frombuffer":
            return getattr(importlib.import_module(module), name)
        plain: dict[str, Any] = {
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
            "collections.OrderedDict": OrderedDict,
        }
        plain |= {"_codecs.encode": str.encode, "builtins.bytearray": bytearray, "__builtin__.bytearray": bytearray}
        if (known := plain.get(f"{module}.{name}")) is None:
            raise pickle.UnpicklingError(f"it holds {module}.{name}; only lists, dictionaries and arrays are read")
        return known


def _from_file(path: Path, stored: Mapping[str, Any]) -> Trajectories:
    """The arrays of a file as trajectories; the unfinished episode at its end is left out."""
    try:
        arrays = _named(stored, "it")
        environment = _environment(path)
        for name in ("environment", "env_id", "env"):
            environment = str(np.asarray(stored[name]).reshape(-1)[0]) if name in stored else environment
        data = _split(arrays, environment, path.name)
        return _with_d4rl_bounds(data, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _split(arrays: Arrays, environment: str, source: str) -> Trajectories:
    """Arrays as episodes."""
    arrays = _flattened(arrays)
    if not any(name in arrays for name in ENDS):
        raise ValueError(f"it has no array that says where episodes end: one of {', '.join(ENDS)}")
    steps = len(arrays["rewards"])
    terminated = arrays.get("terminals", np.zeros(steps)).astype(bool).reshape(-1)
    ends = _ends(arrays, terminated, registered_limit(environment, AS_REGISTERED) if environment else 0)
    stops = np.flatnonzero(ends) + 1
    if not len(stops):
        raise ValueError("it has no finished episode: no step is marked as an end")
    if left := steps - int(stops[-1]):
        notice(f"{source}: the unfinished episode of {left:,} steps at its end is left out")
    whole = {name: x[: stops[-1]] for name, x in arrays.items() if len(x) == steps}
    following = whole.get("next_observations")
    observations, actions = whole.get("observations", arrays["observations"]), whole.get("actions", arrays["actions"])
    acted = _actions(actions)
    return Trajectories(
        observations=observations.reshape(len(observations), *_shape(observations)),
        actions=acted,
        rewards=whole["rewards"],
        terminated=terminated[: stops[-1]],
        truncated=(ends & ~terminated)[: stops[-1]],
        offsets=np.concatenate([[0], stops]),
        environment=environment,
        observation_space=_observed_space(observations),
        action_space=spanned(acted),
        final_observations=None if following is None else following[stops - 1].reshape(-1, *_shape(observations)),
        provenance={"source": source, "left_out_steps": left},
    )


def _flattened(arrays: Arrays) -> Arrays:
    """Arrays (E, T, ...) as (N, ...), without the rows after `lengths` or after a terminal step; rewards as (N,)."""
    shape = arrays["rewards"].shape[:2]
    if len(shape) == 2 and shape[1] > 1:
        last = arrays["terminals"].reshape(shape).astype(bool) if "terminals" in arrays else np.zeros(shape, bool)
        last[:, -1] = True
        lengths = arrays.get("lengths", last.argmax(axis=1) + 1)  # (E,)
        valid = np.arange(shape[1]) < lengths.reshape(-1, 1)  # (E, T)
        arrays = {name: x[valid] if x.shape[:2] == shape else x for name, x in arrays.items()} | {"lengths": lengths}
    return arrays | {"rewards": arrays["rewards"].reshape(-1)}


def _ends(arrays: Arrays, terminated: NDArray[np.bool_], limit: int) -> NDArray[np.bool_]:
    """Which steps end an episode; limit: steps after which the environment cuts episodes off, 0 if unknown.

    Where only terminal steps are marked, an episode ends as well where the next observation is another than the one
    that follows, and at the limit.
    """
    ends = terminated.copy()
    if "lengths" in arrays or "episode_starts" in arrays:
        begun = np.append(np.flatnonzero(arrays["episode_starts"]), len(ends)) if "episode_starts" in arrays else None
        stops = np.cumsum(arrays["lengths"]) if begun is None else begun
        if stops[-1] > len(ends):
            raise ValueError(f"lengths sum up to {stops[-1]:,}, there are {len(ends):,} steps")
        ends[stops[stops > 0] - 1] = True
        return ends
    if "timeouts" in arrays:
        return ends | arrays["timeouts"].astype(bool).reshape(-1)
    if "next_observations" in arrays:
        jumps = (arrays["next_observations"][:-1] != arrays["observations"][1:]).reshape(len(ends) - 1, -1).any(axis=1)
        if jumps.mean() < 1 / 2:  # else the arrays are not of one recording
            ends[:-1] |= jumps
    if limit:
        starts = np.concatenate([[0], np.flatnonzero(ends) + 1])
        for start, stop in zip(starts, [*starts[1:], len(ends)], strict=True):
            ends[start + limit - 1 : stop : limit] = True
    return ends


def _named(stored: Mapping[str, Any], what: str) -> Arrays:
    """The arrays that are known, by our names. Raises ValueError for one that is missing or not of numbers."""
    found: Arrays = {}
    for ours, names in NAMES.items():
        for name in names:
            if name in stored and ours not in found:
                found[ours] = np.asarray(stored[name])
                if found[ours].dtype.kind not in "fiub":
                    raise ValueError(f"{name} of {what} is not an array of numbers, but of {found[ours].dtype}")
    for name in NEEDED:
        if name not in found:
            others = ", ".join(map(str, stored)) or "nothing"
            raise ValueError(f"{what} has no {name!r} (or {', '.join(NAMES[name][1:])}), but {others}")
    return found


def _episode(stored: Mapping[str, Any], what: str) -> Episode:
    """One episode of a list."""
    if not isinstance(stored, Mapping):
        raise ValueError(f"{what} is a {type(stored).__name__}, not a dictionary of arrays")
    arrays = _named(stored, what)
    rewards, observations, final = arrays["rewards"].reshape(-1), arrays["observations"], None
    steps = len(rewards)
    if len(observations) == steps + 1:
        observations, final = observations[:-1], observations[-1]
    elif "next_observations" in arrays and len(arrays["next_observations"]):
        final = arrays["next_observations"][-1]
    for name, array in (("observations", observations), ("actions", arrays["actions"])):
        if len(array) != steps:
            raise ValueError(f"{name} of {what} have {len(array)} rows, its rewards {steps}")
    flags = arrays.get("terminals", np.zeros(1)).astype(bool).reshape(-1)
    if len(flags) > 1 and flags[:-1].any():
        raise ValueError(f"step {int(np.argmax(flags))} of {what} is terminal but not the last")
    terminated = bool(flags[-1:].any())
    shape = _shape(observations)
    final = None if final is None else np.asarray(final).reshape(shape)
    return Episode(observations.reshape(steps, *shape), arrays["actions"], rewards, terminated, not terminated, final)


def _shape(observations: NDArray[Any]) -> tuple[int, ...]:
    """Of one observation: choices are single numbers, and numbers have an axis."""
    shape = observations.shape[1:]
    if observations.dtype.kind == "f":
        return shape or (1,)
    return () if shape == (1,) and observations.dtype != np.uint8 else shape


def _actions(actions: NDArray[Any]) -> NDArray[Any]:
    """Actions as (N, ...), where choices are single numbers and numbers have an axis."""
    return actions.reshape(len(actions), *_shape(actions))


def _observed_space(observations: NDArray[Any]) -> Space:
    """What observations (N, ...) are."""
    shape, kind = _shape(observations), observations.dtype
    if kind == np.uint8 and shape:
        return Space("box", shape, "uint8", (0.0,), (255.0,), extent="data")
    if kind.kind != "f" and not shape:
        return spanned(observations.reshape(-1))
    name = "int64" if kind.kind != "f" else "float64" if kind == np.float64 else "float32"
    return Space("box", shape, name, (None,), (None,), extent="data")


def _environment(path: Path) -> str:
    """The environment of a file that is named as D4RL's are; "" for another."""
    return D4RL_ENVIRONMENTS.get(_family(path), "")


def _family(path: Path) -> str:
    return re.split("[-_]", path.stem.lower())[0]


def _with_d4rl_bounds(data: Trajectories, path: Path) -> Trajectories:
    """Actions within [-1, 1], where that is so for the tasks of a file's name."""
    space = data.action_space
    if _family(path) not in D4RL_UNIT or space.kind != "box" or (np.abs(data.actions) > 1).any():
        return data
    return replace(data, action_space=replace(space, low=(-1.0,), high=(1.0,), extent="declared"))
