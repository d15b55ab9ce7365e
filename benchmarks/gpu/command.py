"""Everything that a GPU run should print, within ten minutes: steps and MFU, the time to a loss, sampling, attention.

python -m benchmarks.gpu [--minutes 10] [--parts step,loss,sampling,attention,vision,decision,cifar] [--device cuda]

- step: forward, backward, clipping and the optimiser of the presets `gpt2-124m` over micro-batches and `nanogpt-gpu`,
  in bfloat16, compiled, on random tokens: step time, tokens per second, MFU.
- loss: `text.train char-gpu-modern` on tiny Shakespeare, from the start of its process until an evaluation of the
  whole validation split is at most 1.4697, nanoGPT's best.
- sampling: tokens per second of `core.decoding.generate`, batch 1, random weights, the same presets.
- attention: forward and backward of one layer's attention: fused causal, a window as the core routes it
  (FlexAttention on a GPU), the same window as a dense mask.
- vision: the training steps of `vit-cifar-best` and `cct-7-3x1` at their batch sizes, alone and with images that are
  varied anew each time: images per second, MFU.
- decision: the paper's training step of a Decision Transformer of its size, in Hopper's shapes, at batches of 64 and
  of 1,024, eager and compiled: ours as `decision.train` runs it, ours alone, and transformers' where it is installed:
  updates per second.
- cifar: `vision.train vit-cifar-best --validation 0` for `--cifar-minutes`, then the accuracy of its last step on
  CIFAR-10's test images; seeds 0, 1, 2 while there is time, for which `--minutes 30` is needed. The files are looked
  for in $TRIPTYCH_DATA.

Every measurement is a process of its own under what is left of the time; one that fails or no longer fits says so and
the rest goes on. `step`, `sampling` and `attention` need no more than torch and numpy, `decision` no simulator. Each
part replaces its own figures in benchmarks/results/gpu.json as soon as it has any. With `--device cpu --tiny`
everything runs once in small.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.gpu.decision import sides
from benchmarks.gpu.plan import PARTS, Job, plan
from benchmarks.measure.harness import Contestant, run_once
from benchmarks.measure.options import add_results, check_known, integers, names, parser_of
from benchmarks.measure.record import number, provenance, table, update
from benchmarks.peers.decision import PEER

NAME = "gpu"
UNSHOWN = ("wall_seconds", "core_seconds", "process_seconds", "peak_bytes")  # of the process; in the JSON all the same
CIFAR = ("vit-cifar-best", "cifar10", 8.0, [0, 1, 2])  # preset, data, minutes and seeds


def perform(job: Job, left: float, threads: int) -> dict[str, Any]:
    """The figures of a job, or why there are none: {"failed": ...}."""
    if left < job.needs:
        return {"failed": f"only {left:.0f} s were left"}
    limit = {"limit": left - 10} if job.part == "loss" else {}  # ends its own child in time
    side = Contestant(job.name, job.function, {**job.arguments, **limit})
    try:
        return run_once(side, seed=job.seed, threads=threads, timeout=left)
    except RuntimeError as failure:
        return {"failed": str(failure)}


def show(name: str, measured: Mapping[str, Any]) -> str:
    """A measurement as a table of two columns under its name."""
    if "failed" in measured:
        return f"\n### {name}\n\n{measured['failed']}\n"
    rows = [[metric, number(value)] for metric, value in measured.items() if metric not in UNSHOWN]
    return f"\n### {name}\n\n{table(['', 'value'], rows)}\n"


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for an unknown part."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="after which nothing runs any more")
    parser.add_argument("--parts", type=names, default=list(PARTS), help=",".join(PARTS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="everything once, in small")
    parser.add_argument("--compile", choices=("off", "default", "max-autotune"), help="default: default; off if tiny")
    parser.add_argument("--micro-batches", type=integers, help="of gpt2-124m; default 16,32,64")
    parser.add_argument("--lengths", type=integers, help="attention; default 1024,4096,8192")
    parser.add_argument("--preset", default="char-gpu-modern", help="loss")
    parser.add_argument("--data", default="shakespeare", help="loss: a name or a text file")
    parser.add_argument("--target", type=float, default=1.4697, help="loss")
    parser.add_argument("--train-options", default="", help="loss: more options of text.train, in one string")
    parser.add_argument("--vision-presets", type=names, default=["vit-cifar-best", "cct-7-3x1"], help="vision")
    parser.add_argument("--decision-batches", type=integers, help="decision: windows; default 64,1024")
    parser.add_argument("--cifar-preset", help="cifar; default vit-cifar-best, or vit-digits if tiny")
    parser.add_argument("--cifar-data", help="cifar: a name; default cifar10, or digits if tiny")
    parser.add_argument("--cifar-minutes", type=float, help="cifar: of training, for each seed; default 8")
    parser.add_argument("--cifar-seeds", type=integers, help="cifar; default 0,1,2")
    parser.add_argument("--cifar-options", default="", help="cifar: more options of vision.train, in one string")
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1), help="of each process")
    add_results(parser)
    options = parser.parse_args(argv)
    check_known(options, parts=PARTS)
    if "vision" in options.parts:
        from vision.presets import PRESETS  # which a machine without the panel's packages lacks

        check_known(options, vision_presets=PRESETS)
    options.compile = options.compile or ("off" if options.tiny else "default")
    options.micro_batches = options.micro_batches or ([1, 2] if options.tiny else [16, 32, 64])
    options.lengths = options.lengths or ([64] if options.tiny else [1024, 4096, 8192])
    options.decision_batches = options.decision_batches or ([2, 4] if options.tiny else [64, 1024])
    preset, data, minutes, seeds = ("vit-digits", "digits", 0.05, [0]) if options.tiny else CIFAR
    options.cifar_preset, options.cifar_data = options.cifar_preset or preset, options.cifar_data or data
    options.cifar_minutes, options.cifar_seeds = options.cifar_minutes or minutes, options.cifar_seeds or seeds
    return options


def run(options: argparse.Namespace) -> None:
    """Every job in turn while there is time, printed and saved as soon as it is measured.

    Raises ValueError where there is no GPU and none was said to be needed.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda' is not present; try --device cpu --tiny")
    until = time.monotonic() + 60 * options.minutes
    settings = {name: value for name, value in vars(options).items() if name not in ("results", "parts")}
    source = provenance()
    print(f"{', '.join(source['machine']['gpus']) or source['machine']['cpu']}; torch {source['versions']['torch']}")
    if "decision" in options.parts and PEER not in sides():
        print(f"notice: {PEER} is not installed and is left out: pip install {PEER}", file=sys.stderr)
    found: dict[str, dict[str, Any]] = {}
    for job in plan(options):
        part = found.setdefault(job.part, {"provenance": source, "settings": settings, "measured": {}})
        part["measured"][job.name] = perform(job, until - time.monotonic(), options.threads)
        print(show(f"{job.part}: {job.name}", part["measured"][job.name]), flush=True)
        path = update(NAME, {job.part: part}, options.results)
    print(f"saved to {path}")
