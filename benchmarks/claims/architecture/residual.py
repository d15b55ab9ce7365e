"""What breaks without the residual sum, without a norm, with the norm behind the sum, and without 1 / sqrt(d)."""

from __future__ import annotations

import math
from functools import partial
from statistics import mean
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.claims.common import Claim, Finding, Lab, fit, generator, next_token, seeded, spread, targets_of
from benchmarks.claims.materials.characters import NEEDS, held_out_loss, shakespeare, windows
from benchmarks.claims.picture import Bars, Lines
from benchmarks.claims.verdict import Condition
from core.attention import Attention, LayerContext, record_attention
from core.cli.exits import NonFinite
from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig, ScheduleConfig
from core.transformer import Residual
from text.models.gpt import GPT, GPTConfig

Without = Literal["nothing", "residual sum", "norm", "norm before (but after)", "1 / sqrt(d)"]
KINDS: tuple[Without, ...] = ("nothing", "residual sum", "norm", "norm before (but after)", "1 / sqrt(d)")
DIM, DEPTH, LENGTH, BATCH = 64, 12, 64, 16
WIDTHS = (16, 64, 256)
ADAMW = OptimizerConfig(lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0)
AT_ONCE = ScheduleConfig(kind="cosine", warmup=0.0, final=0.02)


class Bare(nn.Module):
    """branch(norm(x)), to which x is not added."""

    def __init__(self, residual: Residual):
        super().__init__()
        self.branch, self.norm = residual.branch, residual.norm

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        return self.branch(self.norm(x), context)


def build(without: Without, dim: int = DIM, depth: int = DEPTH) -> GPT:
    """A character model of one head whose linear maps all start at unit scale, and something left out."""
    placement: Literal["pre", "post"] = "post" if without == "norm before (but after)" else "pre"
    position = PositionConfig("learned")
    core = TransformerConfig(dim, depth, 1, norm_placement=placement, position=position, init="zero-residual")
    model = GPT(GPTConfig(shakespeare().tokenizer.vocab_size, LENGTH, "untied", core))
    nn.init.normal_(model.embed.weight)
    nn.init.normal_(model.head.weight, std=dim**-0.5)
    for block in model.core.blocks:
        for name in ("attention", "feedforward"):
            residual = getattr(block, name)
            nn.init.normal_(residual.branch.out.weight, std=residual.branch.out.in_features**-0.5)
            if without == "norm":
                residual.norm = nn.Identity()
            if without == "residual sum":
                setattr(block, name, Bare(residual))
            if without == "1 / sqrt(d)" and name == "attention":
                residual.branch.scale = 1.0
    return model


def gradients(model: GPT) -> list[float]:
    """The norm of the first gradient in every block's maps to queries, keys and values."""
    loss = next_token(model, *windows(LENGTH, BATCH)(generator(0, "first")))
    maps = [module.qkv.weight for module in model.modules() if isinstance(module, Attention)]
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, maps)]


@torch.no_grad()
def entropy(without: Without, dim: int, seed: int) -> float:
    """Of the first block's attention at initialisation, in the last half of a window, as a share of the largest."""
    model = seeded(seed, lambda: build(without, dim, depth=1))
    ids, _ = windows(LENGTH, BATCH)(generator(0, "first"))
    with record_attention(model) as maps:
        model(ids)
    [weights] = maps.values()
    each = torch.special.entr(weights[:, 0, LENGTH // 2 :]).sum(-1)  # (B, T / 2)
    return (each / torch.arange(LENGTH // 2 + 1, LENGTH + 1).log()).mean().item()


def examined(without: Without, seconds: float, tested: int | None, seed: int) -> dict[str, Any]:
    """Its first gradients, and the held-out loss, that of guessing where training diverged."""
    model = seeded(seed, lambda: build(without))
    first = gradients(model)
    fitted = partial(fit, count=targets_of, optimizer=ADAMW, schedule=AT_ONCE)
    try:
        fitted(model, next_token, windows(LENGTH, BATCH), seconds, seed)
        loss = held_out_loss(model, LENGTH, tested)
    except NonFinite:
        loss = math.nan
    guessing = math.log(shakespeare().tokenizer.vocab_size)
    return {"gradients": first, "loss": loss if loss < guessing else guessing}


def measure(lab: Lab) -> Finding:
    seconds, tested = lab.seconds(len(KINDS)), 4096 if lab.quick else None
    found = {kind: lab.each_seed(f"without {kind}", partial(examined, kind, seconds, tested)) for kind in KINDS}
    whole, unscaled = ([[entropy(kind, dim, seed) for dim in WIDTHS] for seed in range(lab.seeds)]
                       for kind in ("nothing", "1 / sqrt(d)"))  # fmt: skip
    losses = {kind: [one["loss"] for one in ones] for kind, ones in found.items()}

    def lost(kind: Without) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(losses[kind], losses["nothing"], strict=True))

    norms = {kind: [[max(norm, 1e-12) for norm in one["gradients"]] for one in ones] for kind, ones in found.items()}
    fall = {kind: [one[0] / one[-1] for one in ones] for kind, ones in norms.items()}
    rows = [[kind, spread(losses[kind]), f"{mean(fall[kind]):.3g}"] for kind in KINDS]
    depth = range(1, DEPTH + 1)
    return Finding(
        ["without", "nats per character", "first gradient: first block / last"],
        rows,
        [
            Lines("gradients at initialisation", "block", "norm", depth,
                  norms,
                  ("linear", "log")),
            Lines("attention at initialisation", "channels of a head", "entropy, share of the largest", WIDTHS,
                  {"divided by sqrt(d)": whole, "not divided": unscaled}, ("log", "linear")),
            Bars("without", "nats per character after training", losses),
        ],
        [
            Condition("what leaving out the residual sum costs, in nats", lost("residual sum"), "at least", 0.3, 0.01),
            Condition("what leaving out the norm costs", lost("norm"), "at least", 0.1, 0.01),
            Condition("what the norm behind the sum costs", lost("norm before (but after)"), "at least", 0.1, 0.01),
            Condition("entropy without 1 / sqrt(d) over that with it, 256 channels",
                      tuple(a[-1] / b[-1] for a, b in zip(unscaled, whole, strict=True)), "at most", 0.5, 0.005),
        ],
        [f"{DEPTH} blocks of {DIM} channels with one head; all maps start at unit scale, the rate at its peak of 2e-3 "
         "(no warm-up). A training that diverged counts as guessing."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="Depth needs a residual sum and a norm before each branch; attention needs scores divided by sqrt(d).",
    hypothesis=f"In {DEPTH} blocks, leaving out the residual sum costs at least 0.3 nats per character, leaving out "
    "the norm or putting it behind the sum at least 0.1; without 1 / sqrt(d) the entropy of attention over 256 "
    "channels is at most half of what it is with it.",
    equal="parameters, but for norms, and core-seconds",
    measure=measure,
    minutes=30,
    least=4,
    needs=NEEDS,
)
