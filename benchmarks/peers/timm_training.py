"""timm's Vision Transformer, trained on a CPU for some minutes in a plain loop: what `vision.train` is compared with.

Images, their augmentation, batch and budget are those of a preset of ours; model, optimiser and schedule are what
timm's users take: AdamW without decay of vectors, a warm-up of 5 %, then a cosine to zero.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure.timing import time_steps
from benchmarks.peers.vision import timm_model
from core.devices import autocast
from core.optim.config import ScheduleConfig
from vision.augmentation.augment import Augment
from vision.data.batches import ImageSet, TrainingImages, evaluation_batches
from vision.data.load import Data, load_data, load_test
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.presets import CLASSIFIERS

Part = Literal["validation", "test"]
Attention = Literal["fused", "explicit"]

SCHEDULE = ScheduleConfig(kind="cosine", warmup=0.05, final=0.0)
WEIGHT_DECAY = 0.05
CPU = torch.device("cpu")


class Peer:
    """The model with its optimiser and its arithmetic."""

    def __init__(self, shape: ViTConfig, lr: float, precision: str, attention: Attention):
        from timm.layers import set_fused_attn
        from timm.optim import param_groups_weight_decay

        set_fused_attn(attention == "fused")  # read when the model is built
        self.model, self.shape, self.lr, self.precision = timm_model(shape), shape, lr, precision
        spared = self.model.no_weight_decay()  # positions
        groups = param_groups_weight_decay(self.model, WEIGHT_DECAY, no_weight_decay_list=spared)
        self.optimizer = torch.optim.AdamW(groups, lr=lr, fused=True)

    def learn(self, images: Tensor, targets: Tensor, spent: float, smoothing: float = 0.0) -> None:
        """One step, `spent` of the budget being gone."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * SCHEDULE.multiplier(spent)
        with self.arithmetic():
            loss = F.cross_entropy(self.model(images).float(), targets, label_smoothing=smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def arithmetic(self) -> AbstractContextManager[object]:
        """Autocast to its precision."""
        return autocast(self.precision, CPU)

    @torch.no_grad()
    def accuracy(self, images: ImageSet, preparation: Preparation) -> float:
        """The share of images whose likeliest class is their own."""
        self.model.eval()
        right = 0
        for pixels, labels in evaluation_batches(images, 500):
            answers = self.model(preparation(pixels, self.shape.image_size)).argmax(1)  # (B,)
            right += int((answers == labels).sum())
        self.model.train()
        return right / len(images)


def shape_of(preset: str, data: Data) -> ViTConfig:
    """The preset's model for these images."""
    found = data.preparation
    return replace(CLASSIFIERS[preset].model, channels=found.channels, classes=len(found.classes))


def speed(seed: int, preset: str, data: str, precision: str, attention: Attention, steps: int = 10) -> dict[str, float]:
    """Images per core-second of training, to find the arithmetic that is best for the peer."""
    torch.manual_seed(seed)
    config = CLASSIFIERS[preset]
    shape, batch = shape_of(preset, load_data(data, size=config.model.image_size)), config.batch_size
    peer = Peer(shape, 1e-3, precision, attention)
    images = torch.randn(batch, shape.channels, *shape.size)
    labels = torch.randint(shape.classes, (batch,))
    timed = time_steps(lambda: peer.learn(images, labels, 0.5), rounds=steps)
    return {"images_per_core_second": batch / timed["step_core_seconds"], **timed}


def train(
    seed: int, preset: str, data: str, minutes: float, part: Part, lr: float, precision: str, attention: Attention
) -> dict[str, float]:
    """A whole run, then its accuracy on the held-out images, or, trained on all, on the test images.

    While images are held out, their accuracy after every minute is "accuracy, S s", and its time part of the budget.
    """
    config = CLASSIFIERS[preset]
    images = load_data(data, size=config.model.image_size, validation=0 if part == "test" else None)
    torch.manual_seed(seed)
    peer = Peer(shape_of(preset, images), lr, precision, attention)
    order = TrainingImages(images.train, config.batch_size, seed)
    augment = Augment(config.augment, images.preparation, peer.shape, config.batch_size, len(images.train), seed)
    started, core, step, curve = time.monotonic(), time.process_time(), 0, dict[str, float]()
    while (elapsed := time.monotonic() - started) < 60 * minutes:
        spent = elapsed / (60 * minutes)
        for varied, targets in augment(order.batch(step), step, progress=spent):
            peer.learn(varied, targets, spent, 0.0 if targets.is_floating_point() else config.augment.smoothing)
        step += 1
        if part == "validation" and elapsed >= 60 * (len(curve) + 1):
            with peer.arithmetic():
                curve[f"accuracy, {elapsed:.0f} s"] = peer.accuracy(images.validation, images.preparation)
    used = {"loop_seconds": time.monotonic() - started, "train_core_seconds": time.process_time() - core}
    evaluated = images.validation if part == "validation" else load_test(data, images.preparation)
    parameters = sum(p.numel() for p in peer.model.parameters())
    accuracy = peer.accuracy(evaluated, images.preparation)
    return {"accuracy": accuracy, "steps": step, "parameters": parameters, **used, **curve}
