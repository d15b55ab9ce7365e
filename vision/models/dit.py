"""A Transformer that draws: noisy patches in, their velocity out (Peebles & Xie 2023, DiT)."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from core.attention import StackedLinear
from core.checks import check_at_least, check_choices, check_positive, refuse_unused
from core.config import TransformerConfig
from core.graph import full
from core.init import Initials, initialise
from core.positions import Sinusoidal
from core.transformer import EVERY, Transformer
from vision.models.captions import CaptionEncoder, Told, encoder_core
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
    told: Literal["class", "caption"] = "class"
    """What is told of an image: its class, or a caption, whose words the blocks attend to as well."""
    words: int = 0
    """caption: number of words; 0 = what the training captions have."""
    caption_length: int = 8
    """caption: the most words of one."""
    caption_depth: int = 2
    """caption: blocks of the encoder that reads it."""
    core: TransformerConfig = field(default_factory=lambda: TransformerConfig(modulation="adaln"))
    """The shape of the blocks."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "image_size", "patch", "caption_length", "caption_depth")
        check_at_least(self, 0, "channels", "classes", "words")
        refuse_unused(self)
        if self.image_size % self.patch:
            raise ValueError(f"patch = {self.patch} must divide image_size = {self.image_size}")
        if self.core.modulation != "adaln":
            raise ValueError(
                f"core.modulation = {self.core.modulation!r} must be 'adaln': by it a model knows the time"
            )
        if self.core.dim % 2:
            raise ValueError(f"core.dim = {self.core.dim} must be even")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        names = ("words", "caption_length", "caption_depth") if self.told == "class" else ()
        return dict.fromkeys(names, "told = 'class' has no captions")

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
    """Velocities of noisy images, at a time each, and told its class or caption each.

    Class K, or a caption without words, stands for nothing in particular.
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        captioned = config.told == "caption"
        for name in ("channels", "words" if captioned else "classes"):
            if not getattr(config, name):
                raise ValueError(f"{name} = 0: set it to the data's before building the model")
        self.config, dim = config, config.core.dim
        self.patches = PatchEmbedding(config.channels, config.patch, dim)
        self.time = TimeEmbedding(dim)
        self.classes = None if captioned else nn.Embedding(config.classes + 1, dim)
        self.captions = None
        if captioned:
            encoder = encoder_core(config.core, config.caption_depth)
            self.captions = CaptionEncoder(config.words, config.caption_length, encoder)
        self.core = Transformer(config.core, (config.side, config.side), role="cross" if captioned else "self")
        self.modulation = StackedLinear(dim, {"shift": dim, "scale": dim}, bias=True)
        self.head = nn.Linear(dim, config.channels * config.patch**2)
        embedded: Initials = {} if self.classes is None else {self.classes: "embedding"}
        initialise(config.core, {self.patches.project: "unit-scale", **embedded, self.head: "head"})
        for zero in (self.modulation, self.head):  # at first every velocity is 0
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def forward(self, images: Tensor, times: Tensor, told: Tensor) -> Tensor:
        """Velocities (B, C, S, S) of images (B, C, S, S) at times (B,) in 0..1.

        told: classes, int64 (B,) in 0..K, or the numbers of words, int64 (B, L), 0 being none
        """
        return self.join(self.head(self.features(images, times, told)))

    def features(self, images: Tensor, times: Tensor, told: Tensor, read: slice = EVERY) -> Tensor:
        """Tokens after the core, shifted and scaled by time and what is told: (B, N, D), or only those in `read`."""
        asked = self.tell(told)
        condition = self.time(times) + asked.condition  # (B, D)
        x = self.core(
            self.patches(images),
            self.coords(images.device),
            full(),
            condition=condition,
            memory=asked.memory,
            memory_graph=asked.memory_graph,
            read=read,
        )
        shift, scale = self.modulation(F.silu(condition)).unsqueeze(1).chunk(2, dim=-1)  # 2 x (B, 1, D)
        return x * (1 + scale) + shift

    def tell(self, told: Tensor) -> Told:
        """Classes (B,) or words (B, L) as what conditions the blocks."""
        if self.captions is not None:
            return self.captions(told)
        assert self.classes is not None
        return Told(self.classes(told))

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
        own, *encoder = [[self.classes]] if self.captions is None else self.captions.layered_modules()
        return [[self.patches, self.time, *own, *below], *encoder, *blocks]

    def no_weight_decay(self) -> set[str]:
        """Parameters of two axes that are not matrices: embeddings of classes, of words and of positions."""
        own = (
            {"classes.weight"} if self.captions is None else {f"captions.{n}" for n in self.captions.no_weight_decay()}
        )
        return {f"core.position.{name}" for name, _ in self.core.position.named_parameters()} | own
