"""Heads: one wide head against several narrow ones, what single heads do, and what each is worth when it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.claims.common import (
    Claim,
    Finding,
    Lab,
    fit,
    generator,
    next_token,
    parameters,
    seeded,
    spread,
    targets_of,
)
from benchmarks.claims.materials.characters import NEEDS, held_out_loss, shakespeare, windows
from benchmarks.claims.picture import Cells, Lines
from benchmarks.claims.verdict import Condition
from core.attention import Attention, record_attention
from text.corpus.windows import validation_batches
from text.models.gpt import GPT, GPTConfig
from text.presets import MUON, modern_core

DIM, DEPTH, LENGTH, BATCH = 64, 4, 128, 16
HEADS, OURS = (1, 2, 4, 8, 16), 4
MARKS = " \n.,;:!?'-"


def trained(heads: int, seconds: float, seed: int) -> GPT:
    core = modern_core(DIM, DEPTH, heads)
    config = GPTConfig(shakespeare().tokenizer.vocab_size, LENGTH, "untied", core)
    model: GPT = seeded(seed, lambda: GPT(config))
    fit(model, next_token, windows(LENGTH, BATCH), seconds, seed, count=targets_of, optimizer=MUON)
    return model


@torch.no_grad()
def weights(model: GPT, ids: Tensor) -> Tensor:
    """Of all heads, layer by layer: ids (B, T) -> (L H, B, T, T)."""
    with record_attention(model) as maps:
        model(ids)
    return torch.stack([*maps.values()]).transpose(1, 2).flatten(0, 1)  # (L, B, H, T, T) -> (L H, B, T, T)


def scores(model: GPT) -> dict[str, list[float]]:
    """What each head attends to, as a share of its weight: L H numbers each."""
    ids = next(validation_batches(shakespeare().validation, LENGTH, 64))[0]
    maps = weights(model, ids)[:, :, LENGTH // 2 :]  # (L H, B, T / 2, T): queries with many keys
    queries = torch.arange(LENGTH // 2, LENGTH)
    before = maps[:, :, torch.arange(LENGTH // 2), queries - 1].mean((1, 2))
    marks = torch.tensor(shakespeare().tokenizer.encode(MARKS).astype("int64"))
    at_marks = (maps * torch.isin(ids, marks)[None, :, None]).sum(-1).mean((1, 2))
    return {"previous character": before.tolist(), "punctuation": at_marks.tolist(), "induction": induction(model)}


def induction(model: GPT) -> list[float]:
    """Weight on what followed the same character before, in random characters that are repeated: L H numbers."""
    half, vocab = LENGTH // 2, shakespeare().tokenizer.vocab_size
    once = torch.stack([torch.randperm(vocab, generator=generator(n, "once"))[:half] for n in range(32)])
    queries = torch.arange(half, 2 * half - 1)
    return weights(model, once.repeat(1, 2))[:, :, queries, queries - half + 1].mean((1, 2)).tolist()


@contextmanager
def cut(model: GPT, layer: int, head: int) -> Iterator[None]:
    """Inside, a head passes nothing on."""
    branch = model.core.blocks[layer].get_submodule("attention.branch")
    assert isinstance(branch, Attention)
    columns = branch.out.weight.data[:, head * branch.head_dim : (head + 1) * branch.head_dim]
    before = columns.clone()
    columns.zero_()
    try:
        yield
    finally:
        columns.copy_(before)


def examined(seconds: float, characters: int, tested: int | None, seed: int) -> dict[str, Any]:
    """Its held-out loss, what its heads do, and what each costs when it is cut, in nats per character."""
    model = trained(OURS, seconds, seed)
    whole, costs = held_out_loss(model, LENGTH, characters), []
    for layer in range(DEPTH):
        for head in range(OURS):
            with cut(model, layer, head):
                costs.append(held_out_loss(model, LENGTH, characters) - whole)
    return {"scores": scores(model), "costs": costs, "loss": held_out_loss(model, LENGTH, tested)}


def loss_of(heads: int, seconds: float, tested: int | None, seed: int) -> float:
    return held_out_loss(trained(heads, seconds, seed), LENGTH, tested)


def measure(lab: Lab) -> Finding:
    seconds = lab.seconds(len(HEADS))
    few, tested = (512, 4096) if lab.quick else (16384, None)
    known = lab.each_seed(f"{OURS} heads, examined", partial(examined, seconds, few, tested))
    losses = {n: [one["loss"] for one in known] if n == OURS else
              lab.each_seed(f"{n} heads", partial(loss_of, n, seconds, tested)) for n in HEADS}  # fmt: skip
    one = [a - b for a, b in zip(losses[1], losses[OURS], strict=True)]
    best = {kind: [max(each["scores"][kind]) for each in known] for kind in known[0]["scores"]}
    worth = [max(each["costs"]) / max(1e-4, median(each["costs"])) for each in known]
    size = parameters(GPT(GPTConfig(65, LENGTH, "untied", modern_core(DIM, DEPTH, OURS))))
    table = [[f"{n} of {DIM // n}", spread(values)] for n, values in losses.items()]
    table += [[f"highest share of a head's weight on: {kind}", spread(values)] for kind, values in best.items()]
    table += [["cutting the dearest head, over the median head", spread(worth, 1)]]
    first, names = known[0], [f"{layer}.{head}" for layer in range(DEPTH) for head in range(OURS)]
    grid = [[values[n] for values in first["scores"].values()] for n in range(len(names))]
    costs = [first["costs"][n * OURS : (n + 1) * OURS] for n in range(DEPTH)]
    return Finding(
        ["", "nats per character, or share"],
        table,
        [
            Lines("one wide head or several narrow ones", "heads", "nats per character", HEADS,
                  {"": [list(row) for row in zip(*losses.values(), strict=True)]}, ("log", "linear")),
            Cells("seed 0: share of weight, the darker the more", "", "layer.head", grid, names, [*first["scores"]]),
            Cells("seed 0: loss when a head is cut, the darker the more", "head", "layer", costs,
                  [*map(str, range(DEPTH))], [*map(str, range(OURS))]),
        ],
        [
            Condition(f"what one head loses against {OURS}, in nats", tuple(one), "at least", 0.01, 0.003),
            Condition("most weight of a head on the character before", tuple(best["previous character"]), "at least",
                      0.5, 0.005),
            Condition("what the dearest head costs over the median one", tuple(worth), "at least", 3, 0.1),
        ],
        [f"A character model of {size:,} parameters, {DIM} channels and {DEPTH} blocks on tiny Shakespeare."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="Several heads beat one of the same total width, since each can look for something of its own.",
    hypothesis=f"{OURS} heads of {DIM // OURS} reach a loss at least 0.01 nats per character below one head of {DIM}; "
    "some head gives at least half of its weight to the character before; cutting the dearest head costs at least 3 "
    "times what the median head costs.",
    equal="parameters and core-seconds",
    measure=measure,
    minutes=30,
    least=4,
    needs=NEEDS,
)
