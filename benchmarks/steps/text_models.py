"""A training step of a text model, the same for both sides but for the model: same weights, same batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from benchmarks.measure.timing import time_steps
from core.config import PositionConfig, TransformerConfig
from core.devices import autocast, keep_freed_memory
from core.training.order import Batch
from text.corpus.windows import IGNORED
from text.models.build import build_model
from text.models.encoder import MaskedLMConfig
from text.models.encoder_decoder import shape_2017
from text.models.heads import HeadConfig
from text.presets import modernbert_core
from text.pretrained.folders import export_pretrained
from text.tasks.masked import MaskedLoss
from text.tasks.translation import TranslationLoss

BERT = TransformerConfig(
    dim=256, depth=4, n_heads=4, ffn_dim=1024, dropout=0.1, attention_dropout=0.1, feedforward="gelu",
    norm_placement="post", embedding_norm="layernorm", norm_eps=1e-12, position=PositionConfig("learned"),
)  # fmt: skip
MODERNBERT = modernbert_core(256, 4, 4, ffn_dim=704)
SHAPES: dict[str, Any] = {
    "marian": replace(shape_2017(256, 3, 4, 512, context=128), vocab_size=8000, start=1, eos=2, pad=0),
    "bert": MaskedLMConfig(vocab_size=8000, context=128, types=2, core=BERT),
    "modernbert": MaskedLMConfig(
        vocab_size=8000, context=128, head=HeadConfig("dense-norm", "gelu", "output"), core=MODERNBERT
    ),
}
"""By family: the preset multi30k, and encoders of its width."""
HIDDEN = 0.15  # of the tokens of a masked language model


def shape_of(family: str, tiny: bool, dropout: float | None) -> Any:
    """The shape of a family's contestants; tiny to try. dropout: in place of the usual one."""
    shape = SHAPES[family]
    core = replace(shape.core, dim=32, depth=2, n_heads=2, ffn_dim=48) if tiny else shape.core
    if dropout is not None:
        core = replace(core, dropout=dropout, attention_dropout=min(dropout, core.attention_dropout))
    return replace(shape, vocab_size=300 if tiny else shape.vocab_size, core=core)


# ---------------------------------------------------------------------------------------------- batches


def random_batch(family: str, vocabulary: int, rows: int, seed: int) -> Batch:
    """What both sides learn from: sentences of 8 to 24 tokens and their translations, or windows of 128."""
    generator = torch.Generator().manual_seed(seed)
    if family != "marian":
        ids = torch.randint(5, vocabulary, (rows, 128), generator=generator)
        places = torch.randperm(ids.numel(), generator=generator)[: int(HIDDEN * ids.numel())].sort().values
        targets = ids.flatten()[places]
        return ids.flatten().index_fill(0, places, 4).view_as(ids), places, targets
    lengths = torch.randint(8, 25, (2, rows), generator=generator).sort().values  # a side each
    source, target = (torch.randint(5, vocabulary, (rows, int(side.max())), generator=generator) for side in lengths)
    behind = torch.arange(target.shape[1]) >= lengths[1].unsqueeze(1)  # (B, T)
    inputs = torch.cat((target.new_ones(rows, 1), target[:, :-1]), dim=1)
    padding = torch.arange(source.shape[1]) >= lengths[0].unsqueeze(1)  # (B, N)
    return (
        source.masked_fill(padding, 0),
        lengths[0],
        inputs.masked_fill(behind, 0),
        target.masked_fill(behind, IGNORED),
    )


# ---------------------------------------------------------------------------------------------- both sides


class TheirTranslationLoss(nn.Module):
    """transformers' model as `text.tasks.translation.TranslationLoss`, but the mean."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, lengths: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        mask = torch.arange(source.shape[1]) < lengths.unsqueeze(1)  # (B, N)
        loss: Tensor = self.model(source, mask.long(), decoder_input_ids=inputs, labels=targets).loss
        return loss


class TheirMaskedLoss(nn.Module):
    """transformers' model as `text.tasks.masked.MaskedLoss`, but the mean."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        labels = torch.full((ids.numel(),), IGNORED).index_copy(0, places, targets).view_as(ids)
        loss: Tensor = self.model(ids, labels=labels).loss
        return loss


def objective_of(side: str, family: str, shape: Any, seed: int) -> tuple[nn.Module, bool]:
    """A side's loss as a module, and whether it is summed over the targets; both sides have the same weights."""
    torch.manual_seed(seed)
    model = build_model(shape)
    if side == "ours":
        return (TranslationLoss(model, 0.0) if family == "marian" else MaskedLoss(model)), True
    from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    with TemporaryDirectory() as folder:
        export_pretrained(model, Path(folder) / "model", family)
        kind = AutoModelForSeq2SeqLM if family == "marian" else AutoModelForMaskedLM
        theirs = kind.from_pretrained(Path(folder) / "model")
    return (TheirTranslationLoss(theirs) if family == "marian" else TheirMaskedLoss(theirs)), False


def train_step(
    seed: int, side: str, family: str, rows: int, precision: str, steps: int, tiny: bool, dropout: float | None = None
) -> dict[str, float]:
    """Mean cross-entropy, backward, gradient norm at most 1, fused AdamW; tokens are those of all rows, padding too."""
    keep_freed_memory()
    shape = shape_of(family, tiny, dropout)
    objective, summed = objective_of(side, family, shape, seed)
    batch = random_batch(family, shape.vocab_size, rows, seed)
    learn = learner(objective.train(), summed, batch, precision)
    first = learn().item()
    timed = time_steps(learn, warmup=2, rounds=steps)
    tokens = batch[0].numel() + (batch[2].numel() if family == "marian" else 0)
    return {"tokens_per_core_second": tokens / timed["step_core_seconds"], **timed, "first_loss": first}


def learner(objective: nn.Module, summed: bool, batch: Batch, precision: str) -> Callable[[], Tensor]:
    """The training step that both sides share; returns the mean loss."""
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3, fused=True)
    count = int((batch[-1] != IGNORED).sum()) if summed else 1

    def step() -> Tensor:
        with autocast(precision, torch.device("cpu")):
            loss: Tensor = objective(*batch) / count
        loss.backward()
        clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step
