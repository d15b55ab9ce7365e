"""What a checkpoint holds of a run: weights, their average, the optimiser's state, loss scale, random generators."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from core.adapters.lora import check_base, checkpoint_state, load_checkpoint_state
from core.scale.parts import read_part, write_part
from core.scale.shards import gathered, is_sharded, local, whole


class EMA:
    """average <- average + (1 - d) (weights - average), d = min(decay, (1 + step) / (10 + step)).

    The bound on d lets the average follow the first steps closely (as TensorFlow's `ExponentialMovingAverage`
    does). Buffers are not averaged.
    """

    def __init__(self, model: nn.Module, decay: float):
        # The parameters themselves: their memory may move when the model is distributed.
        self.weights: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self.weights.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the weights after optimiser step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = ([*map(local, tensors.values())] for tensors in (self.averages, self.weights))
        torch._foreach_lerp_(averages, weights, 1.0 - decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside, the model holds the averages; afterwards its own weights again, bit for bit."""
        own = [p.detach().clone() for p in self.weights.values()]
        self._assign(list(self.averages.values()))
        try:
            yield
        finally:
            self._assign(own)

    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Restores the `averages` of a checkpoint; ValueError naming a missing one."""
        for name, average in self.averages.items():
            if name not in averages:
                raise ValueError(f"the checkpoint has no average of {name!r}")
            average.copy_(averages[name])

    @torch.no_grad()
    def _assign(self, values: list[Tensor]) -> None:
        torch._foreach_copy_([*map(local, self.weights.values())], [*map(local, values)])


class Gradients(NamedTuple):
    """What one backward pass added: this process's share of a mean loss, and the number of units it is a mean over."""

    loss: Tensor
    units: Tensor | int


def rows(*batch: Tensor) -> int:
    """The default count of a micro-batch: the rows of its first tensor."""
    return len(batch[0])


@dataclass
class TrainState:
    """The parts of a training step that a checkpoint must hold."""

    model: nn.Module
    objective: nn.Module  # the model and its loss
    optimizer: torch.optim.Optimizer
    ema: EMA | None
    scaler: Any  # torch.amp.GradScaler under fp16, else None
    base: str | None = None  # the fingerprint of the weights that stay as they are beside adapters

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the weights: then all of them write a checkpoint together."""
        return any(map(is_sharded, self.model.parameters()))

    def parameters(self) -> list[Tensor]:
        """What the optimiser updates."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def size(self) -> str:
        """How many parameters there are, and how many of them are trained."""
        everything = [*self.model.parameters()]
        number, trained = (sum(p.numel() for p in some) / 1e6 for some in (everything, self.parameters()))
        frozen = not all(p.requires_grad for p in everything)
        return f"{number:.2f} M parameters" + (f", {trained:.4g} M of them trained," if frozen else "")

    def clip_gradients(self, limit: float) -> Tensor:
        """Clips the gradients to a norm of `limit`, unless that is 0; returns what their norm was."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        parameters = self.parameters()
        norm = whole(get_total_norm([p.grad for p in parameters if p.grad is not None]))
        if limit:
            clip_grads_with_norm_(parameters, limit, norm)
        return norm

    def step_optimizer(self) -> None:
        """Updates the weights and clears the gradients; under fp16 not where the scaled gradients overflowed."""
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside: evaluation mode, averaged weights if there are any, all of them in every process, no gradients."""
        averaged = self.ema.swapped_in() if self.ema else nullcontext()
        with torch.no_grad(), averaged, gathered(self.objective):
            self.objective.eval()
            try:
                yield
            finally:
                self.objective.train()

    def finite(self) -> bool:
        """Whether all weights are finite, and so small that their squares are; on a GPU, waits for them."""
        norms = torch._foreach_norm([p.detach() for p in self.parameters()])
        return bool(whole(torch.stack(norms)).isfinite().all())

    def write(self, checkpoint: Path) -> None:
        """Writes the tensors of a checkpoint into a folder; where they are sharded, all processes must."""
        write_part(checkpoint, "model", checkpoint_state(self.model))
        write_part(checkpoint, "optimizer", optimizer_tensors(self.model, self.optimizer))
        if self.ema:
            write_part(checkpoint, "ema", self.ema.averages)

    def record(self) -> dict[str, Any]:
        """What a checkpoint says of it beside tensors: the loss scale under fp16, the fingerprint of adapters' base."""
        scaler = None if self.scaler is None else dict(self.scaler.state_dict())
        return {"scaler": scaler} | ({"base": self.base} if self.base else {})

    def restore(self, checkpoint: Path, record: Mapping[str, Any], init_from: str = "") -> None:
        """Restores a verified checkpoint, which said `record`; ValueError naming what does not fit.

        init_from: what an error calls the weights that adapters stand beside
        """
        check_base(self.base, record.get("base"), init_from)
        placed = dict(self.model.named_parameters(remove_duplicate=False))
        load_checkpoint_state(self.model, read_part(checkpoint, "model", placed), checkpoint / "model.safetensors")
        path = checkpoint / "optimizer.safetensors"
        load_optimizer(self.model, self.optimizer, read_part(checkpoint, "optimizer", placed), path)
        if self.ema:
            self.ema.load(read_part(checkpoint, "ema", placed))
        if self.scaler is not None and record["scaler"]:
            self.scaler.load_state_dict(dict(record["scaler"]))


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as `STATE/PARAMETER` -> tensor; learning rates follow from the step alone."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {f"{key}/{names[p]}": value for p, state in optimizer.state.items() for key, value in state.items()}


def load_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], origin: Path
) -> None:
    """Restores what `optimizer_tensors` returned; ValueError for the state of another model."""
    names = {p: name for name, p in model.named_parameters()}
    states: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        states.setdefault(name, {})[kind] = tensor
    if unknown := set(states) - set(names.values()):
        raise ValueError(f"{origin} has the state of {sorted(unknown)[0]!r}, which the model lacks")
    packed = optimizer.state_dict()  # parameters are numbered in the order of their groups
    packed["state"] = {
        number: states[names[p]]
        for group, numbered in zip(optimizer.param_groups, packed["param_groups"], strict=True)
        for p, number in zip(group["params"], numbered["params"], strict=True)
        if names[p] in states
    }
    optimizer.load_state_dict(packed)


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Generators(NamedTuple):
    """The state of all random generators of a process."""

    python: tuple[Any, ...]
    numpy: dict[str, Any]
    torch: dict[str, Tensor]  # by "torch", or the type of the device

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        version, words, gauss = self.python
        key, pos = self.numpy["state"]["key"], self.numpy["state"]["pos"]
        numpy = {**self.numpy, "state": {"key": key.tolist(), "pos": pos}}
        own = {name: bytes(state.cpu().numpy()).hex() for name, state in self.torch.items()}
        return {"python": [version, list(words), gauss], "numpy": numpy, **own}


def random_state(device: torch.device) -> Generators:
    """The state of all generators as it is now."""
    return Generators(random.getstate(), np.random.get_state(legacy=False), torch_state(device))


def torch_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's generators, by which a step draws."""
    states = {"torch": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restores what `Generators.as_json` returned, as far as it covers this device."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    legacy = state["numpy"]
    np.random.set_state({**legacy, "state": {**legacy["state"], "key": np.array(legacy["state"]["key"], np.uint32)}})
    torch.set_rng_state(_bytes(state["torch"]))
    if device.type != "cpu" and device.type in state:
        torch.get_device_module(device).set_rng_state(_bytes(state[device.type]))


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
