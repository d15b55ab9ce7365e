"""The shape of a core: one frozen description that validates itself."""

from dataclasses import dataclass, field
from typing import Literal

from core.checks import check_between, check_choices, check_positive, refuse_unused

PositionKind = Literal["none", "learned", "sinusoidal", "rotary", "alibi", "t5"]
NormKind = Literal["layernorm", "rmsnorm", "rms"]
OptionalNormKind = Literal["none", "layernorm", "rmsnorm", "rms"]
FeedForwardKind = Literal["relu", "gelu", "gelu-tanh", "relu2", "swiglu", "geglu"]
GATED = ("swiglu", "geglu")


@dataclass(frozen=True)
class PositionConfig:
    """How integer coordinates become signal (see `core.positions`)."""

    kind: PositionKind = "rotary"
    """Scheme that turns coordinates into signal."""
    base: float = 10000.0
    """Longest wavelength / 2 pi, in coordinate units (sinusoidal, rotary)."""
    pairing: Literal["interleaved", "halves"] = "interleaved"
    """Rotary: which channels rotate together: (0,1),(2,3),... as GPT-J, or (0,n/2),(1,n/2+1),... as NeoX."""
    buckets: int = 32
    """T5: number of distance buckets."""
    max_distance: int = 128
    """T5: distances from here on share the last bucket."""
    direction: Literal["past", "both"] = "past"
    """T5: buckets for the past alone (decoders) or for both sides (encoders)."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "base", "buckets", "max_distance")
        refuse_unused(self)
        if self.kind == "t5" and (self.buckets < 4 or self.buckets % 4 or self.max_distance <= self.buckets):
            raise ValueError(
                f"position.buckets = {self.buckets} must be a multiple of 4, below max_distance = {self.max_distance}"
            )

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        readers = {"base": ("sinusoidal", "rotary"), "pairing": ("rotary",)}
        readers |= dict.fromkeys(("buckets", "max_distance", "direction"), ("t5",))
        idle = [name for name, kinds in readers.items() if self.kind not in kinds]
        return dict.fromkeys(idle, f"positions of kind = {self.kind!r} do not read it")


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of a stack of blocks."""

    dim: int = 384
    """Width of the residual stream, in channels."""
    depth: int = 6
    """Number of blocks."""
    n_heads: int = 6
    """Query heads."""
    n_kv_heads: int | None = None
    """Key/value heads: heads (default) = multi-head, fewer = grouped-query, 1 = multi-query."""
    head_dim: int | None = None
    """Channels per head; default dim / heads."""
    ffn_dim: int | None = None
    """Feed-forward width; default 4 dim, or 8/3 dim rounded up to a multiple of 64 when gated."""
    feedforward: FeedForwardKind = "gelu"
    """Activation of the feed-forward layer (relu2 = squared ReLU)."""
    norm: NormKind = "layernorm"
    """Normalisation; `rms` is RMSNorm without a learned gain."""
    norm_placement: Literal["pre", "post"] = "pre"
    """Before each sub-layer (GPT-2) or after the residual sum (the 2017 paper, BERT)."""
    norm_eps: float = 1e-5
    """Added to the variance."""
    embedding_norm: OptionalNormKind = "none"
    """Normalisation of the tokens, positions included, before the first block (BERT, BLOOM)."""
    qk_norm: OptionalNormKind = "none"
    """Normalisation of each head's queries and keys."""
    attention_scale: Literal["head_dim", "none"] = "head_dim"
    """What queries times keys are multiplied by: 1 / sqrt(head_dim), or nothing (T5)."""
    modulation: Literal["none", "adaln"] = "none"
    """Whether a condition shifts, scales and gates every residual branch (adaLN-zero, Peebles & Xie 2023)."""
    bias: Literal["all", "qkv", "none"] = "all"
    """Which linear maps (and with `all` LayerNorms) carry a bias."""
    position: PositionConfig = field(default_factory=PositionConfig)
    """How the coordinates of tokens enter."""
    layer_scale: float | None = None
    """Initial gain per channel of every residual branch (LayerScale); default none."""
    init: Literal["gpt2", "zero-residual"] = "gpt2"
    """Weight initialisation (the table in `core.init`)."""
    dropout: float = 0.0
    """Probability of dropping embeddings and residual branches' channels."""
    attention_dropout: float = 0.0
    """Probability of dropping an attention weight."""
    drop_path: float = 0.0
    """Stochastic depth: probability of dropping the last block's branches, rising linearly from 0."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "dim", "depth", "n_heads", "n_kv_heads", "head_dim", "ffn_dim", "norm_eps", "layer_scale")
        check_between(self, 0, 1, "dropout", "attention_dropout", "drop_path")
        if self.head_dim is None and self.dim % self.n_heads:
            raise ValueError(f"n_heads = {self.n_heads} must divide dim = {self.dim} (or give head_dim)")
        if self.n_heads % self.key_heads:
            raise ValueError(f"n_kv_heads = {self.key_heads} must divide n_heads = {self.n_heads}")
        if self.position.kind == "rotary" and self.head_width % 2:
            raise ValueError(f"head_dim = {self.head_width} must be even for rotary positions")
        if self.modulation == "adaln" and self.norm_placement == "post":
            raise ValueError("modulation = 'adaln' needs norm_placement = 'pre': it modulates what a branch reads")
        refuse_unused(self)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return {"drop_path": "depth = 1, and it rises from 0"} if self.depth == 1 else {}

    @property
    def key_heads(self) -> int:
        """Key/value heads, resolved."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_width(self) -> int:
        """Channels per head, resolved."""
        return self.dim // self.n_heads if self.head_dim is None else self.head_dim

    @property
    def ffn_width(self) -> int:
        """Feed-forward width, resolved."""
        if self.ffn_dim is not None:
            return self.ffn_dim
        return -(-8 * self.dim // (3 * 64)) * 64 if self.feedforward in GATED else 4 * self.dim
