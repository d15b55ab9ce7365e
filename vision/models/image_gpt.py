"""Images one token after another, in reading order, by a decoder (Chen 2020, Image GPT; Ramesh 2021, DALL-E)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from core.checks import check_at_least, check_positive
from core.config import PositionConfig, TransformerConfig
from core.decoding.cache import Cache
from core.graph import causal
from core.init import initialise
from core.transformer import EVERY, LAST, Transformer
from core.vocabulary import VocabularyHead


@dataclass(frozen=True)
class ImageGPTConfig:
    """The shape of a decoder of image tokens, each of which stands for a patch."""

    image_size: int = 16
    """Side of the (square) images, in pixels; images of another size are resized to it."""
    channels: int = 0
    """Colour channels: 3, or 1 for grey; 0 = what the data has."""
    patch: int = 1
    """Side of the patch that a token stands for, in pixels; 1 = a token is a colour of a palette."""
    codes: int = 256
    """Different image tokens; fewer where the training images have fewer different patches."""
    prompt_codes: int = 0
    """Different tokens of prompts; 0 = what the data has."""
    prompt_length: int = 0
    """Tokens of a prompt, before those of the image; 0 = what the data has."""
    core: TransformerConfig = field(default_factory=lambda: TransformerConfig(position=PositionConfig("learned")))
    """The shape of the blocks."""

    def __post_init__(self) -> None:
        check_positive(self, "image_size", "patch")
        check_at_least(self, 0, "channels", "prompt_codes", "prompt_length")
        check_at_least(self, 2, "codes")
        if self.image_size % self.patch:
            raise ValueError(f"patch = {self.patch} must divide image_size = {self.image_size}")

    @property
    def side(self) -> int:
        """Tokens along a side."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return self.side**2


class ImageGPT(nn.Module):
    """The next token of an image, from those before it and a prompt: a class, or the words of a caption.

    Ids 0 to K - 1 are image tokens, those from K on are tokens of prompts. A prompt lies in the row above the image:
    coordinates are (0, place) for its tokens, (1 + row, column) for the image's.
    """

    def __init__(self, config: ImageGPTConfig):
        super().__init__()
        for name in ("channels", "prompt_codes", "prompt_length"):
            if not getattr(config, name):
                raise ValueError(f"{name} = 0: set it to the data's before building the model")
        self.config, dim = config, config.core.dim
        self.embed = nn.Embedding(config.codes + config.prompt_codes, dim)
        self.core = Transformer(config.core, (1 + config.side, max(config.side, config.prompt_length)))
        self.head = VocabularyHead(dim, config.codes)
        initialise(config.core, {self.embed: "embedding", self.head: "head"})

    def forward(self, prompts: Tensor, codes: Tensor) -> Tensor:
        """Logits of every image token, from all before it: int64 (B, P) and (B, N) -> (B, N, K)."""
        return self.head(self.features(prompts, codes))

    def features(self, prompts: Tensor, codes: Tensor, read: slice = EVERY) -> Tensor:
        """Tokens after the core from which each image token is told: (B, N, D), or only those in `read`."""
        ids = torch.cat([self.prompt_ids(prompts), codes[:, :-1]], dim=1)  # (B, P + N - 1)
        first = prompts.shape[1] - 1
        return self._core(ids, read=slice(first, None))[:, read]

    def prompt_ids(self, prompts: Tensor) -> Tensor:
        """The ids of what is told, int64 (B, P), from 0 on: the same shape."""
        return prompts + self.config.codes

    def coords(self, start: int, end: int, device: torch.device | None = None) -> Tensor:
        """Coordinates of the places from `start` to `end`, exclusive: int64 (end - start, 2)."""
        places, c = torch.arange(start, end, device=device), self.config
        inside = (places - c.prompt_length).clamp(min=0)
        row = torch.where(places < c.prompt_length, 0, 1 + inside // c.side)
        column = torch.where(places < c.prompt_length, places, inside % c.side)
        return torch.stack([row, column], dim=1)

    def _core(self, ids: Tensor, cache: Cache | None = None, read: slice = EVERY) -> Tensor:
        """Tokens (B, T) that follow those in the cache, after the core: (B, T, D), or only those in `read`."""
        start = 0 if cache is None else cache.length
        coords = self.coords(start, start + ids.shape[1], ids.device)
        return self.core(self.embed(ids), coords, causal(), cache=cache, read=read)

    # What decoding needs (core.decoding.window.Decodable)

    @property
    def context(self) -> int:
        """The most tokens it attends to: a prompt and an image."""
        return self.config.prompt_length + self.config.tokens

    def new_state(self, batch: int, capacity: int) -> Cache:
        """An empty cache."""
        return self.core.new_state(batch, capacity)

    def step(self, ids: Tensor, state: Cache, pads: Tensor | None = None) -> Tensor:
        """Append ids (B, T) to the cache; the logits (B, K) of the image token that follows the last of them."""
        assert pads is None, "prompts are of one length"
        return self.head(self._core(ids, state, LAST)[:, 0])

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`)."""
        below, *blocks = self.core.layered_modules()
        return [[self.embed, *below], *blocks]

    def no_weight_decay(self) -> set[str]:
        """Parameters of two axes that are not matrices: tables of positions."""
        return {f"core.position.{name}" for name, _ in self.core.position.named_parameters()}


class PixelLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: ImageGPT):
        super().__init__()
        self.model = model

    def forward(self, prompts: Tensor, codes: Tensor) -> Tensor:
        """Cross-entropy of every image token, summed, in nats: int64 (B, P), (B, N) -> () float32."""
        return self.model.head.loss(self.model.features(prompts, codes), codes)
