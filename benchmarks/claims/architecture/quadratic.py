"""Quadratic: time and memory of a training step against the context, along all edges, in windows, and packed."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Literal

import torch

from benchmarks.claims.common import Claim, Finding, Lab, seeded
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import Condition
from core.devices import keep_freed_memory
from core.graph import Graph, causal, segments, window
from core.memory import peak_memory
from core.positions import index
from core.switch import without_kernels
from core.transformer import Transformer
from text.presets import modern_core

Kind = Literal["full", "window, dense", "window", "packed"]
Steps = dict[str, dict[str, tuple[float, float]]]
"""By kind and length: core-seconds and bytes of a step, each per token."""
WINDOW, DIM, LONG = 256, 128, 8192
LENGTHS: dict[Kind, tuple[int, ...]] = {
    "full": (1024, 4096, 16384),
    "window, dense": (1024, 4096),
    "window": (1024, 4096, 16384, 65536),
    "packed": (1024, 4096, 16384, 65536),
}
ALL = LENGTHS["window"]
QUICK: dict[Kind, tuple[int, ...]] = dict.fromkeys(LENGTHS, ALL[:2])


def graph(kind: Kind, tokens: int) -> Graph:
    """All before; the last 256; or documents of 256 tokens one after another."""
    if kind == "full":
        return causal()
    if kind == "packed":
        return causal() & segments((torch.arange(tokens) // WINDOW).unsqueeze(0))
    return causal() & window(WINDOW)


def step(kind: Kind, tokens: int, seed: int) -> tuple[float, float]:
    """Core-seconds and bytes at their peak, of forward and backward, per token.

    Freed memory is kept, as in every training on a CPU, so that only the first of the steps has to ask for it; the
    least time counts.
    """
    keep_freed_memory()
    core = seeded(seed, lambda: Transformer(modern_core(DIM, 2, 4), extent=(tokens,)))
    x, seconds, before = torch.randn(1, tokens, DIM), [], resident()
    with suppress(OSError):  # from here on the kernel counts the peak anew
        Path("/proc/self/clear_refs").write_text("5")
    with without_kernels() if kind == "window, dense" else nullcontext():
        for _ in range(2 if tokens > LONG else 4):
            core.zero_grad()
            started = time.process_time()
            core(x, index(tokens), graph(kind, tokens)).square().mean().backward()
            seconds.append(time.process_time() - started)
    return min(seconds) / tokens, (peak_memory() - before) / tokens


def resident() -> int:
    """Bytes in memory now; 0 where the system does not say."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    return 0


def alone(kind: Kind, tokens: int, seed: int) -> tuple[float, float]:
    """The same in a process of its own, whose memory nothing has touched."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(step, kind, tokens, seed).result()


def steps(lengths: dict[Kind, tuple[int, ...]], seed: int) -> Steps:
    torch.set_num_threads(1)
    return {kind: {str(n): alone(kind, n, seed) for n in sizes} for kind, sizes in lengths.items()}


def apart(lengths: dict[Kind, tuple[int, ...]], seed: int) -> Steps:
    """All steps, forked from a process that has done nothing but import."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(steps, lengths, seed).result()


def drawn(lengths: dict[Kind, tuple[int, ...]], found: list[Steps], what: str, unit: str, scale: float) -> Lines:
    """A panel; a kind has no value at lengths at which it was not measured."""
    which = ("time", "memory").index(what)
    lines = {
        kind: [[scale * one[kind][str(n)][which] if n in lengths[kind] else None for n in ALL] for one in found]
        for kind in lengths
    }
    return Lines(f"{what} per token of a step", "tokens of a context", unit, ALL, lines, ("log", "log"))


def measure(lab: Lab) -> Finding:
    lengths = QUICK if lab.quick else LENGTHS
    found = lab.each_seed("steps", partial(apart, lengths))

    def ratio(kind: Kind, which: int, longer: int, shorter: int) -> tuple[float, ...]:
        """Of what a token costs at two of a kind's lengths, counted from the end."""
        names = [str(n) for n in lengths[kind]]
        return tuple(one[kind][names[longer]][which] / one[kind][names[shorter]][which] for one in found)

    def shown(kind: Kind, n: int) -> str:
        if n not in lengths[kind]:
            return ""
        seconds, size = (mean(one[kind][str(n)][which] for one in found) for which in (0, 1))
        return f"{1e6 * seconds:.1f} µs, {size / 1e3:.1f} kB"

    longest = str(max(lengths["full"]))
    lead = tuple(one["full"][longest][0] / one["window"][longest][0] for one in found)
    panels = [drawn(lengths, found, "time", "µs", 1e6), drawn(lengths, found, "memory", "kB", 1e-3)]
    return Finding(
        ["per token of a step", *(f"{n:,} tokens" for n in ALL)],
        [[kind, *(shown(kind, n) for n in ALL)] for kind in lengths],
        panels,
        [
            Condition(
                "all edges: time per token, longest context over shortest", ratio("full", 0, -1, 0), "at least", 4, 0.1
            ),
            Condition("window: time per token, longest over second", ratio("window", 0, -1, 1), "at most", 1.1, 0.01),
            Condition(
                "window: memory per token, longest over the one before",
                ratio("window", 1, -1, -2),
                "at most",
                1.1,
                0.01,
            ),
            Condition("packed: time per token, longest over second", ratio("packed", 0, -1, 1), "at most", 1.1, 0.01),
            Condition(f"time along all edges over that in a window, {longest} tokens", lead, "at least", 4, 0.1),
        ],
    )


CLAIM = Claim(
    sentence="Attention costs the square of the context; where tokens attend to near ones alone, it need not.",
    hypothesis="Per token, a step along all edges takes at least 4 times as long at 16,384 tokens as at 1,024; in "
    f"windows of {WINDOW}, and packed, it takes at most 1.1 times as long at 65,536 as at 4,096, in as much "
    "memory (1.1 times that at 16,384); at 16,384 tokens windows are at least 4 times as fast.",
    equal=f"parameters: {DIM} channels, 2 blocks, forward and backward in float32 on one core",
    measure=measure,
    minutes=4,
    least=3,
)
