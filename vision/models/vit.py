"""Image models: embedding -> core -> head, a few lines each."""

import torch
from torch import Tensor, nn

from core.graph import arbitrary, full
from core.init import initialise
from core.transformer import EVERY, Transformer
from vision.models.config import ViTConfig
from vision.models.tokens import ImageTokens


class ViT(nn.Module):
    """A Vision Transformer (Dosovitskiy 2021), or a Compact Convolutional one (Hassani 2021) by its tokens."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        for name in ("channels", "classes"):
            if not getattr(config, name):
                raise ValueError(f"{name} = 0: set it to the data's before building the model")
        self.config = config
        self.embed = ImageTokens(config)
        self.core = Transformer(config.core, self.embed.extent)
        self.norm: nn.Module = nn.Identity()
        if config.final_norm == "pooled":
            self.norm, self.core.norm = self.core.norm, nn.Identity()
        self.pool = Pool(config)
        self.head = nn.Linear(config.core.dim, config.classes)
        initialise(config.core, {self.head: "head", **self.embed.initials()})

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes: images (B, C, H, W), normalised -> (B, K).

        H x W is image_size, or any multiples of the patch's sides where positions are continuous, or of any width where
        columns may be padding.
        """
        return self.head(self.pooled(images))

    def features(self, images: Tensor, read: slice = EVERY) -> Tensor:
        """Tokens after the core: (B, C, H, W) -> (B, T, D), or only the tokens in `read`."""
        return self._tokens(*self.embed.cut(images), read)

    def pooled(self, images: Tensor) -> Tensor:
        """One vector for each image, which the head reads: (B, C, H, W) -> (B, D)."""
        images, real = self.embed.cut(images)
        tokens = self._tokens(images, real, self.pool.read)
        return self.norm(self.pool(tokens, None if real is None else real[:, self.pool.read]))

    def _tokens(self, images: Tensor, real: Tensor | None, read: slice) -> Tensor:
        """Tokens after the core, none of which attends to padding; real: bool (B, T), those that are none."""
        x, coords = self.embed(images)
        graph = full() if real is None else arbitrary(real[:, None].expand(-1, x.shape[1], -1))  # (B, T, T)
        return self.core(x, coords, graph, read=read)

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.embed, *below], *blocks]

    def no_weight_decay(self) -> set[str]:
        """Parameters of two axes that are not matrices: learned tokens, and tables of positions."""
        tables = {f"core.position.{name}" for name, _ in self.core.position.named_parameters()}
        return tables | ({"embed.learned"} if self.embed.learned is not None else set())


class Pool(nn.Module):
    """One vector for an image, from those of its tokens that it reads: (B, N, D) -> (B, D)."""

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.read = slice(0, 1) if config.pool == "class" else slice(config.learned_tokens, None)
        self.attention = nn.Linear(config.core.dim, 1) if config.pool == "attention" else None

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """real: bool (B, N), tokens that are no padding; None = all."""
        if self.attention is None and real is None:
            return x.mean(1)
        scores = x.new_zeros(*x.shape[:2], 1) if self.attention is None else self.attention(x)  # (B, N, 1)
        if real is not None:
            scores = scores.masked_fill(~real[..., None], -torch.inf)
        weights = scores.softmax(1)  # (B, N, 1); Hassani 2021, eq. 3
        return (weights * x).sum(1)
