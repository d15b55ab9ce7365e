"""Learning to answer: of conversations, the tokens of the answers are predicted (Ouyang 2022, supervised)."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from core.training.config import with_steps
from core.training.order import Batch, Share, shuffled
from core.training.order import share as divided
from core.training.run import Run
from text.config import EvaluateConfig
from text.conversations.encode import Encoded, encode_conversations, pack
from text.conversations.read import Conversations, read_conversations
from text.conversations.template import ChatTemplate, saved_template
from text.corpus.batches import evaluation_batches
from text.corpus.windows import IGNORED
from text.examples.parts import Parts
from text.tasks.chatting.config import InstructionsConfig
from text.tasks.chatting.conversations import (
    configured_conversations,
    save_conversations,
    show_answers,
    tokens_and_template,
)
from text.tasks.task import TextTask, check_same_data, chosen_shape
from text.tokens.base import Tokenizer
from text.trained import Trained

TOGETHER = 8  # widths of rows are multiples of it, so that there are few shapes


class Instructions(TextTask):
    """Conversations in rows, cross-entropy of the tokens of answers, and how many answers are right to the token."""

    unit = "tokens"
    best = "val/loss"
    mode: Literal["min", "max"] = "min"
    use = "talk to it with: python -m text.chat"

    def __init__(
        self, data: Parts[Conversations], tokenizer: Tokenizer, template: ChatTemplate, config: InstructionsConfig
    ):
        self.data, self.tokenizer, self.template, self.config = data, tokenizer, template, config
        self.train, self.held_out = (
            encode_conversations(template, tokenizer, part.messages, config.model.context, config.too_long, name)
            for part, name in ((data.train, "training conversation"), (data.validation, "validation conversation"))
        )
        self.rows = rows_of(self.train, config)

    @classmethod
    def prepare(cls, config: InstructionsConfig) -> Self:
        data = configured_conversations(config)
        check_same_data(config, data.fingerprint)
        tokenizer, template = tokens_and_template(config, data.train)
        config = replace(config, model=chosen_shape(config, tokenizer.vocab_size))
        task = cls(data, tokenizer, template, config)
        task.config = with_steps(config, len(task.rows))
        return task

    def summary(self) -> str:
        train, answers = self.train, int(self.train.answered.values.sum())
        return (
            f"{self.data.name}: {len(train):,} conversations of {len(train.ids.values):,} tokens in {len(self.rows):,} "
            f"rows, {answers:,} of them answers, {len(self.held_out):,} held out, a vocabulary of "
            f"{self.tokenizer.vocab_size:,}"
        )

    def save_data(self, folder: Path) -> None:
        save_conversations(folder, self.data, self.tokenizer, self.template)

    def objective(self, model: nn.Module) -> nn.Module:
        return AnswerLoss(model)

    def order(self, step: int, share: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step: (ids, targets, numbers of conversations), see `Encoded.batch`."""
        chosen = shuffled(self.config.seed, step, self.config.batch_size, len(self.rows))
        longest = max(sum(int(self.train.ids.lengths[member]) - 1 for member in self.rows[row]) for row in chosen)
        width = min(-(-longest // TOGETHER) * TOGETHER, self.config.model.context)
        return [self.train.batch([self.rows[row] for row in micro], width) for micro in divided(chosen, *share)]

    @staticmethod
    def count(*batch: Tensor) -> Tensor:
        """How many targets of a micro-batch count: ()."""
        return (batch[1] != IGNORED).sum()

    def evaluate(self, run: Run) -> dict[str, float]:
        rows, part = self.config.eval_batch or 16, (run.share.rank, run.share.world)
        totals = answer_totals(run.state.model, self.held_out, rows, run.device, part)
        return {f"val/{name}": value for name, value in figures(run.total(totals)).items()}

    def show(self, run: Run) -> None:
        """Answers the first questions that are held out, in samples/step-*.txt."""
        if run.main and self.config.sample:
            show_answers(run, self.tokenizer, self.template, self.data.validation.messages[: self.config.sample])

    @classmethod
    def evaluate_trained(cls, trained: Trained, folder: Path, options: EvaluateConfig) -> tuple[str, dict[str, float]]:
        config = trained.config
        assert isinstance(config, InstructionsConfig)
        held_out = read_conversations(options.data) if options.data else configured_conversations(config).validation
        template = saved_template(folder, trained.tokenizer)
        context = min(options.context or config.model.context, config.model.context)
        encoded = encode_conversations(template, trained.tokenizer, held_out.messages, context, config.too_long)
        totals = answer_totals(trained.model, encoded, options.batch_size or 16, trained.device)
        return f"{len(encoded):,} conversations", {f"val/{name}": value for name, value in figures(totals).items()}


class AnswerLoss(nn.Module):
    """The training objective as a module, so that it compiles and distributes as one."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor, texts: Tensor) -> Tensor:
        """Cross-entropy summed over the targets that are not IGNORED, in nats: 3 x (B, T) int64 -> () float32.

        texts: the number of each token's conversation, see `GPT.features`
        """
        return self.model.head.loss(self.model.features(ids, texts=texts), targets)


def rows_of(encoded: Encoded, config: InstructionsConfig) -> list[list[int]]:
    """Which conversations share a row of the context."""
    if config.packing == "single":
        return [[member] for member in range(len(encoded))]
    return pack(encoded.ids.lengths - 1, config.model.context)


@torch.no_grad()
def answer_totals(
    model: Any, encoded: Encoded, rows: int, device: torch.device | str, part: tuple[int, int] = (0, 1)
) -> Tensor:
    """What `figures` divides, of a process's part of conversations: float64 (5,).

    Summed loss in nats, targets, targets that are the most probable token, conversations of which all are, and
    conversations.
    """
    total = torch.zeros(5, dtype=torch.float64)
    for chosen in evaluation_batches(encoded.ids.lengths, rows, rank=part[0], world=part[1]):
        members = [[int(member)] for member in chosen if member >= 0]
        if not members:
            continue
        ids, targets, texts = (tensor.to(device) for tensor in encoded.batch(members))
        x, wanted = model.features(ids, texts=texts), targets != IGNORED  # (b, T, D), (b, T)
        right = torch.zeros_like(wanted)
        right[wanted] = model.head(x[wanted]).argmax(-1) == targets[wanted]
        loss = model.head.loss(x[wanted], targets[wanted])
        whole = (right == wanted).all(1).sum()
        counted = (loss, wanted.sum(), right.sum(), whole, torch.tensor(len(members)))
        total += torch.tensor([float(each) for each in counted], dtype=torch.float64)
    return total


def figures(totals: Tensor) -> dict[str, float]:
    """Mean loss of a target, its perplexity, the share of targets that are the most probable token, and of exact
    conversations: those in which greedy decoding, the user's words given, says every answer to the token."""
    loss, targets, right, exact, count = totals.tolist()
    mean = loss / targets
    return {
        "loss": mean,
        "perplexity": math.exp(min(mean, 700)),
        "token_accuracy": right / targets,
        "exact_match": exact / count,
    }
