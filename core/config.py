"""The shape of a core: one frozen description that validates itself."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from core.checks import check_at_least, check_between, check_choices, check_positive, refuse_unused

PositionKind = Literal["none", "learned", "sinusoidal", "rotary", "alibi", "t5"]
NormKind = Literal["layernorm", "rmsnorm", "rms"]
OptionalNormKind = Literal["none", "layernorm", "rmsnorm", "rms"]
FeedForwardKind = Literal["relu", "gelu", "gelu-tanh", "silu", "relu2", "swiglu", "geglu", "geglu-tanh"]
LayerPositions = Literal["shared", "window", "none"]
Bias = Literal["all", "attention", "qkv", "feedforward", "none"]
GATED = ("swiglu", "geglu", "geglu-tanh")
EMBEDDED = ("none", "learned", "sinusoidal")  # positions that no layer reads: there are none, or tokens hold them


@dataclass(frozen=True)
class RotaryScaling:
    """How rotary positions reach further than the context that they were trained on (`core.positions.frequencies`)."""

    kind: Literal["none", "linear", "dynamic", "yarn", "llama3"] = "none"
    """Slower by a factor (linear), by a base that grows with the length (dynamic), or the slow ones (yarn, llama3)."""
    factor: float = 1.0
    """How many times further."""
    original_context: int = 8192
    """dynamic, yarn, llama3: tokens of the context before."""
    low_freq_factor: float = 1.0
    """llama3: frequencies that turn less often than this over the original context are divided by the factor."""
    high_freq_factor: float = 4.0
    """llama3: frequencies that turn more often than this over the original context stay."""
    beta_slow: float = 1.0
    """yarn: as low_freq_factor."""
    beta_fast: float = 32.0
    """yarn: as high_freq_factor."""
    ramp_ends: Literal["rounded", "exact"] = "rounded"
    """yarn: whether the frequencies between the two begin and end at a whole channel."""
    attention_factor: float | None = None
    """yarn: what rotated queries and keys are multiplied by; default 0.1 ln(factor) + 1."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_at_least(self, 1, "factor")
        check_positive(self, "original_context", "low_freq_factor", "beta_slow", "attention_factor")
        refuse_unused(self)
        for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"scaling.{low} = {getattr(self, low)} must be below {high} = {getattr(self, high)}")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        scaled = ("linear", "dynamic", "yarn", "llama3")
        readers: dict[str, tuple[str, ...]] = {"factor": scaled, "original_context": scaled[1:]}
        readers |= dict.fromkeys(("low_freq_factor", "high_freq_factor"), ("llama3",))
        readers |= dict.fromkeys(("beta_slow", "beta_fast", "ramp_ends", "attention_factor"), ("yarn",))
        return _idle(readers, self.kind, "scaling")


@dataclass(frozen=True)
class PositionConfig:
    """How integer coordinates become signal (see `core.positions`)."""

    kind: PositionKind = "rotary"
    """Scheme that turns coordinates into signal."""
    base: float = 10000.0
    """Longest wavelength / 2 pi, in coordinate units (sinusoidal, rotary)."""
    pairing: Literal["interleaved", "halves"] = "interleaved"
    """Rotary: which channels rotate together: (0,1),(2,3),... as GPT-J, or (0,n/2),(1,n/2+1),... as NeoX.
    Sinusoidal: which hold the sine and cosine of one frequency: the former in the paper, the latter in MarianMT."""
    scaling: RotaryScaling = field(default_factory=RotaryScaling)
    """Rotary: how positions reach further than the context they were trained on."""
    buckets: int = 32
    """T5: number of distance buckets."""
    max_distance: int = 128
    """T5: distances from here on share the last bucket."""
    direction: Literal["past", "both"] = "past"
    """T5: buckets for the past alone (decoders) or for both sides (encoders)."""
    amplitude: float = 1.0
    """Sinusoidal: of the waves. At 1 they drown small embeddings, and what tokens say to each other is learned late."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "base", "amplitude", "buckets", "max_distance")
        refuse_unused(self)
        if self.kind == "t5" and (self.buckets < 4 or self.buckets % 4 or self.max_distance <= self.buckets):
            raise ValueError(
                f"position.buckets = {self.buckets} must be a multiple of 4, below max_distance = {self.max_distance}"
            )

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        readers: dict[str, tuple[str, ...]] = dict.fromkeys(("base", "pairing"), ("sinusoidal", "rotary"))
        readers |= {"amplitude": ("sinusoidal",), "scaling": ("rotary",)}
        readers |= dict.fromkeys(("buckets", "max_distance", "direction"), ("t5",))
        return _idle(readers, self.kind, "positions")


def _idle(readers: dict[str, tuple[str, ...]], kind: str, what: str) -> dict[str, str]:
    """The fields that something of this kind does not read."""
    idle = [name for name, kinds in readers.items() if kind not in kinds]
    return dict.fromkeys(idle, f"{what} of kind = {kind!r} do not read it")


class LayerKind(NamedTuple):
    """What the attention of one layer may have apart from that of the others."""

    window: int | None  # places less than this far away that tokens attend to; None = all
    positions: LayerPositions  # those of all layers, those of windowed layers, or none


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
    """Activation of the feed-forward layer (relu2 = squared ReLU; geglu-tanh = T5 v1.1)."""
    norm: NormKind = "layernorm"
    """Normalisation; `rms` is RMSNorm without a learned gain."""
    norm_placement: Literal["pre", "post", "branch"] = "pre"
    """Before each sub-layer (GPT-2), after the residual sum (BERT), or of a branch before that sum (OLMo 2)."""
    norm_eps: float = 1e-5
    """Added to the variance."""
    embedding_norm: OptionalNormKind = "none"
    """Normalisation of the tokens, positions included, before the first block (BERT, BLOOM)."""
    first_norm: Literal["kept", "none"] = "kept"
    """Whether the first block, too, normalises before its attention, or the embeddings' norm suffices (ModernBERT)."""
    qk_norm: OptionalNormKind = "none"
    """Normalisation of queries and keys."""
    qk_norm_over: Literal["head", "all-heads"] = "head"
    """Whether each head is normalised by itself, or all heads of a token together (OLMo 2)."""
    attention_scale: Literal["head_dim", "none"] = "head_dim"
    """What queries times keys are multiplied by: 1 / sqrt(head_dim), or nothing (T5)."""
    modulation: Literal["none", "adaln"] = "none"
    """Whether a condition shifts, scales and gates every residual branch (adaLN-zero, Peebles & Xie 2023)."""
    bias: Bias = "all"
    """Which linear maps carry a bias; LayerNorms do unless it is `none`."""
    position: PositionConfig = field(default_factory=PositionConfig)
    """How the coordinates of tokens enter."""
    window: int | None = None
    """Tokens attend to places less than this far away only, in `window_layers` (Mistral); default no bound."""
    window_layers: tuple[int, ...] = ()
    """Numbers of the layers, from 0, whose attention the window bounds; default all."""
    window_position: PositionConfig | None = None
    """Positions of those layers in place of the others' (ModernBERT, Gemma 3, OLMo 3); default the same."""
    unpositioned_layers: tuple[int, ...] = ()
    """Numbers of the layers, from 0, whose attention reads no positions (SmolLM3)."""
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
        self._check_layers()
        if self.modulation == "adaln" and self.norm_placement != "pre":
            raise ValueError("modulation = 'adaln' needs norm_placement = 'pre': it modulates what a branch reads")
        refuse_unused(self)
        if self.first_norm == "none" and self.embedding_norm == "none":
            raise ValueError("first_norm = 'none' needs an embedding_norm, which takes its place; it is 'none' as well")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        idle = {"drop_path": "depth = 1, and it rises from 0"} if self.depth == 1 else {}
        if self.norm_placement != "pre":
            idle["first_norm"] = f"norm_placement = {self.norm_placement!r} has no norm before attention"
        if self.qk_norm == "none":
            idle["qk_norm_over"] = "qk_norm = 'none'"
        if self.window is None:
            idle |= dict.fromkeys(("window_layers", "window_position"), "window = None bounds no layer")
        if self.position.kind in EMBEDDED:
            idle |= dict.fromkeys(
                ("window_position", "unpositioned_layers"),
                f"positions of kind = {self.position.kind!r} are not read by layers",
            )
        return idle

    def layer_kinds(self) -> list[LayerKind]:
        """What each layer's attention has apart."""
        windowed = set(self.window_layers or range(self.depth)) if self.window is not None else set()
        return [
            LayerKind(self.window if n in windowed else None, self._layer_positions(n, windowed))
            for n in range(self.depth)
        ]

    def _layer_positions(self, layer: int, windowed: set[int]) -> LayerPositions:
        if layer in self.unpositioned_layers:
            return "none"
        return "window" if layer in windowed and self.window_position is not None else "shared"

    def _check_layers(self) -> None:
        check_positive(self, "window")
        for name in ("window_layers", "unpositioned_layers"):
            layers = getattr(self, name)
            if list(layers) != sorted(set(layers) & set(range(self.depth))):
                raise ValueError(
                    f"{name} = {layers!r} must be different numbers from 0 to {self.depth - 1}, in ascending order"
                )
        if self.window_position is not None and self.window_position.kind in EMBEDDED:
            raise ValueError(
                f"window_position.kind = {self.window_position.kind!r} is not read by layers: rotary, alibi and t5 are"
            )

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
