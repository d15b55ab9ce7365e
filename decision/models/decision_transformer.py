"""The Decision Transformer: embedding -> core -> head.

A head is the output map and what follows from its output: the `loss` of the actions that were taken, the action to
`choose`, and how many `draws` from [0, 1) choosing at random takes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.graph import causal
from core.init import initialise
from core.transformer import Transformer
from decision.data.windows import Window
from decision.environments.spaces import Space
from decision.models.config import DecisionConfig
from decision.models.tokens import ActionScale, TrajectoryTokens, flat

LOG_STD = (-5.0, 2.0)
"""Bounds of the logarithm of a Gaussian's standard deviation (Zheng 2022)."""
EDGE = 1 - 1e-6
"""Actions are moved this close to their bounds at most before tanh is inverted, which never reaches them."""


class DecisionTransformer(nn.Module):
    """Actions from returns-to-go, observations and earlier actions (Chen 2021, algorithm 1)."""

    def __init__(self, config: DecisionConfig):
        super().__init__()
        if config.longest == 0:
            raise ValueError("max_timestep = 0: set it to that of the data first")
        self.config = config
        self.embed = TrajectoryTokens(config)
        self.core = Transformer(config.core, extent=(config.max_timestep,))
        self.head = build_head(config)
        initialise(config.core, {self.head: "head"})

    def forward(self, window: Window) -> Tensor:
        """The head's prediction at every step of a window: (B, K, P)."""
        return self.head(self.features(window))

    def features(self, window: Window) -> Tensor:
        """The state tokens of a window after the core: (B, K, D).

        No step attends to padding, which comes last. The action of the last step is not read: nothing follows it.
        """
        x, coords = self.embed(window)
        states = slice(self.embed.per_step - 2, None, self.embed.per_step)
        return self.core(x[:, :-1], coords[:, :-1], causal(), read=states)

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.embed, *below], *blocks]

    def no_weight_decay(self) -> set[str]:
        """Parameters of two axes that are not matrices: tables of timesteps and categories."""
        tables = {name for name, module in self.named_modules() if isinstance(module, nn.Embedding)}
        return {f"{name}.weight" for name in tables}


class CategoricalHead(nn.Linear):
    """Logits of the values of every choice: (..., D) -> (..., n_1 + n_2 + ...)."""

    def __init__(self, dim: int, space: Space):
        super().__init__(dim, sum(space.counts))
        self.shape, self.counts, self.draws = space.shape, space.counts, sum(space.counts)
        self.register_buffer("start", torch.tensor(space.start), persistent=False)  # (N,)
        self.start: Tensor

    def loss(self, logits: Tensor, actions: Tensor) -> Tensor:
        """Cross-entropy in nats, summed over the choices: actions int64 (..., *shape) -> (...)."""
        taken = (flat(actions, self.shape) - self.start).unbind(-1)  # N times (...)
        each = zip(logits.float().split(self.counts, dim=-1), taken, self.counts, strict=True)
        losses = [  # at padding there may be something that is not a value
            F.cross_entropy(part.movedim(-1, 1), value.clamp(0, count - 1), reduction="none")
            for part, value, count in each
        ]
        return torch.stack(losses).sum(0)

    def choose(self, logits: Tensor, temperature: float = 0.0, drawn: Tensor | None = None) -> Tensor:
        """The most probable values, or those that the draws select (Gumbel 1954): (B, ...) -> int64 (B, *shape)."""
        if drawn is not None:
            logits = logits / temperature - (-drawn.log()).log()
        best = [part.argmax(-1) for part in logits.split(self.counts, dim=-1)]
        return (torch.stack(best, dim=-1) + self.start).reshape(-1, *self.shape)


class DeterministicHead(nn.Linear):
    """The action itself: (..., D) -> (..., A), squashed into [-1, 1] where it has bounds."""

    draws = 0

    def __init__(self, dim: int, space: Space):
        super().__init__(dim, space.size)
        self.scale = ActionScale(space)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y.tanh() if self.scale.bounded else y

    def loss(self, prediction: Tensor, actions: Tensor) -> Tensor:
        """Squared error, the mean over the axes: (..., A), actions (..., *shape) -> (...)."""
        return (prediction.float() - self.scale.unit(actions)).square().mean(-1)

    def choose(self, prediction: Tensor, temperature: float = 0.0, drawn: Tensor | None = None) -> Tensor:
        """(B, A) -> float32 (B, *shape)."""
        return self.scale.environment(prediction.float())


class GaussianHead(nn.Linear):
    """Mean and log standard deviation of a normal action: (..., D) -> (..., 2 A).

    Where actions have bounds, they are the tanh of a normal variable (Haarnoja 2018, appendix C).
    """

    def __init__(self, dim: int, space: Space, entropy_weight: float):
        super().__init__(dim, 2 * space.size)
        self.scale, self.entropy_weight, self.draws = ActionScale(space), entropy_weight, space.size

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = super().forward(x).chunk(2, dim=-1)  # 2 x (..., A)
        low, high = LOG_STD
        return torch.cat((mean, low + (high - low) / 2 * (spread.tanh() + 1)), dim=-1)

    def loss(self, prediction: Tensor, actions: Tensor) -> Tensor:
        """-log p(action) - w H in nats, summed over the axes (Zheng 2022, eq. 3-4, w fixed); H from one sample each.

        (..., 2 A), actions (..., *shape) -> (...). Densities are those of actions in [-1, 1].
        """
        mean, log_std = prediction.float().chunk(2, dim=-1)  # 2 x (..., A)
        unit = self.scale.unit(actions)
        taken = unit.clamp(-EDGE, EDGE).atanh() if self.scale.bounded else unit
        loss = self._surprise(taken, mean, log_std)
        if self.entropy_weight:
            sample = mean + log_std.exp() * torch.randn_like(mean)
            loss = loss - self.entropy_weight * self._surprise(sample, mean, log_std)
        return loss

    def choose(self, prediction: Tensor, temperature: float = 0.0, drawn: Tensor | None = None) -> Tensor:
        """The mean (through tanh), or what the draws select: (B, 2 A) -> float32 (B, *shape)."""
        y, log_std = prediction.float().chunk(2, dim=-1)  # 2 x (B, A)
        if drawn is not None:
            y = y + temperature * log_std.exp() * torch.special.ndtri(drawn.clamp(1 - EDGE, EDGE))
        return self.scale.environment(y.tanh() if self.scale.bounded else y)

    def _surprise(self, y: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """-log density of the action of y (..., A), summed over the axes: (...)."""
        surprise = ((y - mean) / log_std.exp()).square() / 2 + log_std + math.log(2 * math.pi) / 2
        if self.scale.bounded:  # log of tanh's derivative, in a form that stays finite
            surprise = surprise + 2 * (math.log(2) - y - F.softplus(-2 * y))
        return surprise.sum(-1)


Head = CategoricalHead | DeterministicHead | GaussianHead


def build_head(config: DecisionConfig) -> Head:
    """The head that a configuration names, or the one that suits its action space."""
    dim, (_, space) = config.core.dim, config.spaces()
    if space.kind != "box":
        return CategoricalHead(dim, space)
    if config.head == "gaussian":
        return GaussianHead(dim, space, config.entropy_weight)
    return DeterministicHead(dim, space)
