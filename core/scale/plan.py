"""What a run will need, found out without allocating it: parameters, FLOPs, memory of a device, shards, speed.

The model is built and one micro-batch goes forwards and backwards on tensors that have shapes and no content.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from core.attention import Attention
from core.devices import resolve_precision
from core.files.tensors import Uninitialised
from core.flops import DEVICES, flop_counter, known_device, measured_peak
from core.optim.groups import build_optimizer
from core.scale.launch import distribution
from core.scale.remat import blocks_of, rematerialise
from core.switch import without_kernels
from core.training.config import RunConfig
from core.training.order import Batch, Share
from core.training.task import Task

GIB = 2**30
EFFICIENCY = {"gpu": 0.4, "cpu": 0.3}
"""The share of its peak that a device is expected to reach in training."""
AHEAD = 2  # blocks whose weights are whole at once: the one at work and the next


@dataclass(frozen=True)
class Devices:
    """What a run is planned for."""

    count: int
    name: str
    peak: float  # FLOP/s
    memory: float  # GiB, 0 where it is not known

    @property
    def kind(self) -> str:
        """ "cpu" or "gpu"."""
        return "cpu" if self.name == "cpu" else "gpu"


def planned_devices(word: str, precision: str) -> Devices:
    """The devices of --plan: `here`, a name, or a number and a name such as 8xH100. ValueError for any other."""
    if word == "here":
        count, gpu = int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.is_available()
        word = torch.cuda.get_device_name() if gpu else "cpu"
    else:
        match = re.fullmatch(r"(?:(\d+) *x *)?(\S.*)", word)
        count, word = (int(match[1] or 1), match[2]) if match else (1, word)
    if word.lower() == "cpu":
        half = resolve_precision(precision, "cpu") == "bf16"
        return Devices(count, "cpu", measured_peak(torch.bfloat16 if half else torch.float32), 0)
    if count < 1 or (known := known_device(word)) is None:
        raise ValueError(f"plan = {word!r} is not one of: here, cpu, {', '.join(DEVICES)}; or several, as 8xH100")
    return Devices(count, word, *known)


@dataclass(frozen=True)
class Plan:
    """What a run will need. Sizes are in bytes, of each device."""

    parameters: int
    trained: int
    blocks: int
    micro_batches: int  # of each device and step
    units: float  # of a step, on all devices: what throughput counts
    flops: int  # of a step, on all devices, as if nothing were computed again
    repeated_flops: int  # those that are
    weights: int
    gradients: int
    optimizer: int
    average: int
    gathered: int  # weights and gradients of whole blocks, where a device holds shards
    activations: int  # at their peak
    shards: int  # into which every tensor is cut

    @property
    def memory(self) -> int:
        """The most that a device holds: a sum of peaks, which need not coincide."""
        return self.weights + self.gradients + self.optimizer + self.average + self.gathered + self.activations

    def seconds(self, devices: Devices) -> float:
        """The expected time of a step."""
        rate = devices.count * devices.peak * EFFICIENCY[devices.kind]
        return (self.flops + self.repeated_flops) / rate

    def figures(self, devices: Devices) -> dict[str, float]:
        """All of it as numbers."""
        seconds = self.seconds(devices)
        return asdict(self) | {"memory": self.memory, "step_seconds": seconds, "units_per_second": self.units / seconds}

    def table(self, devices: Devices, unit: str) -> str:
        """All of it for people to read."""
        fits = f" of {devices.memory:g}" if devices.memory else ""
        seconds, share = self.seconds(devices), EFFICIENCY[devices.kind]
        pieces = (
            f"1/{self.shards} of every tensor on each device" if self.shards > 1 else "none: every device holds all"
        )
        parts = ("weights", "gradients", "optimizer", "average", "gathered", "activations")
        rows = [
            ("parameters", f"{self.parameters:,}, {self.trained:,} of them trained, in {self.blocks} blocks"),
            ("step", f"{self.units:,.0f} {unit} in {self.micro_batches} x {devices.count} micro-batches"),
            ("FLOPs", f"{self.flops:.3e} a step, and {self.repeated_flops:.3e} that are done again"),
            ("shards", pieces),
            *((name, f"{getattr(self, name) / GIB:.2f} GiB") for name in parts if getattr(self, name)),
            ("memory", f"{self.memory / GIB:.2f}{fits} GiB on each device, at most"),
            ("speed", f"{self.units / seconds:,.0f} {unit} per second, {seconds:.3g} s a step"),
            ("", f"expected at {share:.0%} of {devices.count} x {devices.peak / 1e12:.4g} TFLOP/s ({devices.name})"),
        ]
        return "\n".join(f"{name:<12}{text}" for name, text in rows)


def print_plan(config: RunConfig, task: Task, build_model: Callable[[], nn.Module]) -> dict[str, float]:
    """Prints what a run would need, and returns the figures. Raises ValueError as the run itself would.

    build_model: makes the model; it is called where tensors have no content
    """
    devices = planned_devices(config.plan, config.precision)
    config.check_processes(devices.count)
    plan = plan_run(config, task, build_model, devices)
    print(plan.table(devices, task.unit))
    return plan.figures(devices)


def plan_run(config: RunConfig, task: Task, build_model: Callable[[], nn.Module], devices: Devices) -> Plan:
    """What each of these devices would need."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    micro = [*task.order(0, Share(0, devices.count, config.accumulate), 1.0)]
    sharded = distribution(config, devices.count) == "sharded"
    half = resolve_precision(config.precision, "cpu") == "bf16" if devices.kind == "cpu" else config.precision != "fp32"
    with without_kernels(), FakeTensorMode(allow_non_fake_inputs=True) as fake:
        with Uninitialised():
            model = build_model()
        objective = task.objective(model).train()
        if devices.kind == "gpu":
            _attend_as_a_gpu(model)
        if not (blocks := blocks_of(model)):
            raise ValueError(f"plan = {config.plan!r} needs a model made of blocks, not a {type(model).__name__}")
        halved = sharded and half and devices.kind == "gpu"
        sizes = _Sizes.of(model, blocks, halved)
        state = _optimizer_bytes(model, config)
        if halved:
            _halve(blocks)
        rematerialise(model, config.remat)
        batch = tree_map_only(Tensor, fake.from_tensor, micro[0])
        precision = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
        forward, total, peak = _trace(objective, batch, precision)
    shards = (config.shard_size or devices.count) if sharded else 1
    steps = devices.count * len(micro)
    return Plan(
        parameters=sizes.parameters,
        trained=sizes.trained,
        blocks=len(blocks),
        micro_batches=len(micro),
        units=float(devices.count * sum(task.count(*each) for each in micro)),
        flops=3 * forward * steps,
        repeated_flops=max(0, total - 3 * forward) * steps,
        weights=4 * sizes.parameters // shards,
        gradients=4 * sizes.trained // shards,
        optimizer=state // shards,
        average=4 * sizes.trained // shards if config.ema else 0,
        gathered=sizes.gathered if sharded else 0,
        activations=peak,
        shards=shards,
    )


class _Sizes(NamedTuple):
    parameters: int
    trained: int
    gathered: int  # bytes

    @classmethod
    def of(cls, model: nn.Module, blocks: list[nn.Module], halved: bool) -> _Sizes:
        """Counts; `halved` blocks are gathered, and their gradients made, in two bytes a number."""
        within = [sum(p.numel() for p in block.parameters()) for block in blocks]
        everything = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        width, outside = 2 if halved else 4, everything - sum(within)
        gathered = width * (AHEAD + 1) * max(within, default=0) + 2 * 4 * outside
        return cls(everything, trained, gathered)


def _halve(blocks: list[nn.Module]) -> None:
    """Puts the weights of blocks into two bytes a number, as they are gathered: autocast makes no copies of those."""
    for module in (module for block in blocks for module in block.modules()):
        for name, p in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(p.detach().to(torch.bfloat16), p.requires_grad))


def _optimizer_bytes(model: nn.Module, config: RunConfig) -> int:
    """What the optimiser holds of the whole model after a step."""
    optimizer = build_optimizer(model, config.optimizer)
    each = {"adamw": 8, "muon": 4}  # two moments, or one, in float32
    return sum(each[group["kind"]] * p.numel() for group in optimizer.param_groups for p in group["params"])


def _trace(objective: nn.Module, batch: Batch, precision: AbstractContextManager[Any]) -> tuple[int, int, int]:
    """FLOPs forwards, FLOPs in all, and bytes at the peak beside parameters and their gradients."""
    for p in objective.parameters():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(_drop_gradient)
    counter = flop_counter()
    with LiveBytes([*objective.parameters(), *objective.buffers()]) as live, counter:
        with precision:
            loss = objective(*batch)
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops(), live.peak


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


class LiveBytes(TorchDispatchMode):
    """Counts the bytes that operations made and something still holds: `now`, and at their `peak`."""

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = size = int(storage.nbytes())
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


def _attend_as_a_gpu(model: nn.Module) -> None:
    """Makes attention take PyTorch's fused kernel, whatever the graph: a GPU holds no weights of any."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.attend = _fused


def _fused(q: Tensor, k: Tensor, v: Tensor, route: Any, dropout: float = 0.0, scale: float | None = None) -> Tensor:
    causal, grouped = q.shape[2] == k.shape[2], q.shape[1] != k.shape[1]
    return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=grouped)
