"""Runs on windows of a running text."""

from dataclasses import dataclass, field
from typing import Literal

from core.checks import check_at_least, check_between, check_positive
from core.cli.arguments import TEXT
from text.corpus.documents import Reading
from text.models.encoder import MaskedLMConfig
from text.models.encoder_decoder import EncoderDecoderConfig
from text.models.gpt import GPTConfig
from text.models.recurrent import RecurrentConfig
from text.settings.base import TextConfig


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(TextConfig):
    """What the tasks share that read windows of a running text."""

    data: str | tuple[str, ...] = "pydoc"
    """A name (shakespeare, pydoc, british_novels), a file of text or a table (.jsonl, .csv, .parquet), compressed or
    not, a folder or glob of them, or hf:NAME[:config][:split][:column]; or several of these."""
    separator: str = field(default="", metadata={TEXT: True})
    """A text between two documents of a file, <|endoftext|> for example, in place of which the tokenizer's end of text
    is put; by default a file, or a row of a table, is one document."""
    validation: float = 0.1
    """Fraction of the text, at its end, that is held out for evaluation."""

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        own = {"validation": "british_novels has a part that is held out"} if self.data == "british_novels" else {}
        return super().unused() | own

    @property
    def reading(self) -> Reading:
        """How the documents of the data are read."""
        return Reading(self.column, self.separator, "skip" if self.skip_bad else "refuse")


@dataclass(frozen=True, kw_only=True)
class LanguageModellingConfig(CorpusConfig):
    """Predicting each next token of a text; batches count sequences of `model.context` tokens."""

    task = "language-modelling"
    resumable = (*TextConfig.resumable, "sample")

    tokenizer: str = ""
    """char, byte, bpe (learned from the text), gpt2, or a tokenizer file or folder; default char, or with init_from
    the public model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe; default 4096."""
    window_order: Literal["shuffled", "random"] = "shuffled"
    """shuffled takes every window of the text once an epoch; random takes windows from anywhere, as nanoGPT does."""
    sample: int = 200
    """Tokens of the sample written to samples/ at every evaluation; 0 writes none."""
    model: GPTConfig | RecurrentConfig = field(default_factory=GPTConfig)
    """The model; with init_from only a shorter context and dropout have an effect, the rest comes with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 0, "sample")


@dataclass(frozen=True, kw_only=True)
class MaskedConfig(CorpusConfig):
    """Predicting the hidden tokens of a text (Devlin 2019); batches count windows of `model.context` tokens."""

    task = "masked-language-modelling"
    default_tokenizer = "bpe"

    tokenizer: str = ""
    """bpe (learned from the text), char, byte, gpt2, or a tokenizer file or folder; default bpe, or with init_from the
    public model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe; default 8192."""
    masked: float = 0.15
    """Fraction of the tokens of a window that is hidden in training; evaluation always hides 0.15."""
    replacement: Literal["bert", "mask"] = "bert"
    """What training puts in place of a hidden token: the mask alone, or in BERT's way the mask in 80 % of the places,
    another token in 10 % and the token itself in 10 %."""
    model: MaskedLMConfig = field(default_factory=MaskedLMConfig)
    """The model; with init_from only a shorter context and dropout have an effect, the rest comes with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, 0.0, 1.0, "masked")
        check_positive(self, "masked")


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig(CorpusConfig):
    """Predicting spans that are left out of a text (T5, Raffel 2020, 3.1.4); batches count windows of the text."""

    task = "denoising"
    default_tokenizer = "bpe"

    tokenizer: str = ""
    """bpe (learned from the text), char, byte, gpt2, or a tokenizer file or folder; default bpe, or with init_from the
    public model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe, without sentinels; default 8192."""
    noise: float = 0.15
    """Fraction of the tokens of a window that is left out."""
    span: float = 3.0
    """Mean number of tokens of a span that is left out."""
    sentinels: int = 100
    """Tokens that stand for spans, the last ids of the vocabulary; a tokenizer that has such tokens brings its own."""
    model: EncoderDecoderConfig = field(default_factory=EncoderDecoderConfig)
    """The model, whose context is the length of a window without its spans; with init_from only a shorter context and
    dropout have an effect, the rest comes with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, 0.0, 1.0, "noise")
        check_positive(self, "noise", "span", "sentinels")
