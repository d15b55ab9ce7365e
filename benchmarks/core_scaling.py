"""How the core scales: a step's time and memory over context, batch and graph, and where fused attention pays.

python -m benchmarks.core_scaling [--parts context,batch,attention] [--device cpu|cuda] [--precision fp32|bf16]

- context: forward and backward of a small core over 128 to 8,192 tokens, under every graph, attention as the
  core chooses it (fused, or explicit where `core.attention.explicit_is_faster`), and explicit up to 2,048 tokens.
- batch: the same at one context.
- attention: the fused kernel against the explicit path alone, forward and backward, causal, by dtype and length:
  what the rule `core.attention.explicit_is_faster` rests on.

Every point of the first two is a process of its own, so that its peak of memory is its own. `growth_bytes` is that
peak less what the process held before its first step. Writes benchmarks/results/core_scaling.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure.harness import Contestant, Spread, run_once
from benchmarks.measure.options import add_results, check_known, integers, names, parser_of
from benchmarks.measure.record import number, provenance, table, update
from benchmarks.measure.timing import Device, time_steps
from core.attention import Attention, explicit_attend, explicit_is_faster
from core.cli.exits import main
from core.config import TransformerConfig
from core.devices import autocast
from core.graph import Graph, Route, causal, full, padding, window
from core.memory import peak_memory
from core.positions import index
from core.transformer import Transformer

NAME = "core_scaling"
HERE = f"benchmarks.{NAME}"
GRAPHS = ("full", "causal", "causal & window", "padding")
BACKENDS = ("fused", "explicit")
WINDOW = 128
AFFORDABLE = 2048  # the longest context for explicit attention
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOKENS = 8192  # of a measurement of attention alone: batch x length


# ---------------------------------------------------------------------------------------------- one point


def build_graph(name: str, batch: int, context: int, device: str) -> Graph:
    """A graph by name. Padding is on the right, of up to half a row, and differs from row to row."""
    if name == "padding":
        lengths = context - torch.arange(1, batch + 1, device=device) * context // (2 * batch)
        return padding(lengths)
    return {"full": full(), "causal": causal(), "causal & window": causal() & window(WINDOW)}[name]


def explicit(q: Tensor, k: Tensor, v: Tensor, route: Route, dropout: float = 0.0, scale: float | None = None) -> Tensor:
    """The explicit path as an `Attend`."""
    return explicit_attend(q, k, v, route, dropout, scale)[0]


def build_core(dim: int, depth: int, backend: str, device: str) -> Transformer:
    """A plain core with rotary positions whose attention takes the backend."""
    core = Transformer(TransformerConfig(dim=dim, depth=depth, n_heads=dim // 32), extent=(1,)).to(device)
    for module in core.modules():
        if backend == "explicit" and isinstance(module, Attention):
            module.attend = explicit
    return core


def measure(
    seed: int, context: int, batch: int, graph: str, backend: str, device: Device, precision: str, dim: int, depth: int
) -> dict[str, float]:
    """Forward and backward of a core at one point: time and memory."""
    torch.manual_seed(seed)
    core = build_core(dim, depth, backend, device)
    x = torch.randn(batch, context, dim, device=device, requires_grad=True)  # (B, T, D)
    at, edges = index(context, device=device), build_graph(graph, batch, context, device)

    def step() -> None:
        with autocast(precision, torch.device(device)):
            y = core(x, at, edges)  # (B, T, D)
        y.float().square().mean().backward()
        for tensor in (x, *core.parameters()):
            tensor.grad = None

    before = peak_memory()
    timed = time_steps(step, warmup=1, rounds=10, seconds=1.0, device=device)
    return {**timed, "growth_bytes": timed.get("device_peak_bytes", timed["peak_bytes"] - before)}


# ---------------------------------------------------------------------------------------------- attention alone


def measure_attention(
    seed: int, length: int, n_heads: int, head_dim: int, device: Device, precision: str
) -> dict[str, float]:
    """Both backends of causal attention at one length, taking turns in one process; seconds of CPU, or of the GPU."""
    torch.manual_seed(seed)
    shape = (max(1, TOKENS // length), n_heads, length, head_dim)
    q, k, v = (torch.randn(shape, device=device, dtype=DTYPES[precision], requires_grad=True) for _ in range(3))

    def step(backend: str) -> None:
        if backend == "fused":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, Dh)
        else:
            y = explicit(q, k, v, Route(causal=True))
        y.sum().backward()
        for tensor in (q, k, v):
            tensor.grad = None

    metric = "step_seconds" if device == "cuda" else "step_core_seconds"
    found: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    for _ in range(3):
        for backend in BACKENDS:
            timed = time_steps(partial(step, backend), warmup=1, rounds=5, seconds=0.4, device=device)
            found[backend].append(timed[metric])
    medians = {f"{backend}_seconds": Spread.of(found[backend]).median for backend in BACKENDS}
    ratio = medians["fused_seconds"] / medians["explicit_seconds"]
    return {**medians, "fused_over_explicit": ratio, "rule_says_explicit": float(explicit_is_faster(q, k))}


# ---------------------------------------------------------------------------------------------- sweeps


def context_points(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every graph over every context, then explicit attention where it is affordable."""
    for context in options.lengths:
        for graph in GRAPHS:
            yield {"context": context, "batch": options.batch, "graph": graph, "backend": "chosen"}
        if context <= AFFORDABLE:
            for graph in ("causal", "causal & window"):
                yield {"context": context, "batch": options.batch, "graph": graph, "backend": "explicit"}


def batch_points(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Causal, and with padding, over every batch."""
    for batch in options.batches:
        for graph in ("causal", "padding"):
            yield {"context": options.context, "batch": batch, "graph": graph, "backend": "chosen"}


def attention_points(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every length in both dtypes."""
    for precision in DTYPES:
        for length in options.attention_lengths:
            yield {"length": length, "precision": precision, "n_heads": 4, "head_dim": 64}


def sweep_core(points: Iterator[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """The points of a sweep of the core, each with what was measured."""
    common = {"device": options.device, "precision": options.precision, "dim": options.dim, "depth": options.depth}
    return sweep("measure", points, common, options)


def sweep(
    function: str, points: Iterator[dict[str, Any]], common: dict[str, Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Every point in a process of its own; one that fails, for want of memory say, says so instead of figures."""
    found = []
    for point in points:
        side = Contestant(" ".join(map(str, point.values())), f"{HERE}:{function}", {**common, **point})
        try:
            found.append({**point, **run_once(side, seed=0, threads=options.threads, timeout=options.timeout)})
        except RuntimeError as failure:
            found.append({**point, "failed": str(failure).splitlines()[-1]})
    return found


def show(part: str, rows: Sequence[dict[str, Any]]) -> str:
    """The table of a part."""
    columns = ATTENTION_COLUMNS if part == "attention" else CORE_COLUMNS
    cells = [[_cell(row.get(column), column, row) for column in columns] for row in rows]
    return table([columns[column] for column in columns], cells)


CORE_COLUMNS = {
    "graph": "graph",
    "backend": "backend",
    "context": "context",
    "batch": "batch",
    "step_seconds": "step ms",
    "step_core_seconds": "core-ms",
    "growth_bytes": "memory MiB",
}
ATTENTION_COLUMNS = {
    "precision": "dtype",
    "length": "length",
    "fused_seconds": "fused ms",
    "explicit_seconds": "explicit ms",
    "fused_over_explicit": "fused / explicit",
    "rule_says_explicit": "explicit_is_faster",
}


def _cell(value: Any, column: str, row: dict[str, Any]) -> str:
    if value is None:
        return row.get("failed", "-")[:60]
    if column == "rule_says_explicit":
        return "yes" if value else "no"
    if column.endswith("seconds"):
        return number(value * 1000)
    return number(value / 2**20) if column.endswith("bytes") else value if isinstance(value, str) else number(value)


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--parts", type=names, default=list(PARTS), help="of " + ",".join(PARTS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="fp32", help="of the core; attention has both")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dim", type=int, default=128, help="width of the core, a multiple of 32")
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--lengths", type=integers, default=[128, 512, 2048, 8192], help="contexts")
    parser.add_argument("--batch", type=int, default=1, help="over contexts")
    parser.add_argument("--batches", type=integers, default=[1, 4, 16, 64])
    parser.add_argument("--context", type=int, default=256, help="over batches")
    parser.add_argument("--attention-lengths", type=integers, default=[64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one point")
    add_results(parser)
    options = parser.parse_args(argv)
    check_known(options, parts=PARTS)
    if options.dim % 32:
        raise ValueError(f"dim = {options.dim} must be a multiple of 32, the width of a head")
    return options


PARTS = {
    "context": lambda options: sweep_core(context_points(options), options),
    "batch": lambda options: sweep_core(batch_points(options), options),
    "attention": lambda options: sweep(
        "measure_attention", attention_points(options), {"device": options.device}, options
    ),
}


def run(options: argparse.Namespace) -> None:
    """Every part asked for, printed and saved as soon as it is measured; other parts of the file stay."""
    settings = {name: value for name, value in vars(options).items() if name not in ("results", "parts")}
    for part in options.parts:
        points = PARTS[part](options)
        print(f"\n## {part}, {options.device}\n\n{show(part, points)}\n", flush=True)
        path = update(
            NAME, {part: {"provenance": provenance(), "settings": settings, "points": points}}, options.results
        )
    print(f"saved to {path}")


if __name__ == "__main__":
    main(lambda: run(parse()))
