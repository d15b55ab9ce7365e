"""Parallel: what a token costs in training against the length of its sequence, recurrent and as a Transformer."""

from __future__ import annotations

import time
from functools import partial
from statistics import mean
from typing import Literal

import torch
from torch import nn

from benchmarks.claims.common import Claim, Finding, Lab, generator, parameters, seeded
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import Condition
from text.models.gpt import GPT, GPTConfig
from text.models.recurrent import RecurrentConfig, RecurrentLM
from text.presets import modern_core
from text.tasks.language_modelling import NextTokenLoss

Kind = Literal["LSTM", "GRU", "Transformer"]
KINDS: tuple[Kind, ...] = ("LSTM", "GRU", "Transformer")
LENGTHS, TOKENS, VOCAB, REPEATS = (8, 32, 128, 512, 2048), 4096, 64, 3


def build(kind: Kind) -> nn.Module:
    """Models of about half a million parameters."""
    if kind == "Transformer":
        return GPT(GPTConfig(VOCAB, max(LENGTHS), "untied", modern_core(128, 3, 4)))
    dim = 256 if kind == "LSTM" else 300
    return RecurrentLM(RecurrentConfig(VOCAB, max(LENGTHS), "lstm" if kind == "LSTM" else "gru", dim, head="untied"))


def seconds_per_token(kind: Kind, length: int, seed: int) -> float:
    """Core-seconds of forward and backward over 4,096 tokens in rows of this length: the least of several."""
    objective = NextTokenLoss(seeded(seed, lambda: build(kind)))
    ids = torch.randint(VOCAB, (TOKENS // length, length), generator=generator(seed, "ids"))
    least = float("inf")
    for _ in range(REPEATS):
        objective.zero_grad()
        started = time.process_time()
        objective(ids, ids).backward()
        least = min(least, time.process_time() - started)
    return least / TOKENS


def costs(kind: Kind, lengths: tuple[int, ...], seed: int) -> list[float]:
    return [seconds_per_token(kind, length, seed) for length in lengths]


def peak() -> float:
    """Operations a core-second in products of square matrices of float32: the most of several."""
    a, least = torch.ones(1024, 1024), float("inf")
    for _ in range(5):
        started = time.process_time()
        torch.mm(a, a)
        least = min(least, time.process_time() - started)
    return 2 * 1024**3 / least


def measure(lab: Lab) -> Finding:
    lengths = LENGTHS[1:3] if lab.quick else LENGTHS
    found = {kind: lab.each_seed(kind, partial(costs, kind, lengths)) for kind in KINDS}
    rate = lab.cell("peak", peak)
    sizes = {kind: parameters(build(kind)) for kind in KINDS}
    limit = 6 * sizes["LSTM"] / rate  # a multiplication and an addition, forward and twice backward

    def growth(kind: Kind) -> tuple[float, ...]:
        return tuple(one[-1] / min(one) for one in found[kind])

    lead = tuple(a[-1] / b[-1] for a, b in zip(found["LSTM"], found["Transformer"], strict=True))
    rows = [[f"{kind}, {sizes[kind]:,} parameters", *(f"{1e6 * mean(c):.1f} µs" for c in zip(*ones, strict=True))]
            for kind, ones in found.items()]  # fmt: skip
    lines = {kind: [[1e6 * value for value in one] for one in ones] for kind, ones in found.items()}
    return Finding(
        ["core-time per token", *(f"{length:,} tokens" for length in lengths)],
        [*rows, ["matrix products at this processor's best", *[f"{1e6 * limit:.1f} µs"] * len(lengths)]],
        [Lines("training on 4,096 tokens", "tokens of a sequence", "µs per token", lengths,
               lines | {"the limit": [[1e6 * limit] * len(lengths)]}, ("log", "log"))],
        [
            Condition("LSTM: the longest sequences over the cheapest", growth("LSTM"), "at least", 2, 0.1),
            Condition("Transformer: the longest over the cheapest", growth("Transformer"), "at most", 3, 0.1),
            Condition("LSTM over Transformer, longest sequences", lead, "at least", 2, 0.1),
        ],
        ["Batches hold the same number of tokens, so that longer sequences are fewer. On one core: what several cores "
         "or a GPU would gain is not measured.",
         "PyTorch has one fused kernel for an LSTM on a CPU (oneDNN), but takes a GRU's steps one by one, and there "
         "the price of few rows a step is seen."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="A Transformer trains on all tokens at once; a recurrent network has to go through them one by one.",
    hypothesis="With as many tokens in a batch, a token costs an LSTM at least twice as much in sequences of 2,048 as "
    "in the cheapest, a Transformer at most 3 times; at 2,048 it costs the LSTM at least twice what it costs the "
    "Transformer.",
    equal="parameters to a tenth, and the tokens of a batch; float32 on one core",
    measure=measure,
    minutes=3,
    least=2,
)
