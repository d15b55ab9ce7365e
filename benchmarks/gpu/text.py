"""Text presets on a GPU: the training step with its MFU, and sampling."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from functools import partial

import torch

from benchmarks.gpu.updates import updater
from benchmarks.measure.timing import Device, is_compiled, time_steps, time_tokens
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.devices import compile_in_place
from core.flops import utilised
from core.optim.groups import build_optimizer
from text.models.gpt import GPT, GPTConfig
from text.presets import PRESETS
from text.tasks.language_modelling import NextTokenLoss

CHARACTERS = 65  # of tiny Shakespeare


def shape_of(preset: str, size: str) -> GPTConfig:
    """The preset's model with a vocabulary: its own, or that of tiny Shakespeare. size "tiny": a small one."""
    model: GPTConfig = PRESETS[preset].model
    if size == "tiny":
        core = replace(model.core, dim=32, depth=2, n_heads=2)
        return replace(model, vocab_size=CHARACTERS, context=32, core=core)
    return replace(model, vocab_size=model.vocab_size or CHARACTERS)


def build(preset: str, size: str, seed: int, device: str) -> GPT:
    """The preset's model with random weights; size: "tiny" or "full"."""
    torch.manual_seed(seed)
    return GPT(shape_of(preset, size)).to(device)


# ---------------------------------------------------------------------------------------------- utilisation


def multiplied_parameters(model: GPT) -> int:
    """N: the parameters that take part in every token's products; tables of positions and untied embeddings do not."""
    total = sum(p.numel() for p in model.parameters())
    looked_up = sum(p.numel() for p in model.core.position.parameters())
    return total - looked_up - (model.embed.weight.numel() if model.config.head == "untied" else 0)


def flops_per_token(model: GPT) -> int:
    """6 N + 12 L H Q T: a training step's FLOPs for one token (Chowdhery 2022, PaLM, appendix B)."""
    core = model.config.core
    attention = 12 * core.depth * core.n_heads * core.head_width * model.config.context
    return 6 * multiplied_parameters(model) + attention


def utilisation(model: GPT, tokens_per_second: float, device_name: str) -> dict[str, float]:
    """`tflops` and, for a device whose peak is known, `mfu` of training at a rate."""
    return utilised(flops_per_token(model) * tokens_per_second, device_name)


# ---------------------------------------------------------------------------------------------- measurements


def measure_step(seed: int, preset: str, size: str, batch: int, device: Device, compiled: str) -> dict[str, float]:
    """A training step on random tokens."""
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # as a run does
    model = build(preset, size, seed, device)
    context, objective = model.config.context, NextTokenLoss(model).train()
    update = updater(objective, build_optimizer(model, PRESETS[preset].optimizer), batch * context)
    compile_in_place(objective, compiled, torch.device(device), partial(print, file=sys.stderr))
    rows = torch.randint(model.config.vocab_size, (batch, context + 1), device=device)

    def step() -> None:
        update(rows[:, :-1], rows[:, 1:])

    started = time.perf_counter()
    step()
    first = {"first_step_seconds": time.perf_counter() - started}  # compiling is most of it
    warmup, rounds = (1, 2) if size == "tiny" else (10, 50)
    timed = time_steps(step, warmup=warmup, rounds=rounds, seconds=20.0, device=device)
    rate = batch * context / timed["step_seconds"]
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    speed = {"tokens_per_second": rate, **utilisation(model, rate, name)}
    return {**timed, **speed, **first, "parameters": multiplied_parameters(model), "compiled": is_compiled(objective)}


def measure_sampling(seed: int, preset: str, size: str, tokens: int, device: str, dtype: str) -> dict[str, float]:
    """Tokens per second of `core.decoding.generate` with its cache, after one token, batch 1."""
    model = build(preset, size, seed, device).eval().to(getattr(torch, dtype))
    sampling = Sampling(temperature=0.8, top_k=200)
    return time_tokens(lambda n: complete(model, [[0]], n, sampling, seeds=[seed], device=device), tokens)
