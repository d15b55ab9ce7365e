"""The configurations of text runs: what all tasks share, and what each of them adds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self

from core.checks import check_at_least, check_between, check_choices, check_positive
from core.cli.arguments import TEXT
from core.config import TransformerConfig
from core.training.config import RunConfig
from core.training.trained import EvaluateOptions
from text.corpus.documents import Reading
from text.models.encoder import MaskedLMConfig
from text.models.encoder_decoder import EncoderDecoderConfig
from text.models.gpt import GPTConfig
from text.models.recurrent import RecurrentConfig
from text.models.recurrent_seq2seq import RecurrentSeq2SeqConfig


@dataclass(frozen=True, kw_only=True)
class TextConfig(RunConfig):
    """The settings that all runs of `text.train` share; the model is the task's."""

    resumable = (*RunConfig.resumable, "data", "validation_data", "eval_batch")
    default_tokenizer: ClassVar[str] = "char"
    """The kind that is learned where nothing else is said."""

    data: str | tuple[str, ...] = ""
    """A name, a file or a folder, or several of these."""
    column: str = ""
    """Column of tables that holds the text; default text, or the only one that holds any."""
    skip_bad: bool = False
    """Leave out what cannot be read (not UTF-8, damaged, rows without text) rather than refuse it."""
    tokenizer: str = ""
    """A name, a tokenizer file or a folder; by default that of init_from, if any, or one learned from the text."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe or wordpiece."""
    validation: float = 0.1
    """Fraction that is held out for evaluation."""
    validation_data: str | tuple[str, ...] = ""
    """What is held out, named like data, in place of a fraction."""
    eval_batch: int | None = None
    """Sequences evaluated at once in each process; default 64, or fewer where their logits would take over 1 GiB."""
    init_from: str = ""
    """Start from trained weights: a run folder, a folder in Hugging Face's layout, or a name on the hub."""
    model: Any = None
    """The model; with init_from only a shorter context and dropout have an effect, the rest comes with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        check_positive(self, "bpe_size", "eval_batch")
        check_between(self, 0.0, 1.0, "validation")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        learned = (self.tokenizer or self.default_tokenizer) in ("bpe", "wordpiece")
        bpe = {} if learned else {"bpe_size": "only a bpe or wordpiece tokenizer is learned to a given size"}
        held_out = {"validation": "validation_data is what is held out"} if self.validation_data else {}
        return super().unused() | bpe | held_out | (self._brought() if self.init_from else {})

    def _brought(self) -> dict[str, str]:
        """Settings of the model that come with the weights."""
        from text.pretrained.start import ENCODER, FREE, has_own_head

        own = [f.name for f in fields(type(self.model)) if f.name in ENCODER or not has_own_head(self.model)]
        names = [*(f"model.{name}" for name in own), *(f"model.core.{f.name}" for f in fields(TransformerConfig))]
        free = {"model.core", "model.context", *(f"model.core.{name}" for name in FREE)}
        return dict.fromkeys([name for name in names if name not in free], "init_from brings its own")

    def adapted(self, given: Mapping[str, Any]) -> Self:
        """With init_from: the shape that comes with the weights, and their tokenizer unless one is asked for."""
        if not self.init_from or self.resume:
            return self
        from text.pretrained.start import changed_shape

        changes = {name.removeprefix("model."): value for name, value in given.items() if name.startswith("model.")}
        shape = changed_shape(self.init_from, changes, self.model)
        return replace(self, tokenizer=given.get("tokenizer", ""), model=shape)

    @property
    def held_out(self) -> float | str | tuple[str, ...]:
        """What is held out: a fraction of the data, or other data."""
        return self.validation_data or self.validation


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(TextConfig):
    """What the tasks share that read windows of a running text."""

    data: str | tuple[str, ...] = "pydoc"
    """A name (shakespeare, pydoc, british_novels), a file of text or a table (.jsonl, .csv, .parquet), compressed or
    not, a folder or glob of them, or hf:NAME[:config][:split][:column]; or several of these. Or folders of tokens, made
    by text.tokenize."""
    data_weights: tuple[float, ...] = ()
    """Of several folders of tokens, in which shares windows are drawn from them; default as they are long."""
    separator: str = field(default="", metadata={TEXT: True})
    """A text between two documents of a file, <|endoftext|> for example, in place of which the tokenizer's end of text
    is put; by default a file, or a row of a table, is one document."""
    validation: float = 0.1
    """Fraction of the text, at its end, that is held out for evaluation."""

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        own = {"validation": "british_novels has a part that is held out"} if self.data == "british_novels" else {}
        one = {"data_weights": "there is one text"} if isinstance(self.data, str) else {}
        return super().unused() | own | one

    def __post_init__(self) -> None:
        super().__post_init__()
        sources = 1 if isinstance(self.data, str) else len(self.data)
        if len(self.data_weights) not in (0, sources) or not all(weight > 0 for weight in self.data_weights):
            raise ValueError(f"data_weights = {self.data_weights} must be positive, one for each of {sources} data")

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
    """char, byte, bpe or wordpiece (learned from the text), gpt2, or a tokenizer file or folder; default char, or with
    init_from the public model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe or wordpiece; default 4096."""
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
    """bpe or wordpiece (learned from the text), char, byte, gpt2, or a tokenizer file or folder; default bpe, or with
    init_from the public model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe or wordpiece; default 8192."""
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
    """bpe or wordpiece (learned from the text), char, byte, gpt2, or a tokenizer file or folder; default bpe, or with
    init_from the public model's own."""
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


@dataclass(frozen=True, kw_only=True)
class PairsConfig(TextConfig):
    """What the tasks share that read texts in pairs."""

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


@dataclass(frozen=True)
class EvaluateConfig(EvaluateOptions):
    """Settings of `text.evaluate`."""

    data: str | tuple[str, ...] = ""
    """Another text, named as for training; by default a run's own. A public model needs one."""
    part: Literal["auto", "held-out", "whole"] = "auto"
    """Of another text: all of it, or the last part only, as large as in training; auto is all for a public model."""
    column: str = ""
    """Column of tables that holds the text; default text, or the only one that holds any."""
    separator: str = field(default="", metadata={TEXT: True})
    """A text that stands between two documents of a file of another text."""
    skip_bad: bool = False
    """Leave out what cannot be read of another text rather than refuse it."""
    context: int | None = None
    """Tokens of a window; default the model's context, or less where the logits of a window would take over 1 GiB."""
    batch_size: int | None = None
    """Sequences evaluated at once; default 64, or fewer where their logits would take over 1 GiB."""
    beams: int = 1
    """Of translations; 1 takes the most probable token."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic; auto chooses as training does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size", "context", "beams")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        names = () if self.data else ("part", "column", "separator", "skip_bad")
        return dict.fromkeys(names, "a run's own text is evaluated as it was held out; --data names another")
