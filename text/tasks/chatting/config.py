"""The configurations of tasks about conversations."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from core.checks import check_at_least, check_positive
from text.config import TextConfig
from text.models.gpt import GPTConfig


@dataclass(frozen=True, kw_only=True)
class ConversationConfig(TextConfig):
    """What the tasks share that read conversations."""

    default_tokenizer = "bpe"

    template: str = ""
    """How a conversation is written as text: chatml, tags (<user>...</user>), or a file of Jinja; default the
    tokenizer's own template, else chatml."""
    tokenizer: str = ""
    """bpe or char (learned from the training part), byte, gpt2, or a tokenizer file or folder; default bpe, or with
    init_from the model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe, without marks of a template; default 8000."""
    too_long: Literal["refuse", "truncate"] = "refuse"
    """What is done with a conversation of more tokens than the model's context; cut, it still has a target."""
    sample: int = 5
    """Held-out questions that are answered into samples/ at every evaluation; 0 answers none."""
    model: GPTConfig = field(default_factory=GPTConfig)
    """The model; with init_from only a shorter context and dropout have an effect, the rest comes with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 0, "sample")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return super().unused() | {"column": "the columns of conversations have names of their own"}

    def adapted(self, given: Mapping[str, Any]) -> Self:
        """With init_from: its template, too, unless one is asked for."""
        asked = super().adapted(given)
        return replace(asked, template=given.get("template", "")) if self.init_from and not self.resume else asked


@dataclass(frozen=True, kw_only=True)
class InstructionsConfig(ConversationConfig):
    """Learning the answers of conversations; batches count rows of `model.context` tokens, or conversations."""

    task = "instructions"
    resumable = (*TextConfig.resumable, "sample")

    data: str | tuple[str, ...] = "skills"
    """skills (six small ones, made by rule), or files of conversations, .jsonl or .json: rows with messages (role,
    content), conversations (from, value), or instruction, input and output."""
    packing: Literal["packed", "single"] = "packed"
    """Whether a row holds as many conversations as fit, none of which attends to another, or a single one."""


@dataclass(frozen=True, kw_only=True)
class PreferencesConfig(ConversationConfig):
    """Learning which of two answers is better, from the model of init_from on; batches count pairs."""

    task = "preferences"
    resumable = (*TextConfig.resumable, "sample")

    data: str | tuple[str, ...] = ""
    """Files of preferences, .jsonl or .json: rows with prompt, chosen and rejected, each a text or a list of messages,
    or chosen and rejected as whole conversations."""
    loss: Literal["dpo", "ipo", "normalised"] = "dpo"
    """dpo (Rafailov 2023, eq. 7); ipo, which aims at a margin and stops there (Azar 2023, eq. 17); or dpo of
    log-probabilities per token, for which a long answer is not better by being long (Lambert 2024, eq. 6)."""
    beta: float = 0.1
    """How much it costs to leave the model of init_from: rewards are beta times the log of how much more probable an
    answer has become."""
    imitation: float = 0.0
    """How much the loss of the better answer itself, in nats a token, counts beside it (Pang 2024, eq. 1). Without it
    both answers may become less probable, and other ones, which nobody compared, more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "beta")
        check_at_least(self, 0, "imitation")
