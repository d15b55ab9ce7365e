"""Image models: embedding -> core -> head, a few lines each."""

from torch import Tensor, nn

from core.graph import full
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
        """Logits of the classes: images (B, C, S, S), normalised -> (B, K).

        S is image_size, or any multiple of the patch where positions are continuous.
        """
        return self.head(self.pooled(images))

    def features(self, images: Tensor, read: slice = EVERY) -> Tensor:
        """Tokens after the core: (B, C, S, S) -> (B, T, D), or only the tokens in `read`."""
        x, coords = self.embed(images)
        return self.core(x, coords, full(), read=read)

    def pooled(self, images: Tensor) -> Tensor:
        """One vector for each image, which the head reads: (B, C, S, S) -> (B, D)."""
        return self.norm(self.pool(self.features(images, self.pool.read)))

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

    def forward(self, x: Tensor) -> Tensor:
        if self.attention is None:
            return x.mean(1)
        weights = self.attention(x).softmax(1)  # (B, N, 1); Hassani 2021, eq. 3
        return (weights * x).sum(1)
