"""A model acts, one step after another: with a key/value cache, but as if every window were read anew."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.decoding.window import DecodingWindow
from core.graph import causal
from core.transformer import LAST
from decision.data.summary import Normaliser
from decision.environments.spaces import Space
from decision.models.decision_transformer import DecisionTransformer

FRACTION = 1 / 4
"""Part of the context that is read again once a window is full."""
ACCEPTED = {"f": "fiub", "i": "iub", "u": "iu"}
"""Kinds of numbers accepted in an observation, by the kind that is stored, in NumPy's letters."""


class EpisodeReader:
    """Reads B episodes, in step with each other, one step after another: their tokens, and the model's cache."""

    def __init__(self, model: DecisionTransformer, rows: int):
        like, self.each = model.head.weight, model.embed.per_step
        self.model, self.context = model, model.config.context
        self.step = 0  # the step to be read next
        width = self.each * self.context - 1  # the last action of a window is never read
        self.tokens = like.new_empty(rows, width, like.shape[1])
        self.clock = torch.arange(self.context, device=like.device).repeat_interleave(self.each)
        self.cache = model.core.new_state(rows, width)
        self.window = DecodingWindow(self.cache, self.context, FRACTION)

    def read(self, action: Tensor | None, returns: Tensor, observation: Tensor) -> Tensor:
        """The head's prediction after the last action and its results: (B, P).

        action (B, ...), None at the first step; returns (B, 1), scaled; observation (B, ...), normalised.

        Raises ValueError when the episode exceeds the model's table of timesteps.
        """
        longest = self.model.config.longest
        if longest is not None and self.step >= longest:
            raise ValueError(f"the episode is longer than the {longest} steps of the model's table of timesteps")
        dropped = self.window.extend(self.step + 1)  # steps that leave the window
        begin = self.window.first
        kept = max(0, self.each * (self.step - begin) - 1)  # tokens of the window before the new ones
        end = self.each * (self.step - begin + 1) - 1
        coords = self.clock[:end] + begin
        new = self.model.embed.step(action if kept else None, returns, observation, coords[kept:])
        if dropped:
            self.tokens[:, :kept] = self.tokens[:, self.each * dropped :][:, :kept].clone()
        self.tokens[:, kept:end] = new
        read = self.cache.length
        x, coords = self.tokens[:, read:end], coords[read:].unsqueeze(-1)
        y = self.model.core(x, coords, causal(), cache=self.cache, read=LAST)  # (B, 1, D)
        self.step += 1
        return self.model.head(y[:, 0])

    def keep(self, rows: Tensor) -> None:
        """Continues with these rows only: int64 (B',)."""
        self.tokens = self.tokens[rows]
        self.cache.keep(rows)


class ModelPolicy:
    """A model acts in B episodes at once, in each of them towards its own target return.

    targets: returns to reach (B,), in the unit of the environment; ignored by a model without return tokens.
    temperature: 0 takes the most probable action; above 0 actions are drawn, at 1 as often as predicted.
    seeds: of the draws, one for each episode.

    Raises ValueError for a model in training mode, a target that is not finite, and a temperature that has no effect or
    not as many seeds as targets.
    """

    def __init__(
        self,
        model: DecisionTransformer,
        normaliser: Normaliser,
        targets: Sequence[float],
        *,
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ):
        check_acting(model, temperature)
        if temperature and len(seeds) != len(targets):
            accepted = f"one for each of {len(targets)} targets where temperature = {temperature}"
            raise ValueError(f"seeds = {seeds} must be {accepted}")
        self.model, self.normaliser, self.temperature = model, normaliser, temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds] if temperature else []
        self.device = model.head.weight.device
        wanted = [check_finite("target_return", target) for target in targets]
        self.returns_to_go = torch.tensor(wanted, dtype=torch.float64)
        self.reader = EpisodeReader(model, len(self.returns_to_go))
        _, self.space = model.config.spaces()
        self.last: Tensor | None = None  # actions of the previous step

    @torch.inference_mode()
    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...) for observations (B, ...); rewards (B,) of the previous actions, None at first.

        Raises ValueError where later rewards are missing from which the model is told the return still to come.
        """
        if rewards is None and self.last is not None and self.model.config.returns == "token":
            raise ValueError("reward = None must be a finite number, that of the previous action")
        if rewards is not None:
            self.returns_to_go -= torch.from_numpy(rewards)
        returns = self.normaliser.returns(self.returns_to_go).unsqueeze(-1)  # (B, 1)
        centred = self.normaliser.centred(torch.from_numpy(observations))
        normalised = self.normaliser.observations(centred.to(self.device))
        prediction = self.reader.read(self.last, returns.to(self.device), normalised)
        # numbers from [0, 1), (B, draws): every row from its own generator, independently of the others
        rows = [torch.rand(self.model.head.draws, generator=generator) for generator in self.generators]
        drawn = torch.stack(rows).to(self.device) if rows else None
        self.last = self.model.head.choose(prediction, self.temperature, drawn)
        return as_actions(self.last, self.space)

    def keep(self, rows: Sequence[int]) -> None:
        """Continues with these of the episodes only."""
        index = torch.tensor(rows)
        self.returns_to_go = self.returns_to_go[index]
        self.generators = [self.generators[row] for row in rows if self.generators]
        index = index.to(self.device)
        self.last = None if self.last is None else self.last[index]
        self.reader.keep(index)


class Policy:
    """A model acts in one environment, for use in your own loop.

    temperature, seed: as for `ModelPolicy`; the n-th episode draws from seed + n.
    """

    def __init__(self, model: DecisionTransformer, normaliser: Normaliser, *, temperature: float = 0.0, seed: int = 0):
        self.model, self.normaliser, self.temperature = model, normaliser, temperature
        self.seed, self.space = seed, model.config.spaces()[0]
        self._episode: ModelPolicy | None = None
        self._acted = False

    def reset(self, target_return: float | None = None) -> None:
        """Begins an episode in which `target_return` is to be reached; None for a model without return tokens.

        Raises ValueError for a target that is missing, without effect, or not a finite number.
        """
        check_target(self.model, target_return)
        target = 0.0 if target_return is None else target_return
        settings: dict[str, Any] = {"temperature": self.temperature, "seeds": [self.seed]}
        self._episode = ModelPolicy(self.model, self.normaliser, [target], **settings)
        self.seed, self._acted = self.seed + 1, False

    def act(self, observation: Any, reward: Any = None) -> Any:
        """The action for an observation, as the environment takes it; `reward` is that of the previous action.

        At the first step of an episode there is none, and a model without return tokens needs none.

        Raises ValueError before the first `reset`, for an observation of another kind, shape or range than the model
        was trained on, a reward that is missing or not finite, and an episode that exceeds the table of timesteps.
        """
        if self._episode is None:
            raise ValueError("call reset(target_return) before the first act(observation)")
        array = convert(observation, self.space)
        rewards = None if reward is None else np.array([check_finite("reward", reward)], np.float32)
        rewards, self._acted = rewards if self._acted else None, True
        return self._episode.act(array[None], rewards)[0]


def convert(observation: Any, space: Space, rows: tuple[int, ...] = ()) -> NDArray[Any]:
    """An observation, or a batch of `rows`, as the model takes it: (*rows, *shape). Raises ValueError as `Policy`."""
    try:
        array = np.asarray(observation)
    except ValueError:  # rows of several lengths
        array = np.array(None)
    stored, (low, high) = space.stored, limits_of(space)
    if array.dtype == object:
        nested = "; gymnasium.spaces.flatten(env.observation_space, observation) makes an array of a nested one"
        raise _mismatch(f"that is a {type(observation).__name__}", space, nested)
    if array.dtype.kind not in ACCEPTED[stored.kind]:
        raise _mismatch(f"of {array.dtype}", space)
    if array.shape != (*rows, *space.shape):
        raise _mismatch(f"of shape {array.shape}", space, f", of {rows[0]} environments" if rows else "")
    if array.dtype != np.uint8 or stored != np.uint8:
        inside = (array >= low) & (array <= high)  # False for NaN
        if not inside.all():
            raise _mismatch(f"with {array[~inside].flat[0]}", space)
    return array.astype(space.observed, copy=False)


def _mismatch(observation: str, space: Space, more: str = "") -> ValueError:
    return ValueError(f"an observation {observation} is not in the space that the model was trained on: {space}{more}")


def as_actions(chosen: Tensor, space: Space) -> NDArray[Any]:
    """Actions (B, ...) that a head has chosen, as the environment takes them."""
    actions = chosen.cpu().numpy()
    if space.kind == "box":  # rounded to float32, a bound of float64 may be exceeded
        actions = np.clip(actions, *space.bounds())
    return actions.astype(space.dtype, copy=False)


def limits_of(space: Space) -> tuple[NDArray[Any], NDArray[Any]]:
    """The lowest and the highest number that an observation may have: (*shape), or ()."""
    if space.kind != "box":
        start, counts = (np.array(each, np.int64).reshape(space.shape) for each in (space.start, space.counts))
        return start, start + counts - 1
    kind = np.iinfo(np.uint8) if space.stored == np.uint8 else np.finfo(np.float32)
    return np.array(kind.min, np.float64), np.array(kind.max, np.float64)


def check_acting(model: DecisionTransformer, temperature: float) -> None:
    """Raise ValueError for a model in training mode, and for a temperature that is no such number or has no effect."""
    if model.training:
        raise ValueError("a model acts in evaluation mode: call model.eval() first")
    if not 0 <= temperature < math.inf or (temperature and not model.head.draws):
        accepted = "0, or a finite number above 0 with a head that draws actions"
        raise ValueError(f"temperature = {temperature} must be {accepted}")


def check_target(model: DecisionTransformer, target: Any) -> None:
    """Raise ValueError unless a target return is given to the model exactly if it takes one."""
    if (target is None) == (model.config.returns == "token"):
        accepted = "None: the model takes no return to reach" if target is not None else "a number"
        raise ValueError(f"target_return = {target!r} must be {accepted}")


def check_finite(name: str, value: Any) -> float:
    """The value as a float. Raises ValueError unless it is a finite number, or an array that holds one."""
    try:
        one = value.item() if hasattr(value, "item") else value
        if math.isfinite(one):
            return float(one)
    except (TypeError, ValueError, RuntimeError):  # the latter two for arrays and tensors of several numbers
        pass
    raise ValueError(f"{name} = {value!r} must be a finite number")
