"""What an agent attends to along an episode: which kind of token, and how many steps ago, in every layer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.attention import record_attention
from core.files.figures import ACCENT, ALARM, INK, PALE, SOFT, blank_figure, save_figure
from decision.acting.episodes import play
from decision.acting.policy import ModelPolicy
from decision.environments.make import episode_seed, make
from decision.reports.options import ActingOptions, choose_environment, choose_settings
from decision.trained import Trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("returns", "states", "actions")
COLOURS = (ALARM, ACCENT, PALE)


class Attended(NamedTuple):
    """The shares of attention of the newest state token, means over the heads.

    kinds: of all tokens of a kind, float (S, L, kinds), in the order of KINDS, without returns where there are none
    ages:  of all tokens so many steps ago, float (S, L, K); 0 beyond the window
    """

    kinds: NDArray[np.float64]
    ages: NDArray[np.float64]


class WatchedPolicy:
    """A policy for one episode that keeps, at each step, what its state token attends to: `BatchPolicy`."""

    def __init__(self, policy: ModelPolicy):
        self.policy, self.model = policy, policy.model
        self.steps: list[Attended] = []

    def act(self, observations: NDArray[Any], rewards: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """The policy's action."""
        with record_attention(self.model) as maps:
            actions = self.policy.act(observations, rewards)
        self.steps.append(self.shares([weights[0, :, -1].mean(0) for weights in maps.values()]))
        return actions

    def keep(self, rows: Sequence[int]) -> None:
        """Continues with these of the episodes only."""
        self.policy.keep(rows)

    def shares(self, layers: Sequence[Tensor]) -> Attended:
        """L x (T,) over the tokens of the window, the newest state last, by their kinds and ages."""
        each, context = self.model.embed.per_step, self.model.config.context
        weights = np.stack([layer.double().cpu().numpy() for layer in layers])  # (L, T)
        places = np.arange(weights.shape[1])
        ages = places[-1] // each - places // each
        kinds = [weights[:, places % each == kind].sum(1) for kind in range(each)]
        return Attended(
            np.stack(kinds, axis=-1), np.stack([weights[:, ages == age].sum(1) for age in range(context)], axis=-1)
        )

    def attended(self) -> Attended:
        """All steps together."""
        return Attended(*(np.stack(parts) for parts in zip(*self.steps, strict=True)))


def watch(trained: Trained, options: ActingOptions, target: float | None) -> tuple[Attended, float]:
    """What an agent attends to along one episode, and its return. Raises what `play` and `make` raise."""
    identifier, settings = choose_environment(options, trained), choose_settings(options, trained)
    seeds, longest = [episode_seed(options.seed, 0)], trained.model.config.longest
    policy = ModelPolicy(
        trained.model, trained.summary.normaliser, [target or 0.0], temperature=options.temperature, seeds=seeds
    )
    watched = WatchedPolicy(policy)
    with closing(make(identifier, settings, max_steps=options.max_steps, longest=longest)) as environment:
        episodes = play([environment], seeds, watched)
    return watched.attended(), float(episodes.returns[0])


def draw_attended(attended: Attended, title: str, file: Path) -> None:
    """A row for each layer: the kinds of tokens, one upon the other, and the steps ago; PNG, whole or not at all."""
    layers = attended.kinds.shape[1]
    figure = blank_figure(9.0, 1.0 + 1.7 * layers)
    figure.suptitle(title, fontsize=10, color=INK, parse_math=False)
    grid = figure.subplots(layers, 2, squeeze=False, sharex=True)
    for layer, (left, right) in enumerate(grid):
        draw_kinds(left, attended.kinds[:, layer])
        draw_ages(right, attended.ages[:, layer])
        left.set_ylabel(f"layer {layer + 1}\nshare", fontsize=8, color=SOFT)
        right.set_ylabel("steps ago", fontsize=8, color=SOFT)
    for axes in grid[-1]:
        axes.set_xlabel("step of the episode", fontsize=8, color=SOFT)
    names = KINDS[-attended.kinds.shape[2] :]
    grid[0][0].legend(names, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8)
    save_figure(figure, file)


def draw_kinds(axes: Axes, kinds: NDArray[np.float64]) -> None:
    """The shares (S, kinds) of a layer over the steps, one upon the other."""
    axes.stackplot(range(len(kinds)), kinds.T, colors=COLOURS[-kinds.shape[1] :], step="post")
    axes.set(ylim=(0, 1), xlim=(0, max(1, len(kinds) - 1)))
    tidy(axes)


def draw_ages(axes: Axes, ages: NDArray[np.float64]) -> None:
    """The shares (S, K) of a layer, steps from left to right, the present at the foot."""
    from matplotlib.colors import PowerNorm

    axes.imshow(
        ages.T, cmap="cividis", norm=PowerNorm(0.5, 0, 1), aspect="auto", origin="lower", interpolation="nearest"
    )
    tidy(axes)


def tidy(axes: Axes) -> None:
    """Quiet ticks, no frame."""
    axes.tick_params(colors=SOFT, labelsize=7, length=2)
    axes.spines[:].set_visible(False)
