"""Runs on texts in pairs."""

from dataclasses import dataclass, field
from typing import Literal

from core.checks import check_between, check_positive
from text.models.encoder import EmbedderConfig
from text.models.encoder_decoder import EncoderDecoderConfig
from text.models.recurrent_seq2seq import RecurrentSeq2SeqConfig
from text.settings.base import TextConfig


@dataclass(frozen=True, kw_only=True)
class PairsConfig(TextConfig):
    """What translation and embedding share."""

    default_tokenizer = "bpe"

    data: str | tuple[str, ...] = "multi30k"
    """multi30k; two files whose lines belong together (a.de b.en); or a table of two columns (.tsv, .csv, .jsonl)."""
    source: str = ""
    """Which side comes first, and is translated: a language, by which the name of its file ends, or a column; default
    English in multi30k, else the first."""
    target: str = ""
    """Which side comes second."""
    tokenizer: str = ""
    """bpe or char (learned from both sides of the training part), byte, gpt2, or a tokenizer file or folder; default
    bpe."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe; default 8000."""
    too_long: Literal["refuse", "truncate"] = "refuse"
    """What is done with a sentence of more tokens than the model's context."""

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        named = {"validation": "multi30k has a validation part"} if self.data == "multi30k" else {}
        return super().unused() | named | {"column": "the two sides are named by source and target"}


@dataclass(frozen=True, kw_only=True)
class TranslationConfig(PairsConfig):
    """From sentences of one language to those of another."""

    task = "translation"
    resumable = (*TextConfig.resumable, "eval_beams")

    batch_size: int = 4096
    """Tokens of sources and targets, padding included, per optimiser step, over all processes and micro-batches."""
    label_smoothing: float = 0.1
    """Share of the target's probability that is spread over all tokens in training (Szegedy 2016)."""
    eval_beams: int = 1
    """Beams by which the validation sentences are translated at evaluations; 1 takes the most probable token."""
    model: EncoderDecoderConfig | RecurrentSeq2SeqConfig = field(default_factory=EncoderDecoderConfig)
    """The model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, 0.0, 1.0, "label_smoothing")
        check_positive(self, "eval_beams")


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig(PairsConfig):
    """A vector for each text, near to that of the text that it is paired with; batches count pairs."""

    task = "embedding"

    batch_size: int = 64
    """Pairs per optimiser step, over all processes and micro-batches."""
    group: int = 64
    """Pairs that are compared with one another: for each text the partners of the others in its group are wrong
    answers. A micro-batch holds one group or several."""
    temperature: float = 0.05
    """What cosines are divided by before the softmax over a group."""
    model: EmbedderConfig = field(default_factory=EmbedderConfig)
    """The model; with init_from its encoder comes with the weights, but for dropout and a shorter context."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "group", "temperature")
        if self.batch_size % (self.group * self.accumulate):
            raise ValueError(
                f"group = {self.group} must divide the {self.batch_size // self.accumulate} pairs of a micro-batch"
            )
