"""Everything that a GPU run should print, within ten minutes: steps and MFU, the time to a loss, sampling, attention.

python -m benchmarks.gpu [--minutes 10] [--parts step,loss,sampling,attention,vision,decision,cifar] [--device cuda]

- step: forward, backward, clipping and AdamW of `gpt2-124m` over micro-batches and of `nanogpt-gpu`, in bfloat16,
  compiled, on random tokens: step time, tokens per second, MFU.
- loss: `text.train char-gpu-modern` on tiny Shakespeare, from the start of its process until an evaluation of the
  whole validation split is at most 1.4697, nanoGPT's best.
- sampling: tokens per second of `core.decoding.generate`, batch 1, random weights.
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
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from benchmarks.gpu.decision import sides
from benchmarks.measure.harness import Contestant, run_once
from benchmarks.measure.peaks import utilised
from benchmarks.measure.record import RESULTS, ROOT, number, provenance, table, update
from benchmarks.measure.timing import Device, time_steps, time_to_loss, time_tokens
from benchmarks.peers.decision import PEER
from core.attention import attend
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.devices import autocast, compile_in_place, native_dtype
from core.graph import Route, Span, causal, route, window
from core.optim.config import OptimizerConfig
from core.optim.groups import build_optimizer
from core.training.metrics import read_metrics
from text.models.gpt import GPT, GPTConfig
from text.presets import gpt2_core
from text.tasks.language_modelling import NextTokenLoss

NAME = "gpu"
HERE = f"benchmarks.{NAME}"
SHAPES = {
    "nanogpt-gpu": GPTConfig(65, 256, core=gpt2_core(384, 6, 6, dropout=0.2)),
    "gpt2-124m": GPTConfig(50304, 1024, core=gpt2_core(768, 12, 12)),
}
TINY = {
    "nanogpt-gpu": GPTConfig(65, 32, core=gpt2_core(32, 2, 2, dropout=0.2)),
    "gpt2-124m": GPTConfig(128, 32, core=gpt2_core(32, 2, 2)),
}
UNSHOWN = ("wall_seconds", "core_seconds", "process_seconds", "peak_bytes")  # of the process; in the JSON all the same
SMALLEST = 15.0  # seconds that a measurement needs to be worth starting
WINDOW = 256
CIFAR = ("vit-cifar-best", "cifar10", 8.0, [0, 1, 2])  # preset, data, minutes and seeds


# ---------------------------------------------------------------------------------------------- utilisation


def counted_parameters(model: GPT) -> int:
    """N: the parameters that every token is multiplied with. Position tables and an untied embedding are looked up."""
    total = sum(p.numel() for p in model.parameters())
    looked_up = sum(p.numel() for p in model.core.position.parameters())
    return total - looked_up - (model.embed.weight.numel() if model.config.head == "untied" else 0)


def flops_per_token(model: GPT) -> int:
    """6 N + 12 L H Q T: a training step's FLOPs for one token (Chowdhery 2022, PaLM, appendix B)."""
    core = model.config.core
    return 6 * counted_parameters(model) + 12 * core.depth * core.n_heads * core.head_width * model.config.context


def utilisation(model: GPT, tokens_per_second: float, device_name: str) -> dict[str, float]:
    """What training at a rate makes of the device."""
    return utilised(flops_per_token(model) * tokens_per_second, device_name)


# ---------------------------------------------------------------------------------------------- measurements


def build(shape: str, size: str, seed: int, device: str) -> GPT:
    """A model of a shape with random weights; size: "tiny" or "full"."""
    torch.manual_seed(seed)
    return GPT((TINY if size == "tiny" else SHAPES)[shape]).to(device)


def measure_step(seed: int, shape: str, size: str, batch: int, device: Device, compiled: str) -> dict[str, float]:
    """A training step on random tokens, in bfloat16 where the device multiplies it."""
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    model = build(shape, size, seed, device)
    objective, optimizer = NextTokenLoss(model).train(), build_optimizer(model, OptimizerConfig(lr=6e-4))
    compile_in_place(objective, compiled, torch.device(device), lambda notice: print(notice, file=sys.stderr))
    rows = torch.randint(model.config.vocab_size, (batch, model.config.context + 1), device=device)
    parameters = list(model.parameters())

    def step() -> None:
        with autocast("auto", torch.device(device)):
            loss = objective(rows[:, :-1], rows[:, 1:]) / rows[:, 1:].numel()
        loss.backward()
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        clip_grads_with_norm_(parameters, 1.0, norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    started = time.perf_counter()
    step()
    first = {"first_step_seconds": time.perf_counter() - started}  # compiling is most of it
    warmup, rounds = (1, 2) if size == "tiny" else (10, 50)
    timed = time_steps(step, warmup=warmup, rounds=rounds, seconds=20.0, device=device)
    rate = batch * model.config.context / timed["step_seconds"]
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    speed = {"tokens_per_second": rate, **utilisation(model, rate, name)}
    done = objective._compiled_call_impl is not None
    return {**timed, **speed, **first, "parameters": counted_parameters(model), "compiled": float(done)}


def measure_sampling(seed: int, shape: str, size: str, tokens: int, device: str, dtype: str) -> dict[str, float]:
    """Tokens per second of `core.decoding.generate` with its cache, after one token, batch 1."""
    model = build(shape, size, seed, device).eval().to(getattr(torch, dtype))
    sampling = Sampling(temperature=0.8, top_k=200)
    return time_tokens(lambda n: complete(model, [[0]], n, sampling, seeds=[seed], device=device), tokens)


def measure_attention(seed: int, lengths: Sequence[int], device: Device) -> dict[str, float]:
    """Seconds of forward and backward by length and kind: 12 heads of 64 channels, 32,768 tokens in all on a GPU."""
    torch.manual_seed(seed)
    place, found = torch.device(device), dict[str, float]()
    for length in lengths:
        batch = max(1, 32768 // length) if device == "cuda" else 1
        shape, dtype = (batch, 12, length, 64), native_dtype(place)
        qkv = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
        near, span = causal() & window(WINDOW), Span(batch, length, length)
        routes = {
            "causal": route(causal(), span, place),
            "window": route(near, span, place),
            "window, dense": Route(mask=near.mask(batch, length, length, device=place).unsqueeze(1)),
        }
        for kind, way in routes.items():
            timed = time_steps(partial(attention_step, qkv, way), seconds=2.0, device=device)
            found[f"{kind}, {length}"] = timed["step_seconds"]
    return found


def attention_step(qkv: Sequence[Tensor], way: Route) -> None:
    attend(qkv[0], qkv[1], qkv[2], way).sum().backward()
    for tensor in qkv:
        tensor.grad = None


def measure_loss(
    seed: int, preset: str, data: str, target: float, device: str, options: Sequence[str], limit: float
) -> dict[str, float]:
    """`text.train` as its user starts it; stopped after `limit` seconds.

    `process_seconds_to_target` runs from the start of its process until the evaluation that passes `target` is
    written down. Raises RuntimeError with the end of what it printed when it fails.
    """
    with TemporaryDirectory() as parent:
        out, log = Path(parent) / "run", Path(parent) / "log"
        command = ["text.train", preset, "--data", data, "--out", str(out), "--device", device, "--seed", str(seed)]
        with log.open("w") as file:
            process = subprocess.Popen([sys.executable, "-m", *command, *options], cwd=ROOT, stdout=file, stderr=file)
            try:
                seen = watch(process, out, target, limit)
            finally:
                process.kill()
                process.wait()
        if (seen["ended_by_itself"] and process.returncode) or not (out / "metrics.jsonl").exists():
            raise RuntimeError(f"text.train ended with {process.returncode}: {log.read_text()[-1000:].strip()}")
        records = read_metrics(out)
    losses = [record["val/loss"] for record in records if "val/loss" in record]
    reached = {"best_loss": min(losses), "last_loss": losses[-1]} if losses else {}
    return {**seen, **time_to_loss(records, target), **reached, "steps": records[-1]["step"] if records else 0}


def watch(process: subprocess.Popen[bytes], out: Path, target: float, limit: float) -> dict[str, float]:
    """Follows a run until it ends or `limit` seconds are over: when it passed the target, and how long it took."""
    started, passed = time.perf_counter(), dict[str, float]()
    while True:
        ended = process.poll() is not None
        elapsed = time.perf_counter() - started
        if not passed and (out / "metrics.jsonl").exists() and time_to_loss(read_metrics(out), target):
            passed = {"process_seconds_to_target": elapsed}
        if ended or elapsed > limit:
            return {**passed, "train_process_seconds": elapsed, "ended_by_itself": float(ended)}
        time.sleep(0.05)


# ---------------------------------------------------------------------------------------------- the plan


@dataclass(frozen=True)
class Job:
    """One measurement: a function, of this module unless it says otherwise, its arguments, and the seconds it needs."""

    part: str
    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    module: str = HERE
    seed: int = 0
    needs: float = SMALLEST


def plan(options: argparse.Namespace) -> list[Job]:
    """Every measurement of the parts asked for, the most telling first."""
    largest = max(options.micro_batches)
    smaller = [size for size in options.micro_batches if size != largest]
    jobs = [
        step_job("gpt2-124m", largest, options),
        loss_job(options),
        step_job("nanogpt-gpu", 2 if options.tiny else 64, options),
        *sampling_jobs(options),
        *(step_job("gpt2-124m", size, options) for size in smaller),
        Job("attention", "seconds", "measure_attention", {"lengths": options.lengths, "device": options.device}),
        *vision_jobs(options),
        *decision_jobs(options),
        *cifar_jobs(options),
    ]
    return [job for job in jobs if job.part in options.parts]


def step_job(shape: str, batch: int, options: argparse.Namespace) -> Job:
    work = {"shape": shape, "size": _size(options), "batch": batch, "compiled": options.compile}
    return Job("step", f"{shape}, batch {batch}", "measure_step", {**work, "device": options.device})


def sampling_jobs(options: argparse.Namespace) -> list[Job]:
    """The 10.65 M shape within its context and past it, and GPT-2's, in both dtypes."""
    chosen = [("nanogpt-gpu", 250), ("nanogpt-gpu", 1000), ("gpt2-124m", 1000)]
    return [
        Job(
            "sampling",
            f"{shape}, {tokens} tokens, {dtype}",
            "measure_sampling",
            {"shape": shape, "size": _size(options), "tokens": tokens, "dtype": dtype, "device": options.device},
        )
        for shape, tokens in ([("nanogpt-gpu", 40)] if options.tiny else chosen)
        for dtype in ("float32", "bfloat16")
    ]


def loss_job(options: argparse.Namespace) -> Job:
    work = {"preset": options.preset, "data": options.data, "target": options.target, "device": options.device}
    return Job("loss", options.preset, "measure_loss", {**work, "options": shlex.split(options.train_options)})


def vision_jobs(options: argparse.Namespace) -> list[Job]:
    work = {"size": _size(options), "device": options.device, "compiled": options.compile}
    return [
        Job("vision", preset, "measure_step", {"preset": preset, **work}, module="benchmarks.gpu.vision")
        for preset in options.vision_presets
    ]


def decision_jobs(options: argparse.Namespace) -> list[Job]:
    """Every side at every batch size, eager before compiled."""
    work = {"size": _size(options), "device": options.device}
    return [
        Job(
            "decision",
            f"{side}, batch {batch}, compile {mode}",
            "measure_updates",
            {"side": side, "batch": batch, "compiled": mode, **work},
            module="benchmarks.gpu.decision",
        )
        for mode in dict.fromkeys(("off", options.compile))
        for batch in options.decision_batches
        for side in sides()
    ]


def cifar_jobs(options: argparse.Namespace) -> list[Job]:
    """A whole training run for each seed; it limits its own time, and evaluation comes after."""
    work = {"preset": options.cifar_preset, "data": options.cifar_data, "minutes": options.cifar_minutes}
    work |= {"part": "test", "device": options.device, "options": shlex.split(options.cifar_options)}
    return [
        Job(
            "cifar",
            f"{options.cifar_preset}, seed {seed}",
            "train",
            work,
            module="benchmarks.vision_cifar_cpu",
            seed=seed,
            needs=60 * (options.cifar_minutes + 1),
        )
        for seed in options.cifar_seeds
    ]


def _size(options: argparse.Namespace) -> str:
    return "tiny" if options.tiny else "full"


def perform(job: Job, left: float, threads: int) -> dict[str, Any]:
    """What the job measured, or why it did not: {"failed": ...}."""
    if left < job.needs:
        return {"failed": f"only {left:.0f} s were left"}
    limit = {"limit": left - 10} if job.function == "measure_loss" else {}  # ends its own child in time
    side = Contestant(job.name, f"{job.module}:{job.function}", {**job.arguments, **limit})
    try:
        return run_once(side, seed=job.seed, threads=threads, timeout=left)
    except RuntimeError as failure:
        return {"failed": str(failure)}


def show(name: str, found: Mapping[str, Any]) -> str:
    """What a measurement found, as a table of two columns under its name."""
    if "failed" in found:
        return f"\n### {name}\n\n{found['failed']}\n"
    rows = [[metric, number(value)] for metric, value in found.items() if metric not in UNSHOWN]
    return f"\n### {name}\n\n{table(['', 'value'], rows)}\n"


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a part that is none, or no GPU."""
    parser = argparse.ArgumentParser(prog=f"python -m {HERE}", description=(__doc__ or "").partition("\n")[0])
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
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = parser.parse_args(argv)
    if unknown := set(options.parts) - set(PARTS):
        raise ValueError(f"parts = {sorted(unknown)[0]!r} is not one of: {', '.join(PARTS)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda' is not present; try --device cpu --tiny")
    options.compile = options.compile or ("off" if options.tiny else "default")
    options.micro_batches = options.micro_batches or ([1, 2] if options.tiny else [16, 32, 64])
    options.lengths = options.lengths or ([64] if options.tiny else [1024, 4096, 8192])
    options.decision_batches = options.decision_batches or ([2, 4] if options.tiny else [64, 1024])
    preset, data, minutes, seeds = ("vit-digits", "digits", 0.05, [0]) if options.tiny else CIFAR
    options.cifar_preset, options.cifar_data = options.cifar_preset or preset, options.cifar_data or data
    options.cifar_minutes, options.cifar_seeds = options.cifar_minutes or minutes, options.cifar_seeds or seeds
    return options


def names(words: str) -> list[str]:
    return words.split(",")


def integers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


PARTS = ("step", "loss", "sampling", "attention", "vision", "decision", "cifar")


def run(options: argparse.Namespace) -> None:
    """Every job in turn while there is time, printed and saved as soon as it is measured."""
    until = time.monotonic() + 60 * options.minutes
    settings = {name: value for name, value in vars(options).items() if name not in ("results", "parts")}
    stands = provenance()
    print(f"{', '.join(stands['machine']['gpus']) or stands['machine']['cpu']}; torch {stands['versions']['torch']}")
    if "decision" in options.parts and PEER not in sides():
        print(f"notice: {PEER} is not installed and is left out: pip install {PEER}", file=sys.stderr)
    found: dict[str, dict[str, Any]] = {}
    for job in plan(options):
        part = found.setdefault(job.part, {"provenance": stands, "settings": settings, "measured": {}})
        part["measured"][job.name] = perform(job, until - time.monotonic(), options.threads)
        print(show(f"{job.part}: {job.name}", part["measured"][job.name]), flush=True)
        path = update(NAME, {job.part: part}, options.results)
    print(f"saved to {path}")
