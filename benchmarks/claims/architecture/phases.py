"""Phases: blocks in which tokens only communicate, only compute, or do both, on characters and on images."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.claims.common import (
    Claim,
    Finding,
    Lab,
    fit,
    next_token,
    parameters,
    percent,
    seeded,
    spread,
    targets_of,
)
from benchmarks.claims.materials.characters import NEEDS, held_out_loss, shakespeare, windows
from benchmarks.claims.picture import Bars
from benchmarks.claims.verdict import Condition, share_noise
from core.attention import LayerContext
from core.files.downloads import data_root
from core.transformer import Transformer
from text.models.gpt import GPT, GPTConfig
from text.presets import MUON, modern_core
from vision import presets as images
from vision.data.named import Part, read_named
from vision.models.config import ViTConfig
from vision.models.vit import ViT

Kind = Literal["both", "communicate", "compute"]
DEPTHS: dict[Kind, int] = {"both": 2, "communicate": 6, "compute": 3}
"""An attention layer has 4 dim² parameters, a feed-forward layer 8 dim²: 24 dim² in all."""
DIM, LENGTH, BATCH, IMAGES = 96, 64, 32, 64


class Skip(nn.Module):
    """A phase that is left out."""

    def forward(self, x: Tensor, context: LayerContext) -> Tensor:
        return x


def only(kind: Kind, core: Transformer) -> None:
    """Leaves out a phase of every block."""
    for block in core.blocks:
        if kind == "compute":
            block.attention = Skip()
        if kind == "communicate":
            block.feedforward = Skip()


def characters(kind: Kind) -> GPT:
    core = modern_core(DIM, DEPTHS[kind], 4)
    model = GPT(GPTConfig(shakespeare().tokenizer.vocab_size, LENGTH, "untied", core))
    only(kind, model.core)
    return model


def vision(kind: Kind) -> ViT:
    model = ViT(ViTConfig(channels=3, classes=10, core=images.modern_core(DIM, DEPTHS[kind], 3)))
    only(kind, model.core)
    return model


@lru_cache(maxsize=2)
def cifar(part: Part) -> tuple[Tensor, Tensor]:
    """Pixels, uint8 (N, 3, 32, 32), and labels."""
    found = read_named("cifar10", part, data_root())
    return found.pixels, found.labels


def normalised(pixels: Tensor) -> Tensor:
    return (pixels.float() / 255 - 0.47) / 0.25


def draw_images(g: torch.Generator) -> tuple[Tensor, Tensor]:
    pixels, labels = cifar("train")
    rows = torch.randint(len(labels), (IMAGES,), generator=g)
    return normalised(pixels[rows]), labels[rows]


def class_loss(model: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(pixels).float(), labels, reduction="sum")


@torch.no_grad()
def accuracy(model: nn.Module, tested: int) -> float:
    """The share of test images that it classifies correctly."""
    pixels, labels = (part[:tested] for part in cifar("test"))
    said = torch.cat([model(normalised(part)).argmax(-1) for part in pixels.split(250)])
    return (said == labels).float().mean().item()


def text_loss(kind: Kind, seconds: float, tested: int | None, seed: int) -> float:
    model = seeded(seed, lambda: characters(kind))
    fit(model, next_token, windows(LENGTH, BATCH), seconds, seed, count=targets_of, optimizer=MUON)
    return held_out_loss(model, LENGTH, tested)


def image_accuracy(kind: Kind, seconds: float, tested: int, seed: int) -> float:
    model = seeded(seed, lambda: vision(kind))
    fit(model, class_loss, draw_images, seconds, seed, optimizer=MUON, precision="auto")
    return accuracy(model, tested)


def measure(lab: Lab) -> Finding:
    seconds, tested = lab.seconds(2 * len(DEPTHS)), 250 if lab.quick else 5000
    text = {
        kind: lab.each_seed(f"text, {kind}", partial(text_loss, kind, seconds, 4096 if lab.quick else None))
        for kind in DEPTHS
    }
    seen = {kind: lab.each_seed(f"images, {kind}", partial(image_accuracy, kind, seconds, tested)) for kind in DEPTHS}

    def lost(kind: Kind) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(text[kind], text["both"], strict=True))

    def missed(kind: Kind) -> tuple[float, ...]:
        return tuple(b - a for a, b in zip(seen[kind], seen["both"], strict=True))

    names = {"both": "both phases", "communicate": "communication alone", "compute": "computation alone"}
    sizes = {kind: f"{parameters(characters(kind)):,}" for kind in DEPTHS}
    rows = [[names[kind], str(DEPTHS[kind]), sizes[kind], spread(text[kind]), percent(seen[kind])] for kind in DEPTHS]
    noise = share_noise(tested)
    return Finding(
        ["blocks with", "blocks", "parameters (text)", "Shakespeare, nats per character", "CIFAR-10 test accuracy"],
        rows,
        [
            Bars(title, unit, {names[kind]: values for kind, values in found.items()})
            for title, unit, found in (("Shakespeare", "nats per character", text), ("CIFAR-10", "accuracy", seen))
        ],
        [
            Condition("text: what computation alone loses, in nats", lost("compute"), "at least", 0.3, 0.003),
            Condition("text: what communication alone loses", lost("communicate"), "at least", 0.01, 0.003),
            Condition("images: what computation alone loses", missed("compute"), "at least", 0.1, noise),
            Condition("images: what communication alone loses", missed("communicate"), "at least", 0.01, noise),
        ],
        ["Where tokens only compute, a character model sees one character, and an image model a bag of patches."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="A block communicates, then computes; it takes both.",
    hypothesis="At the same number of parameters, blocks that only compute lose at least 0.3 nats per character and 10 "
    "points of CIFAR-10 accuracy against blocks that do both; those that only communicate at least 0.01 nats and a "
    "point.",
    equal="parameters (24 dim² in blocks) and core-seconds",
    measure=measure,
    minutes=18,
    least=4,
    needs=(*NEEDS, "cifar10/cifar-10-batches-py"),
)
