"""What all runs of `text.train` share."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from core.checks import check_between, check_choices, check_positive
from core.config import TransformerConfig
from core.training.config import RunConfig


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
    """Vocabulary size of a learned bpe."""
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
        learned = (self.tokenizer or self.default_tokenizer) == "bpe"
        bpe = {} if learned else {"bpe_size": "only a bpe tokenizer is learned to a given size"}
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
