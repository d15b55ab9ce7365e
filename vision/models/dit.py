"""A Transformer that draws: noisy patches in, their velocity out (Peebles & Xie 2023, DiT)."""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.attention import StackedLinear
from core.checks import check_at_least, check_positive
from core.config import TransformerConfig
from core.graph import full
from core.init import initialise
from core.positions import Sinusoidal
from core.transformer import EVERY, Transformer
from vision.models.tokens import PatchEmbedding, grid

TURNS = 1000.0
"""What times in 0..1 are multiplied by before their sines and cosines are taken, as in the paper's 1,000 steps."""


@dataclass(frozen=True)
class DiTConfig:
    """The shape of a Diffusion Transformer."""

    image_size: int = 32
    """Side of the (square) images, in pixels; images of another size are resized to it."""
    channels: int = 0
    """Colour channels: 3, or 1 for grey; 0 = what the data has."""
    classes: int = 0
    """Number of classes; 0 = what the data has."""
    patch: int = 4
    """Side of a patch, in pixels."""
    core: TransformerConfig = field(default_factory=lambda: TransformerConfig(modulation="adaln"))
    """The shape of the blocks."""

    def __post_init__(self) -> None:
        check_positive(self, "image_size", "patch")
        check_at_least(self, 0, "channels", "classes")
        if self.image_size % self.patch:
            raise ValueError(f"patch = {self.patch} must divide image_size = {self.image_size}")
        if self.core.modulation != "adaln":
            raise ValueError(
                f"core.modulation = {self.core.modulation!r} must be 'adaln': by it a model knows the time"
            )
        if self.core.dim % 2:
            raise ValueError(f"core.dim = {self.core.dim} must be even")

    @property
    def side(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch


class TimeEmbedding(nn.Module):
    """Times in 0..1 as vectors: (B,) -> (B, D). Sines and cosines, then two maps (Peebles & Xie 2023, section 3.2)."""

    def __init__(self, dim: int):
        super().__init__()
        self.waves = Sinusoidal(dim, axes=1, base=10_000.0)
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, times: Tensor) -> Tensor:
        waves = self.waves.embed(TURNS * times.float().unsqueeze(-1))  # (B, D)
        return self.second(F.silu(self.first(waves)))


class DiT(nn.Module):
    """Velocities of noisy images, at a time each, of a class each; class K stands for none in particular."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        for name in ("channels", "classes"):
            if not getattr(config, name):
                raise ValueError(f"{name} = 0: set it to the data's before building the model")
        self.config, dim = config, config.core.dim
        self.patches = PatchEmbedding(config.channels, config.patch, dim)
        self.time = TimeEmbedding(dim)
        self.classes = nn.Embedding(config.classes + 1, dim)
        self.core = Transformer(config.core, (config.side, config.side))
        self.modulation = StackedLinear(dim, {"shift": dim, "scale": dim}, bias=True)
        self.head = nn.Linear(dim, config.channels * config.patch**2)
        initialise(config.core, {self.patches.project: "unit-scale", self.classes: "embedding", self.head: "head"})
        for zero in (self.modulation, self.head):  # at first every velocity is 0
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def forward(self, images: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """Velocities (B, C, S, S) of images (B, C, S, S) at times (B,) in 0..1; labels: int64 (B,) in 0..K."""
        return self.join(self.head(self.features(images, times, labels)))

    def features(self, images: Tensor, times: Tensor, labels: Tensor, read: slice = EVERY) -> Tensor:
        """Tokens after the core, shifted and scaled by time and class: (B, N, D), or only those in `read`."""
        condition = self.time(times) + self.classes(labels)  # (B, D)
        x = self.core(self.patches(images), self.coords(images.device), full(), condition=condition, read=read)
        shift, scale = self.modulation(F.silu(condition)).unsqueeze(1).chunk(2, dim=-1)  # 2 x (B, 1, D)
        return x * (1 + scale) + shift

    def coords(self, device: torch.device | None = None) -> Tensor:
        """(row, column) of every patch: (N, 2), int64."""
        return grid(self.config.side, device=device)

    def join(self, patches: Tensor) -> Tensor:
        """Patches as images: (B, N, C patch patch) -> (B, C, S, S)."""
        c = self.config
        return rearrange(patches, "b (h w) (c p q) -> b c (h p) (w q)", h=c.side, p=c.patch, q=c.patch)

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.patches, self.time, self.classes, *below], *blocks]

    def no_weight_decay(self) -> set[str]:
        """Parameters of two axes that are not matrices: embeddings of classes and of positions."""
        return {f"core.position.{name}" for name, _ in self.core.position.named_parameters()} | {"classes.weight"}
