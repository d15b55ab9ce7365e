"""The configuration of a text run: the settings that all runs share, the text, the tokenizer, the model's shape."""

from dataclasses import dataclass, field
from typing import Literal

from core.checks import check_at_least, check_between, check_choices, check_positive
from core.training.config import RunConfig
from text.models.gpt import GPTConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """A run of `text.train`; batches count sequences of `model.context` tokens."""

    resumable = (*RunConfig.resumable, "data", "eval_batch", "sample")

    data: str = "pydoc"
    """A name (shakespeare, pydoc), a text file, a folder or glob of them, or hf:NAME[:config][:split][:column]."""
    tokenizer: str = ""
    """char, byte, bpe (learned from the text), gpt2, or a tokenizer file or folder; default char, or with init_from
    the public model's own."""
    bpe_size: int | None = None
    """Vocabulary size of a learned bpe; default 4096."""
    validation: float = 0.1
    """Fraction of the text, at its end, that is held out for evaluation."""
    window_order: Literal["shuffled", "random"] = "shuffled"
    """shuffled takes every window of the text once an epoch; random takes windows from anywhere, as nanoGPT does."""
    eval_batch: int | None = None
    """Sequences evaluated at once in each process; default 64, or fewer where their logits would take over 1 GiB."""
    sample: int = 200
    """Tokens of the sample written to samples/ at every evaluation; 0 writes none."""
    init_from: str = ""
    """Start from a public model instead of a random one: a folder in Hugging Face's layout, or a name on the hub."""
    model: GPTConfig = field(default_factory=GPTConfig)
    """The model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        check_positive(self, "bpe_size", "eval_batch")
        check_at_least(self, 0, "sample")
        check_between(self, 0.0, 1.0, "validation")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        bpe = {} if self.tokenizer == "bpe" else {"bpe_size": "only a bpe tokenizer is learned to a given size"}
        model = {"model": "the model of init_from has its own shape"} if self.init_from else {}
        return super().unused() | bpe | model
