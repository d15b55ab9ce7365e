"""The configuration of a text run: the settings that all runs share, the text, the tokenizer, the model's shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from core.checks import check_at_least, check_between, check_choices, check_positive
from core.cli.arguments import TEXT
from core.config import TransformerConfig
from core.training.config import RunConfig
from text.corpus.documents import Reading
from text.models.gpt import GPTConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """A run of `text.train`; batches count sequences of `model.context` tokens."""

    resumable = (*RunConfig.resumable, "data", "validation_data", "eval_batch", "sample")

    data: str | tuple[str, ...] = "pydoc"
    """A name (shakespeare, pydoc), a file of text or a table (.jsonl, .csv, .parquet), compressed or not, a folder or
    glob of them, or hf:NAME[:config][:split][:column]; or several of these."""
    column: str = ""
    """Column of tables that holds the text; default text, or the only one that holds any."""
    separator: str = field(default="", metadata={TEXT: True})
    """A text between two documents of a file, <|endoftext|> for example, in place of which the tokenizer's end of text
    is put; by default a file, or a row of a table, is one document."""
    skip_bad: bool = False
    """Leave out what cannot be read (not UTF-8, damaged, rows without text) rather than refuse it."""
    tokenizer: str = ""
    """char, byte, bpe or wordpiece (learned from the text), gpt2, or a tokenizer file or folder; default char, or with
    init_from the public model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe or wordpiece; default 4096."""
    validation: float = 0.1
    """Fraction of the text, at its end, that is held out for evaluation."""
    validation_data: str | tuple[str, ...] = ""
    """What is held out, named like data, in place of a fraction."""
    window_order: Literal["shuffled", "random"] = "shuffled"
    """shuffled takes every window of the text once an epoch; random takes windows from anywhere, as nanoGPT does."""
    eval_batch: int | None = None
    """Sequences evaluated at once in each process; default 64, or fewer where their logits would take over 1 GiB."""
    sample: int = 200
    """Tokens of the sample written to samples/ at every evaluation; 0 writes none."""
    init_from: str = ""
    """Start from trained weights: a run folder, a folder in Hugging Face's layout, or a name on the hub."""
    model: GPTConfig = field(default_factory=GPTConfig)
    """The model; with init_from only a shorter context and dropout have an effect, the rest comes with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        check_positive(self, "bpe_size", "eval_batch")
        check_at_least(self, 0, "sample")
        check_between(self, 0.0, 1.0, "validation")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        learned = self.tokenizer in ("bpe", "wordpiece")
        bpe = {} if learned else {"bpe_size": "only a bpe or wordpiece tokenizer is learned to a given size"}
        held_out = {"validation": "validation_data is what is held out"} if self.validation_data else {}
        return super().unused() | bpe | held_out | (self._brought() if self.init_from else {})

    def _brought(self) -> dict[str, str]:
        """Settings of the model that come with the weights."""
        from text.pretrained.start import FREE

        parts = {"model.": GPTConfig, "model.core.": TransformerConfig}
        names = [prefix + f.name for prefix, part in parts.items() for f in fields(part)]
        free = {"model.core", "model.context", *(f"model.core.{name}" for name in FREE)}
        return dict.fromkeys([name for name in names if name not in free], "init_from brings its own")

    def adapted(self, given: Mapping[str, Any]) -> Self:
        """With init_from: the shape that comes with the weights, and their tokenizer unless one is asked for."""
        if not self.init_from or self.resume:
            return self
        from text.pretrained.start import changed_shape

        changes = {name.removeprefix("model."): value for name, value in given.items() if name.startswith("model.")}
        shape = changed_shape(self.init_from, changes, GPTConfig)
        return replace(self, tokenizer=given.get("tokenizer", ""), model=shape)

    @property
    def reading(self) -> Reading:
        """How the documents of the data are read."""
        return Reading(self.column, self.separator, "skip" if self.skip_bad else "refuse")

    @property
    def held_out(self) -> float | str | tuple[str, ...]:
        """What is held out: a fraction of the text, or another text."""
        return self.validation_data or self.validation
