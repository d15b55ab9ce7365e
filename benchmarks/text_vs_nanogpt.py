"""Against nanoGPT, side by side on a CPU: a training step, the loss that a budget buys, sampling.

python -m benchmarks.text_vs_nanogpt --nanogpt PATH [--parts step,loss,sampling] [--rounds N] [--threads N]

- step: forward, backward, clipping and the optimiser's step, each as its own training loop makes them, from the same
  weights on the same batch (`first_loss` of both sides agrees), eager against eager and compiled against compiled, in
  float32. Our `--precision auto` is measured beside them: nanoGPT has no equivalent on a CPU.
- loss: its README's CPU run, then ours with its loop's wall time (evaluations left out of its, but not of ours) as
  `--minutes`, and with a fraction of it. Losses are of the last weights, over the whole validation split, in float32.
- sampling: its `generate` against `core.decoding.generate`, the 10.65 M shape with the same random weights, batch 1.

PATH is a clone of karpathy/nanoGPT. Each part replaces its own figures in benchmarks/results/text_vs_nanogpt.json.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.measure.harness import Comparison, Contestant, compare, last_json, run_once
from benchmarks.measure.options import check_known, integers, names, numbers, parser_of
from benchmarks.measure.parts import Measured, Part, add_parts, pace, run_parts
from benchmarks.measure.record import ROOT, provenance
from benchmarks.measure.timing import time_steps, time_to_loss, time_tokens
from benchmarks.peers import nanogpt
from benchmarks.peers.nanogpt import SHAPES, initial_model, random_batch, run_timed
from core.cli.exits import main
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.optim.groups import build_optimizer
from core.training.metrics import read_metrics
from core.training.order import Batch
from core.training.run import Run
from text.config import TextConfig
from text.corpus.sources import find_source
from text.presets import PRESETS
from text.tasks.language_modelling import LanguageModelling, NextTokenLoss

NAME = "text_vs_nanogpt"
HERE, THEIRS = f"benchmarks.{NAME}", "benchmarks.peers.nanogpt"
MANY = 1_000_000  # steps: never reached


# ---------------------------------------------------------------------------------------------- our side


def train_step(
    seed: int, shape: str, batch: int, compiled: str, steps: int, precision: str = "fp32"
) -> dict[str, float]:
    """A training step of `text.train` with the preset nanogpt-cpu: everything that `Run` does around it included."""
    with TemporaryDirectory() as folder:
        config = step_config(Path(folder), seed, shape, batch, compiled, precision)
        with Run(config, unit="tokens") as run:
            model = initial_model(shape, seed)
            objective = run.prepare(NextTokenLoss(model), model, partial(build_optimizer, config=config.optimizer))
            same: Batch = random_batch(shape, batch, seed)
            order = run.steps(lambda step, share, progress: [same])
            losses: list[Tensor] = []

            def step() -> None:
                _, micro_batches = next(order)
                gradients = run.backward(objective, micro_batches, count=LanguageModelling.count)
                run.update(gradients)
                losses.append(gradients.loss)

            timed = time_steps(step, rounds=steps)
    return {**timed, "first_loss": losses[0].item()}


def step_config(folder: Path, seed: int, shape: str, batch: int, compiled: str, precision: str) -> TextConfig:
    """The preset nanogpt-cpu, never evaluating or saving."""
    return replace(
        PRESETS["nanogpt-cpu"],
        out=folder,
        seed=seed,
        steps=MANY,
        eval_every=MANY,
        save_every=MANY,
        batch_size=batch,
        device="cpu",
        compile=cast(Any, compiled),
        precision=cast(Any, precision),
        model=SHAPES[shape],
    )


def sample(seed: int, shape: str, tokens: int, dtype: str = "float32") -> dict[str, float]:
    """Tokens per second of `core.decoding.generate` with its cache, batch 1, after one newline."""
    model = initial_model(shape, seed).eval().to(getattr(torch, dtype))
    sampling = Sampling(temperature=0.8, top_k=200)
    return time_tokens(lambda n: complete(model, [[0]], n, sampling, seeds=[seed]), tokens)


def train(
    seed: int, preset: str, seconds: float, target: float, options: Sequence[str] = (), steps: int = 0
) -> dict[str, float]:
    """`text.train PRESET` with a budget of `seconds` (or of `steps`, where given), then `text.evaluate` of its end.

    Where the run passes the loss `target` at an evaluation, `seconds_to_target` and `steps_to_target` say when.
    """
    budget = ["--steps", str(steps)] if steps else ["--minutes", str(seconds / 60)]
    with TemporaryDirectory() as parent:
        out = str(Path(parent) / "run")
        command = ["text.train", preset, "--data", "shakespeare", "--out", out, "--device", "cpu", "--seed", str(seed)]
        measured, _ = run_timed([sys.executable, "-m", *command, *budget, *options], ROOT)
        evaluate = [sys.executable, "-m", "text.evaluate", out, "--checkpoint", "last", "--device", "cpu", "--json"]
        _, printed = run_timed(evaluate, ROOT)
        records = read_metrics(Path(out))
    return {
        "val_loss": last_json(printed)["val/loss"],
        "steps": records[-1]["step"],
        "loop_seconds": records[-1]["seconds"],
        "budget_seconds": seconds,
        **time_to_loss(records, target),
        **measured,
    }


# ---------------------------------------------------------------------------------------------- comparisons


def compare_steps(options: argparse.Namespace) -> Measured:
    """Eager against eager, compiled against compiled, for every shape."""
    for shape in options.shapes:
        for way, compiled in (("eager", "off"), ("compiled", "default")):
            batch = 12 if shape == "cpu" else options.gpu_batch
            work = {"shape": shape, "batch": batch, "compiled": compiled, "steps": options.steps}
            sides = [
                Contestant("ours", f"{HERE}:train_step", work),
                Contestant("ours, precision auto", f"{HERE}:train_step", {**work, "precision": "auto"}),
                Contestant("nanoGPT", f"{THEIRS}:train_step", {"clone": str(options.nanogpt), **work}),
            ]
            yield compare(f"step {shape} {way}", sides, **pace(options)), beside(options)


def compare_sampling(options: argparse.Namespace) -> Measured:
    """Short of the context and past it."""
    for tokens in options.tokens:
        work = {"shape": options.sampling_shape, "tokens": tokens}
        sides = [
            Contestant("ours", f"{HERE}:sample", work),
            Contestant("ours, bfloat16 weights", f"{HERE}:sample", {**work, "dtype": "bfloat16"}),
            Contestant("nanoGPT", f"{THEIRS}:sample", {"clone": str(options.nanogpt), **work}),
        ]
        yield compare(f"sampling {tokens}", sides, **pace(options)), beside(options)


def compare_losses(options: argparse.Namespace) -> Measured:
    """nanoGPT's run, then ours with fractions of the time it took; every other round in the opposite order.

    A round in the opposite order takes its budget from the nanoGPT run of the round before, its neighbour.
    """
    text = next(find_source("shakespeare").documents()).path
    assert text is not None
    with TemporaryDirectory() as parent:
        folder = Path(parent) / "nanogpt"
        nanogpt.prepare(options.nanogpt, text, folder)
        theirs = Contestant("nanoGPT", f"{THEIRS}:train", {"folder": str(folder), "steps": options.nanogpt_steps})
        yield alternate(theirs, options), beside(options)


def alternate(theirs: Contestant, options: argparse.Namespace) -> Comparison:
    """The rounds of `compare_losses`."""
    names = {f"ours, {fraction:.3g} x its time": fraction for fraction in options.fractions}
    rounds: dict[str, list[Mapping[str, float]]] = {name: [] for name in (*names, theirs.name)}
    order, seeds = [theirs.name, *names], range(options.rounds)
    for seed in seeds:
        for name in order:
            side = theirs if name == theirs.name else _ours(name, names[name], rounds[theirs.name][-1], options)
            rounds[name].append(run_once(side, seed=seed, threads=options.threads))
            print(f"loss: round {seed + 1} {name}: {_brief(rounds[name][-1])}", file=sys.stderr)
        order.reverse()
    sides = (*(_ours(name, names[name], rounds[theirs.name][-1], options) for name in names), theirs)
    return Comparison("loss", sides, rounds, tuple(seeds), options.threads, provenance())


def _ours(name: str, fraction: float, theirs: Mapping[str, float], options: argparse.Namespace) -> Contestant:
    """Our run with a fraction of the time that nanoGPT's loop took without its evaluations."""
    seconds = fraction * theirs["loop_seconds_without_evaluation"]
    work = {"preset": options.preset, "seconds": seconds, "target": theirs["val_loss"], "steps": options.our_steps}
    return Contestant(name, f"{HERE}:train", {**work, "options": shlex.split(options.train_options)})


def _brief(measured: Mapping[str, float]) -> str:
    wall, core = measured["train_seconds"], measured["train_core_seconds"]
    return f"loss {measured['val_loss']:.4f}, {measured['steps']} steps, {wall:.1f} s, {core:.1f} core-s"


def beside(options: argparse.Namespace) -> dict[str, str | None]:
    """What is saved with every comparison."""
    return {"nanogpt_commit": nanogpt.clone_commit(options.nanogpt)}


LOSS = ("val_loss", "steps", "loop_seconds", "train_seconds", "train_core_seconds")
PARTS = {
    "step": Part(compare_steps, 5, ("step_core_seconds", "step_seconds")),
    "loss": Part(compare_losses, 3, LOSS),
    "sampling": Part(compare_sampling, 3, ("tokens_per_second", "tokens_per_core_second")),
}


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a clone, part or preset that is none."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a clone of karpathy/nanoGPT")
    add_parts(parser, PARTS)
    parser.add_argument("--shapes", type=names, default=["cpu"], help="step: of cpu,gpu, nanoGPT's two configurations")
    parser.add_argument("--gpu-batch", type=int, default=4, help="step: sequences of 256 for the shape gpu")
    parser.add_argument("--steps", type=int, default=50, help="step: measured in each process")
    parser.add_argument("--preset", default="char-modern", help="loss: ours")
    parser.add_argument("--fractions", type=numbers, default=[1.0, 1 / 3], help="loss: of nanoGPT's time, for ours")
    parser.add_argument("--train-options", default="", help="loss: more options of text.train, in one string")
    parser.add_argument("--nanogpt-steps", type=int, default=2000, help="loss: its README says 2000")
    parser.add_argument("--our-steps", type=int, default=0, help="loss: a budget in steps instead of its time, to try")
    parser.add_argument("--tokens", type=integers, default=[250, 1000], help="sampling: new tokens")
    parser.add_argument("--sampling-shape", default="gpu", choices=list(SHAPES), help="sampling: gpu is 10.65 M")
    options = parser.parse_args(argv)
    check_known(options, parts=PARTS, shapes=SHAPES, preset=PRESETS)
    return options


def run(options: argparse.Namespace) -> None:
    """Every part asked for, printed and saved as soon as it is measured. Raises ValueError where there is no clone."""
    options.nanogpt = nanogpt.find_clone(options.nanogpt)
    run_parts(NAME, PARTS, options)


if __name__ == "__main__":
    main(lambda: run(parse()))
