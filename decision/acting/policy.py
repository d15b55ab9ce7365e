"""A model acts: one step after another from keys and values already paid for, as if all were read anew.

policy = Policy(model, normaliser)
policy.reset(target_return=3600)
action = policy.act(observation)
...
action = policy.act(observation, reward)
"""

from __future__ import annotations

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
from decision.data.normaliser import Normaliser
from decision.environments.spaces import Space
from decision.models.decision_transformer import DecisionTransformer

FRACTION = 1 / 4
"""Of the context, what is read again when a window is full."""
ACCEPTED = {"f": "fiub", "i": "iub", "u": "iu"}
"""Kinds of numbers that an observation may be given as, by the kind that is stored, in NumPy's letters."""


class Line:
    """The tokens of B episodes that go on in step with each other, their keys and values."""

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
        """What the head predicts after the last action and what came of it: (B, P).

        action (B, ...), None at the first step; returns (B, 1), scaled; observation (B, ...), normalised.

        Raises ValueError when the episode goes on beyond the model's table of timesteps.
        """
        longest = self.model.config.longest
        if longest is not None and self.step >= longest:
            raise ValueError(f"the episode is longer than the {longest} steps of the model's table of timesteps")
        left = self.window.extend(self.step + 1)  # steps that leave the window
        begin = self.window.first
        held = max(0, self.each * (self.step - begin) - 1)  # tokens of the window before the new ones
        end = self.each * (self.step - begin + 1) - 1
        coords = self.clock[:end] + begin
        new = self.model.embed.step(action if held else None, returns, observation, coords[held:])
        if left:
            self.tokens[:, :held] = self.tokens[:, self.each * left :][:, :held].clone()
        self.tokens[:, held:end] = new
        known = self.cache.length
        x, coords = self.tokens[:, known:end], coords[known:].unsqueeze(-1)
        y = self.model.core(x, coords, causal(), cache=self.cache, read=LAST)  # (B, 1, D)
        self.step += 1
        return self.model.head(y[:, 0])

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only: int64 (B',)."""
        self.tokens = self.tokens[rows]
        self.cache.keep(rows)


class Actors:
    """B agents with one mind, each with an episode and a return to reach of its own.

    targets: returns to reach (B,), in the unit of the environment; of no effect on a model that is told none.
    temperature: 0 takes the most probable action; above, actions are drawn, with 1 as they were predicted.
    seeds: one for each, of what it draws.

    Raises ValueError for a model in training mode, a target that is not finite, or a temperature without effect or
    without as many seeds.
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
        if model.training:
            raise ValueError("a model acts in evaluation mode: call model.eval() first")
        if not 0 <= temperature < math.inf or (temperature and not model.head.draws):
            accepted = "0, or a finite number above 0 with a head that can draw actions"
            raise ValueError(f"temperature = {temperature} must be {accepted}")
        if temperature and len(seeds) != len(targets):
            raise ValueError(
                f"seeds = {seeds} must be one for each of {len(targets)} targets where temperature = {temperature}"
            )
        self.model, self.normaliser, self.temperature = model, normaliser, temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds] if temperature else []
        self.device = model.head.weight.device
        self.left = torch.tensor([check_target(target) for target in targets], dtype=torch.float64)  # still to reach
        self.line = Line(model, len(self.left))
        space = model.config.action_space
        assert space is not None
        self.dtype, self.bounds = np.dtype(space.dtype), space.bounds() if space.kind == "box" else None
        self.last: Tensor | None = None  # the actions taken last

    @torch.inference_mode()
    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """Actions (B, ...) on observations (B, ...); rewards (B,) are those of the actions before, None at first."""
        if rewards is not None:
            self.left -= torch.from_numpy(rewards)
        returns = self.normaliser.returns(self.left).unsqueeze(-1)  # (B, 1)
        seen = self.normaliser.observations(torch.from_numpy(observations).to(self.device))
        prediction = self.line.read(self.last, returns.to(self.device), seen)
        self.last = self.model.head.choose(prediction, self.temperature, self._draw())
        actions = self.last.cpu().numpy()
        if self.bounds is not None:  # float32's nearest to a bound of float64 may lie beyond it
            actions = np.clip(actions, *self.bounds)
        return actions.astype(self.dtype, copy=False)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the episodes only."""
        index = torch.tensor(rows)
        self.left, self.generators = self.left[index], [self.generators[row] for row in rows if self.generators]
        index = index.to(self.device)
        self.last = None if self.last is None else self.last[index]
        self.line.keep(index)

    def _draw(self) -> Tensor | None:
        """Numbers in [0, 1), (B, draws): every row from its own generator, whoever else is there."""
        if not self.generators:
            return None
        rows = [torch.rand(self.model.head.draws, generator=generator) for generator in self.generators]
        return torch.stack(rows).to(self.device)


class Policy:
    """One agent in one environment, for use in a loop of one's own.

    temperature, seed: as for `Actors`; the n-th episode draws from seed + n.
    """

    def __init__(self, model: DecisionTransformer, normaliser: Normaliser, *, temperature: float = 0.0, seed: int = 0):
        self.model, self.normaliser, self.temperature = model, normaliser, temperature
        self.seed, self.told = seed, model.config.returns == "token"
        assert model.config.observation_space is not None
        self.space = model.config.observation_space
        self._kind, self._limits = self.space.stored, limits_of(self.space)
        self._actors: Actors | None = None
        self._acted = False

    def reset(self, target_return: float | None = None) -> None:
        """Begin an episode in which `target_return` is to be reached; None for a model that is told no return.

        Raises ValueError for a target that is missing, without effect, or not a finite number.
        """
        if (target_return is None) == self.told:
            needs = "a number: the model is told" if self.told else "None: the model is not told"
            raise ValueError(f"target_return = {target_return!r} must be {needs} the return to reach")
        target = 0.0 if target_return is None else target_return
        self._actors = Actors(self.model, self.normaliser, [target], temperature=self.temperature, seeds=[self.seed])
        self.seed, self._acted = self.seed + 1, False

    def act(self, observation: Any, reward: float = 0.0) -> Any:
        """The action on an observation, as the environment takes it; `reward` is what the action before brought.

        Raises ValueError before the first `reset`, for an observation of another kind, shape or range than the model
        knows, a reward that is not a finite number, and when the episode goes on beyond the table of timesteps.
        """
        if self._actors is None:
            raise ValueError("call reset(target_return) before the first act(observation)")
        seen, brought = self._read(observation), check_number("reward", reward)
        rewards = np.array([brought], np.float32) if self._acted else None
        self._acted = True
        return self._actors.act(seen[None], rewards)[0]

    def _read(self, observation: Any) -> NDArray[Any]:
        """An observation as the model takes it: (*shape)."""
        try:
            given = np.asarray(observation)
        except ValueError:  # rows of several lengths
            given = np.array(None)
        if given.dtype.kind not in ACCEPTED[self._kind.kind]:
            kind = type(observation).__name__
            raise self._unknown(f"that is a {kind}" if given.dtype == object else f"of {given.dtype}")
        if given.shape != self.space.shape:
            raise self._unknown(f"of shape {given.shape}")
        if given.dtype != np.uint8 or self._kind != np.uint8:
            inside = (given >= self._limits[0]) & (given <= self._limits[1])  # NaN is not
            if not inside.all():
                raise self._unknown(f"with {given[~inside].flat[0]}")
        return given.astype(self._kind, copy=False)

    def _unknown(self, observation: str) -> ValueError:
        nested = "; gymnasium.spaces.flatten(env.observation_space, observation) makes one array of a nested one"
        told = f"an observation {observation} is not what the model knows: {self.space}"
        return ValueError(told + nested * observation.startswith("that is a"))


def limits_of(space: Space) -> tuple[NDArray[Any], NDArray[Any]]:
    """The least and the greatest number that an observation may hold: (*shape), or ()."""
    if space.kind != "box":
        start, counts = (np.array(each, np.int64).reshape(space.shape) for each in (space.start, space.counts))
        return start, start + counts - 1
    kind = np.iinfo(np.uint8) if space.stored == np.uint8 else np.finfo(np.float32)
    return np.array(kind.min, np.float64), np.array(kind.max, np.float64)


def check_target(target: object) -> float:
    """A return to reach. Raises ValueError unless it is a finite number."""
    return check_number("target_return", target)


def check_number(name: str, value: Any) -> float:
    """A number. Raises ValueError unless it is a finite one."""
    try:
        if math.isfinite(value):
            return float(value)
    except TypeError:
        pass
    raise ValueError(f"{name} = {value!r} must be a finite number")
