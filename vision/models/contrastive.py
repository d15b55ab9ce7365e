"""Images and captions in one space, in which those that belong together are near each other (CLIP, Radford 2021)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.checks import check_at_least, check_positive
from core.config import TransformerConfig
from core.graph import full
from core.init import initialise
from core.transformer import Transformer
from vision.models.captions import CaptionEncoder, encoder_core
from vision.models.tokens import PatchEmbedding, grid


@dataclass(frozen=True)
class ContrastiveConfig:
    """The shape of two encoders, of images and of captions."""

    image_size: int = 16
    """Side of the (square) images, in pixels; images of another size are resized to it."""
    channels: int = 0
    """Colour channels: 3, or 1 for grey; 0 = what the data has."""
    words: int = 0
    """Number of words; 0 = what the training captions have."""
    caption_length: int = 8
    """The most words of a caption."""
    caption_depth: int = 2
    """Blocks of the encoder of captions."""
    patch: int = 4
    """Side of a patch, in pixels."""
    width: int = 128
    """Axes of the space."""
    core: TransformerConfig = field(default_factory=TransformerConfig)
    """The shape of the blocks that read images; those that read captions are as wide."""

    def __post_init__(self) -> None:
        check_positive(self, "image_size", "caption_length", "caption_depth", "patch", "width")
        check_at_least(self, 0, "channels", "words")
        if self.image_size % self.patch:
            raise ValueError(f"patch = {self.patch} must divide image_size = {self.image_size}")

    @property
    def side(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch


class Contrastive(nn.Module):
    """Unit vectors of images and of captions."""

    def __init__(self, config: ContrastiveConfig):
        super().__init__()
        for name in ("channels", "words"):
            if not getattr(config, name):
                raise ValueError(f"{name} = 0: set it to the data's before building the model")
        self.config, dim = config, config.core.dim
        self.patches = PatchEmbedding(config.channels, config.patch, dim)
        self.core = Transformer(config.core, (config.side, config.side))
        self.captions = CaptionEncoder(
            config.words, config.caption_length, encoder_core(config.core, config.caption_depth)
        )
        self.image_head, self.caption_head = nn.Linear(dim, config.width), nn.Linear(dim, config.width)
        heads = (self.patches.project, self.image_head, self.caption_head)
        initialise(config.core, dict.fromkeys(heads, "unit-scale"))

    def forward(self, images: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of images (B, C, S, S) and of captions, int64 (B, L): 2 x (B, W), float32."""
        return self.see(images), self.read(words)

    def see(self, images: Tensor) -> Tensor:
        """Unit vectors of images: (B, C, S, S) -> (B, W), float32."""
        return F.normalize(self.image_head(self.pooled(images)).float(), dim=-1)

    def read(self, words: Tensor) -> Tensor:
        """Unit vectors of captions, the numbers of their words: int64 (B, L) -> (B, W), float32."""
        return F.normalize(self.caption_head(self.captions(words).condition).float(), dim=-1)

    def pooled(self, images: Tensor) -> Tensor:
        """The mean of an image's tokens after the core, which the head reads: (B, C, S, S) -> (B, D)."""
        coords = grid(self.config.side, device=images.device)
        return self.core(self.patches(images), coords, full()).mean(1)

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`): the blocks of captions, then those of images."""
        words, *encoder = self.captions.layered_modules()
        below, *blocks = self.core.layered_modules()
        return [[self.patches, *words, *below], *encoder, *blocks]

    def no_weight_decay(self) -> set[str]:
        """Parameters of two axes that are not matrices: embeddings of words and of positions."""
        own = {f"captions.{name}" for name in self.captions.no_weight_decay()}
        return own | {f"core.position.{name}" for name, _ in self.core.position.named_parameters()}


class ContrastiveLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one.

    group: successive images that are compared with one another's captions. temperature: what cosines are divided by
    """

    def __init__(self, model: nn.Module, group: int, temperature: float):
        super().__init__()
        self.model, self.group, self.temperature = model, group, temperature

    def forward(self, images: Tensor, words: Tensor) -> Tensor:
        """Cross-entropy of the right caption of each image in its group, and of the right image of each caption, in
        nats, the mean of both, summed over the images: (B, C, S, S), int64 (B, L) -> () float32.

        Captions of equal words are right for one another's images: neither counts as wrong.
        """
        seen, read = (each.unflatten(0, (-1, self.group)) for each in self.model(images, words))  # 2 x (G, n, W)
        scores = seen @ read.mT / self.temperature  # (G, n, n)
        rows = words.unflatten(0, (-1, self.group))  # (G, n, L)
        same = (rows.unsqueeze(1) == rows.unsqueeze(2)).all(-1)  # (G, n, n)
        own = torch.eye(self.group, dtype=torch.bool, device=words.device)
        scores = scores.masked_fill(same & ~own, -torch.inf)
        truth = torch.arange(self.group, device=words.device).repeat(len(scores))
        losses = [F.cross_entropy(each.flatten(0, 1), truth, reduction="sum") for each in (scores, scores.mT)]
        return (losses[0] + losses[1]) / 2
