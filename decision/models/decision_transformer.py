"""The Decision Transformer: embedding -> core -> head."""

from torch import Tensor, nn

from core.graph import causal
from core.init import initialise
from core.transformer import Transformer
from decision.data.windows import Window
from decision.models.config import DecisionConfig
from decision.models.heads import CategoricalHead, DeterministicHead, GaussianHead, Head
from decision.models.tokens import TrajectoryTokens


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
        """The head's prediction (`decision.models.heads`) at every step of a window: (B, K, P)."""
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


def build_head(config: DecisionConfig) -> Head:
    """The head that a configuration names, or the one that suits its action space."""
    dim, (_, space) = config.core.dim, config.spaces()
    if space.kind != "box":
        return CategoricalHead(dim, space)
    if config.head == "gaussian":
        return GaussianHead(dim, space, config.entropy_weight)
    return DeterministicHead(dim, space)
