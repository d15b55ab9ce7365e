"""The configurations of tasks that give labels: to texts, and to the words of sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeVar

from core.checks import check_between, check_positive
from text.config import TextConfig
from text.models.encoder import ClassifierConfig, TaggerConfig


@dataclass(frozen=True, kw_only=True)
class LabelsConfig(TextConfig):
    """What classification and tagging share."""

    min_count: int = 2
    """Times that a part of words must occur in the training part to be a token of its own (affixes)."""
    too_long: Literal["refuse", "truncate"] = "refuse"
    """What is done with what has more tokens than the model's context."""
    label_smoothing: float = 0.0
    """Share of the label's probability that is spread over all labels in training (Szegedy 2016)."""
    token_dropout: float = 0.0
    """Share of tokens that is left out in training, drawn anew at each step (word dropout, Iyyer 2015)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(self, 0.0, 1.0, "label_smoothing", "token_dropout")
        check_positive(self, "min_count")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        affixes = (self.tokenizer or self.default_tokenizer) == "affixes" and not self.init_from
        return super().unused() | ({} if affixes else {"min_count": "only parts of words (affixes) are counted"})


C = TypeVar("C", bound=LabelsConfig)


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(LabelsConfig):
    """A label for each text; batches count texts."""

    task = "classification"
    default_tokenizer = "bpe"

    data: str | tuple[str, ...] = "sst2"
    """sst2 (sentences), sst2:phrases (trained on their parts too), or tables (.tsv, .csv, .jsonl, .parquet) of texts
    and labels."""
    column: str = ""
    """Column that holds the text; default text, sentence, or the only other one that holds any."""
    second_column: str = ""
    """Column that holds the second of two texts; default there is one only."""
    label_column: str = ""
    """Column that holds the label; default label."""
    tokenizer: str = ""
    """bpe, char or affixes (each word as its form, beginnings, ends and shape), learned from the training part, byte,
    gpt2, or a tokenizer file or folder; default bpe, or with init_from the model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe; default 8000."""
    validation: float = 0.1
    """Fraction of the texts of each class that is held out for evaluation."""
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    """The model; with init_from its encoder comes with the weights, but for dropout and a shorter context."""

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        own = ("validation", "column", "second_column", "label_column") if str(self.data).startswith("sst2") else ()
        return super().unused() | dict.fromkeys(own, f"{self.data} has parts and columns of its own")

    def adapted(self, given: Mapping[str, Any]) -> Self:
        """With init_from: the encoder that comes with the weights, and its tokens unless words are asked for."""
        return super(ClassificationConfig, _as_pretrained(self, given, "tokens")).adapted(given)


@dataclass(frozen=True, kw_only=True)
class TaggingConfig(LabelsConfig):
    """A label for each word of a sentence, or for each residue of a protein."""

    task = "tagging"
    default_tokenizer = "affixes"

    data: str | tuple[str, ...] = "ud_english_ewt"
    """ud_english_ewt (parts of speech), protein_ss (secondary structure of proteins), or files: CoNLL-U, or a word and
    its tag in each line and an empty line between sentences."""
    tags: Literal["upos", "xpos"] = "upos"
    """Which tags of CoNLL-U."""
    batch_size: int = 2048
    """Tokens, padding included, per optimiser step, over all processes and micro-batches; words with early-mean."""
    tokenizer: str = ""
    """affixes (each word as its form, beginnings, ends and shape), bpe or char, all learned from the training part,
    byte, gpt2, or a tokenizer file or folder; default affixes, or with init_from the model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe; default 8000."""
    validation: float = 0.1
    """Fraction of the sentences that is held out for evaluation."""
    model: TaggerConfig = field(default_factory=lambda: TaggerConfig(words="early-mean"))
    """The model; with init_from its encoder comes with the weights, but for dropout and a shorter context, and what
    stands for a word is its first token unless something else is asked for."""

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        own = ("validation",) if self.data in ("ud_english_ewt", "protein_ss") else ()
        parts = dict.fromkeys(own, f"{self.data} has a validation part")
        return super().unused() | parts | {"column": "words and tags have columns of their own; --tags chooses"}

    def adapted(self, given: Mapping[str, Any]) -> Self:
        """With init_from: the encoder that comes with the weights, and their tokenizer unless one is asked for."""
        return super(TaggingConfig, _as_pretrained(self, given, "first")).adapted(given)


def _as_pretrained(asked: C, given: Mapping[str, Any], words: str) -> C:
    """Reads words as the model to start from does, or as most do, unless it is said how."""
    if not asked.init_from or asked.resume or "model.words" in given:
        return asked
    from text.pretrained.start import reads_whole_words

    words = "early-mean" if reads_whole_words(asked.init_from) else words
    return replace(asked, model=replace(asked.model, words=words))
