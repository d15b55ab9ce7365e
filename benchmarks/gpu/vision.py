"""The vision panel on a GPU: images per second of a preset's training step, alone and with its data, and its MFU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count

import torch

from benchmarks.gpu.updates import Update, updater
from benchmarks.measure.timing import Device, is_compiled, time_steps
from core.devices import compile_in_place
from core.flops import utilised
from core.optim.groups import build_optimizer
from core.training.order import Batch
from vision.augmentation.augment import Augment
from vision.config import TrainConfig
from vision.data.batches import Images, TrainingImages
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.presets import CLASSIFIERS, modern_core
from vision.tasks.classification import ClassificationLoss, halve

CLASSES = tuple("abcdefghij")
TINY = ViTConfig(channels=3, classes=10, core=modern_core(32, 2, 2))


def configuration(preset: str, size: str) -> TrainConfig:
    """The preset for images like CIFAR-10's, compiled or not by the benchmark; size "tiny": with a small model."""
    config = CLASSIFIERS[preset]
    if size == "tiny":
        return replace(config, model=TINY, batch_size=8)
    return replace(config, model=replace(config.model, channels=3, classes=10))


def flops_per_image(config: ViTConfig) -> int:
    """FLOPs of a training step for one image: three times those of a forward pass, as torch counts its products."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model, image = ViT(config), torch.empty(1, config.channels, *config.size)
    with FlopCounterMode(display=False) as counter:
        model(image)
    return 3 * counter.get_total_flops()


def measure_step(seed: int, preset: str, size: str, device: Device, compiled: str) -> dict[str, float]:
    """A preset's training step at its batch size, in bfloat16 where the device multiplies it, on random images.

    `half_size_...` beside it has images of half the side, where the preset begins with them; `with_data_...` takes the
    whole ones from 50,000 uint8 images on the device and varies them as the preset says.
    """
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    torch.manual_seed(seed)
    config, place = configuration(preset, size), torch.device(device)
    objective = ClassificationLoss(ViT(config.model).to(device), config.augment.smoothing).train()
    update = updater(objective, build_optimizer(objective.model, config.optimizer), config.batch_size)
    compile_in_place(objective, compiled, place, partial(print, file=sys.stderr))
    batches = varied(config, 64 if size == "tiny" else 50_000, place)
    timed = time_phases(update, batches, config, size, device)
    rates = {f"{phase}images_per_second": config.batch_size / found["step_seconds"] for phase, found in timed.items()}
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return {
        **rates,
        **utilised(flops_per_image(config.model) * rates["images_per_second"], name),
        **timed[""],
        "batch": config.batch_size,
        "parameters": sum(p.numel() for p in objective.parameters()),
        "compiled": is_compiled(objective),
    }


def time_phases(
    update: Update, batches: Iterator[Batch], config: TrainConfig, size: str, device: Device
) -> dict[str, dict[str, float]]:
    """Steps at half size, at full size, and with new images each: in the order of a run, where compiling counts."""
    warmup, rounds = (1, 2) if size == "tiny" else (10, 50)
    images, targets = next(batches)
    phases: dict[str, Callable[[], None]] = {
        "half_size_": lambda: update(halve(images), targets),
        "": lambda: update(images, targets),
        "with_data_": lambda: update(*next(batches)),
    }
    if not config.half_size:
        del phases["half_size_"]
    timed = partial(time_steps, warmup=warmup, rounds=rounds, seconds=15.0, device=device)
    return {name: timed(step) for name, step in phases.items()}


def varied(config: TrainConfig, images: int, device: torch.device) -> Iterator[Batch]:
    """Endless batches of random images, varied as the configuration says."""
    pixels = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8)
    stored = Images(pixels, torch.randint(len(CLASSES), (images,))).to(device)
    preparation = Preparation(CLASSES, 3, (0.5,) * 3, (0.25,) * 3, side=32)
    order = TrainingImages(stored, config.batch_size)
    augment = Augment(config.augment, preparation, config.model, config.batch_size, images)
    for step in count():
        yield from augment(order.batch(step), step)
