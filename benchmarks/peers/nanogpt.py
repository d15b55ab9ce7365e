"""nanoGPT as a contestant: a clone of karpathy/nanoGPT, run as it is, from weights that are ours.

Its GPT, its optimiser, its `generate` and its train.py are imported or run where they lie, or in a private copy of
the clone where files have to be written. Every function that measures runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure.timing import time_steps, time_tokens
from text.corpus.windows import IGNORED, validation_batches
from text.models.gpt import GPT, GPTConfig
from text.presets import PRESETS

VOCABULARY = 65  # the characters of tiny Shakespeare


def shape_of(preset: str) -> GPTConfig:
    """A preset's model for tiny Shakespeare, without dropout."""
    model = PRESETS[preset].model
    core = replace(model.core, dropout=0.0, attention_dropout=0.0)
    return replace(model, vocab_size=VOCABULARY, core=core)


SHAPES = {"cpu": shape_of("nanogpt-cpu"), "gpu": shape_of("nanogpt-gpu")}
"""nanoGPT's two configurations for Shakespeare."""

NAMES = {
    "embed.weight": "transformer.wte.weight",
    "core.position.tables.0.weight": "transformer.wpe.weight",
    "core.norm.weight": "transformer.ln_f.weight",
    "head.weight": "lm_head.weight",
    "attention.norm": "ln_1",
    "attention.branch.qkv": "attn.c_attn",
    "attention.branch.out": "attn.c_proj",
    "feedforward.norm": "ln_2",
    "feedforward.branch.up": "mlp.c_fc",
    "feedforward.branch.out": "mlp.c_proj",
}
"""What our weights, or a block's modules, are called there."""

EVALUATE_EVERY = 250  # steps, as its configuration for Shakespeare says
FILES = ("model.py", "train.py", "configurator.py", "config/train_shakespeare_char.py")


# ---------------------------------------------------------------------------------------------- the same model


def find_clone(path: Path) -> Path:
    """The clone's absolute path; ValueError when it lacks a file of nanoGPT's."""
    for file in FILES:
        if not (path / file).is_file():
            raise ValueError(f"nanogpt = '{path}' must be a clone of karpathy/nanoGPT: it has no {file}")
    return path.resolve()


def clone_commit(clone: Path) -> str | None:
    """The commit of the clone; None where it is no checkout."""
    done = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or None


def initial_model(shape: str, seed: int) -> GPT:
    """The model that both sides start from."""
    torch.manual_seed(seed)
    return GPT(SHAPES[shape])


def random_batch(shape: str, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """The (ids, targets) that both sides train on: 2 x (batch, context) int64."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(VOCABULARY, (batch, SHAPES[shape].context + 1), generator=generator)
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def nanogpt_model(clone: Path, ours: GPT) -> Any:
    """nanoGPT's GPT with the shape and the weights of ours."""
    core = ours.config.core
    shape = {"n_layer": core.depth, "n_head": core.n_heads, "n_embd": core.dim, "dropout": core.dropout}
    model = _build(clone, {**shape, "block_size": ours.config.context, "vocab_size": ours.embed.num_embeddings})
    model.load_state_dict({nanogpt_name(name): value for name, value in ours.state_dict().items()})
    return model


def nanogpt_name(name: str) -> str:
    """What nanoGPT calls a weight of ours."""
    if found := re.fullmatch(r"core\.blocks\.(\d+)\.(.+)\.weight", name):
        return f"transformer.h.{found[1]}.{NAMES[found[2]]}.weight"
    return NAMES[name]


def _build(clone: Path, arguments: dict[str, Any]) -> Any:
    """Its GPT, without biases unless `arguments` say otherwise."""
    name = "nanogpt_model"
    spec = importlib.util.spec_from_file_location(name, clone / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module.GPT(module.GPTConfig(**{"bias": False, **arguments}))


# ---------------------------------------------------------------------------------------------- one step


def train_step(seed: int, clone: str, shape: str, batch: int, compiled: str, steps: int) -> dict[str, float]:
    """A training step as train.py makes it on a CPU in float32, where its GradScaler does nothing."""
    model = nanogpt_model(Path(clone), initial_model(shape, seed))
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    called = model if compiled == "off" else torch.compile(model)
    ids, targets = random_batch(shape, batch, seed)
    losses: list[Tensor] = []

    def step() -> None:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3
        _, loss = called(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())

    timed = time_steps(step, rounds=steps)
    return {**timed, "first_loss": losses[0].item()}


# ---------------------------------------------------------------------------------------------- sampling


def sample(seed: int, clone: str, shape: str, tokens: int) -> dict[str, float]:
    """Tokens per second of its `generate`, batch 1, after one newline."""
    model = nanogpt_model(Path(clone), initial_model(shape, seed)).eval()
    start = torch.zeros(1, 1, dtype=torch.long)
    return time_tokens(lambda n: model.generate(start, n, temperature=0.8, top_k=200), tokens)


# ---------------------------------------------------------------------------------------------- a whole run


def prepare(clone: Path, text: Path, folder: Path) -> None:
    """A copy of the clone in `folder`, tiny Shakespeare tokenised in it by its own prepare.py, with no network."""
    shutil.copytree(clone, folder, ignore=shutil.ignore_patterns(".git"))
    data = folder / "data" / "shakespeare_char"
    shutil.copyfile(text, data / "input.txt")
    (data / "requests.py").touch()  # imported at its top for a download: there is none, the text is in place
    subprocess.run([sys.executable, "prepare.py"], cwd=data, check=True, stdout=subprocess.DEVNULL)


def train(seed: int, folder: str, steps: int) -> dict[str, float]:
    """train.py as its README calls it on a CPU, in a copy made by `prepare`; its last weights on the whole split.

    Beyond the README, `always_save_checkpoint` keeps the last weights whatever its own estimate says of them.
    The seed is its own, 1337: `seed` is not read.
    """
    del seed
    with TemporaryDirectory() as out:
        command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *readme_options(steps)]
        measured, printed = run_timed([*command, f"--out_dir={out}"], Path(folder))
        checkpoint = torch.load(Path(out) / "ckpt.pt", weights_only=True)
    model = _build(Path(folder), checkpoint["model_args"])
    model.load_state_dict(checkpoint["model"])
    return {
        "val_loss": whole_split_loss(model, Path(folder), checkpoint["model_args"]["block_size"]),
        "own_estimate": float(checkpoint["best_val_loss"]),
        "steps": checkpoint["iter_num"],
        **loop_seconds(printed),
        **measured,
    }


def readme_options(steps: int) -> list[str]:
    """The options of its README's CPU command; fewer steps than there scale the schedule with them."""
    shape = "--block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --dropout=0.0"
    budget = f"--max_iters={steps} --lr_decay_iters={steps} --eval_interval={min(EVALUATE_EVERY, steps)}"
    system = "--device=cpu --compile=False --eval_iters=20 --log_interval=1 --always_save_checkpoint=True"
    return f"{system} {shape} {budget}".split()


def run_timed(command: Sequence[str], folder: Path) -> tuple[dict[str, float], str]:
    """Runs a program in `folder`: its wall and core seconds from start to end, and what it printed.

    Raises RuntimeError with the end of its standard error when it fails.
    """
    start, core = time.perf_counter(), _children_seconds()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    spent = {"train_seconds": time.perf_counter() - start, "train_core_seconds": _children_seconds() - core}
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return spent, done.stdout


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def loop_seconds(printed: str) -> dict[str, float]:
    """Wall time of its training loop from the lines of its log, with and without its evaluations.

    An evaluation is in the time of the step after it: the median step is taken for that step alone.
    """
    found = re.findall(r"^iter (\d+): loss \S+, time ([\d.]+)ms", printed, flags=re.MULTILINE)
    seconds = {int(step): float(milliseconds) / 1000 for step, milliseconds in found}
    last = max(seconds)
    interval = min(EVALUATE_EVERY, last)
    plain = [spent for step, spent in seconds.items() if step % interval]
    evaluations = len(seconds) - len(plain)
    return {
        "loop_seconds": sum(seconds.values()),
        "loop_seconds_without_evaluation": sum(plain) + evaluations * statistics.median(plain),
    }


@torch.no_grad()
def whole_split_loss(model: nn.Module, folder: Path, context: int) -> float:
    """Mean cross-entropy over its whole val.bin, in the windows that `text.evaluate` takes; float32."""
    tokens = np.fromfile(folder / "data" / "shakespeare_char" / "val.bin", dtype=np.uint16)
    total, count = 0.0, 0
    for ids, targets in validation_batches(tokens, context, 64):
        logits, _ = model.eval()(ids, ids)  # without targets it gives the last place alone
        total += F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum").item()
        count += int((targets != IGNORED).sum())
    return total / count
