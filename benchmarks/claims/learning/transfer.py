"""Transfer: what is learned from much of one kind helps with little of another, on texts and on images.

Texts: byte models learn from 17 MB of novels, then from a little Shakespeare. Images: Vision Transformers learn from
scikit-learn's 1,438 digits of 8 x 8 pixels, then from a few labels of MNIST. Sentences: encoders fill in hidden words
of the novels, then tell kind film reviews from unkind ones. Beside them the same models that start from nothing, and
those of images and sentences of which the head alone learns on.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.claims.common import Claim, Draw, Finding, Lab, fit, next_token, percent, seeded, spread, targets_of
from benchmarks.claims.materials.characters import taken
from benchmarks.claims.materials.sentiment import LABELS as SENTENCES
from benchmarks.claims.materials.sentiment import PRETRAINING, on_sentences
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import Condition
from core.files.downloads import data_root
from core.optim.config import OptimizerConfig
from text.corpus.load import Corpus, load_corpus
from text.models.gpt import GPT, GPTConfig
from text.presets import modern_core
from text.tasks.language_modelling import NextTokenLoss, evaluate
from vision import presets as images
from vision.data.named import Part, read_named
from vision.models.config import ViTConfig
from vision.models.vit import ViT

LENGTH, BATCH, SIDE = 64, 32, 28
LABELS, TEXTS = (10, 100, 1000), (5_000, 50_000, 500_000)
READINGS = (8, 32)
STARTS = ("from nothing", "pre-trained", "pre-trained, head alone")
ADAMW, HEAD = (OptimizerConfig(lr=rate, betas=(0.9, 0.98), weight_decay=0.05) for rate in (2e-3, 1e-2))


def pictures(name: str, part: Part) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 28, 28), normalised, and labels."""
    found = read_named(name, part, data_root())
    pixels = found.pixels.float() / 255
    if pixels.shape[-1] != SIDE:
        pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear")
    return (pixels - 0.2) / 0.3, found.labels


def draw_images(pixels: Tensor, labels: Tensor) -> Draw:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(labels), (BATCH,), generator=g)
        return pixels[rows], labels[rows]

    return draw


def class_loss(model: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(pixels).float(), labels, reduction="sum")


def vit() -> ViT:
    return ViT(ViTConfig(SIDE, 1, 10, core=images.modern_core(64, 3, 2)))


def on_images(seconds: float, tested: int, seed: int) -> dict[str, list[float]]:
    """Test accuracy by the number of labels, of each start."""
    first: ViT = seeded(seed, vit)
    fit(first, class_loss, draw_images(*pictures("digits", "train")), seconds, seed, optimizer=ADAMW)
    (pixels, labels), (test, true) = pictures("mnist", "train"), pictures("mnist", "test")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    found: dict[str, list[float]] = {start: [] for start in STARTS}
    for count in LABELS:
        draw = draw_images(pixels[order[:count]], labels[order[:count]])
        for start in STARTS:
            model = seeded(seed, vit) if start == "from nothing" else deepcopy(first)
            if start == "pre-trained, head alone":
                model.embed.requires_grad_(False), model.core.requires_grad_(False)
            fit(model, class_loss, draw, seconds, seed, optimizer=HEAD if "alone" in start else ADAMW)
            found[start].append(accuracy(model, test[:tested], true[:tested]))
    return found


@torch.no_grad()
def accuracy(model: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """The share of images that it classifies correctly."""
    said = torch.cat([model(part).argmax(-1) for part in pixels.split(250)])
    return (said == labels).float().mean().item()


def draw_bytes(tokens: NDArray[Any]) -> Draw:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = taken(tokens, LENGTH + 1, BATCH, g)
        return rows[:, :-1], rows[:, 1:]

    return draw


def gpt() -> GPT:
    return GPT(GPTConfig(256, LENGTH, "untied", modern_core(64, 3, 4)))


def on_texts(seconds: float, readings: tuple[int, ...], tested: int | None, seed: int) -> dict[str, list[float]]:
    """Nats per byte of held-out Shakespeare by the bytes learned from, of each start.

    Little text is learned by heart if it is read on and on, so each start reads it a few times as well, unless that
    takes longer, and stops where the first half of the held-out text says; the second half is what counts.
    """
    novels, plays = (load_corpus(name, "byte") for name in ("british_novels", "shakespeare"))
    learn = partial(fit, loss=next_token, seconds=seconds, seed=seed, count=targets_of, optimizer=ADAMW)
    first: GPT = seeded(seed, gpt)
    learn(first, draw=draw_bytes(novels.train))
    found: dict[str, list[float]] = {start: [] for start in STARTS[:2]}
    for count in TEXTS:
        budgets = [n * count // (LENGTH * BATCH) for n in readings if n * count <= TEXTS[-1]]
        for start in found:
            tried = []
            for steps in (*budgets, None):
                model = seeded(seed, gpt) if start == "from nothing" else deepcopy(first)
                learn(model, draw=draw_bytes(plays.train[:count]), steps=steps)
                tried.append(held_out(model, plays, tested))
            found[start].append(min(tried)[1])
    return found


def held_out(model: GPT, corpus: Corpus, tested: int | None) -> tuple[float, float]:
    """Nats per byte of either half of the held-out text."""
    whole = corpus.validation[:tested]
    first, second = (
        evaluate(NextTokenLoss(model), replace(corpus, validation=part), LENGTH, batch_size=64)["val/loss"]
        for part in np.array_split(whole, 2)
    )
    return first, second


def gain(found: list[dict[str, Any]], better: str, size: int, sign: int) -> tuple[float, ...]:
    """What a start gains over nothing at one of the sizes, by seed."""
    return tuple(sign * (one[better][size] - one["from nothing"][size]) for one in found)


def measure(lab: Lab) -> Finding:
    seconds = lab.seconds(2 + len(LABELS) * len(STARTS) + 2 * len(TEXTS) + PRETRAINING + len(STARTS) * len(SENTENCES))
    seen = lab.each_seed("images", partial(on_images, seconds, 250 if lab.quick else 5000))
    read = lab.each_seed("texts", partial(on_texts, seconds, *(((), 4096) if lab.quick else (READINGS, None))))
    told = lab.each_seed("sentences", partial(on_sentences, STARTS, seconds, 100 if lab.quick else 1821))
    rows = [[f"images, {s}", *(percent([one[s][n] for one in seen]) for n in range(3))] for s in STARTS]
    rows += [[f"texts, {s}", *(spread([one[s][n] for one in read]) for n in range(3))] for s in STARTS[:2]]
    rows += [[f"sentences, {s}", *(percent([one[s][n] for one in told]) for n in range(3))] for s in STARTS]
    curves = [
        ("MNIST", "labels", "test accuracy", LABELS, seen),
        ("Shakespeare", "bytes", "nats per byte", TEXTS, read),
        ("SST-2", "labels", "test accuracy", SENTENCES, told),
    ]
    return Finding(
        ["learned from", *(f"{n:,} labels, {m:,} bytes, {k:,} sentences"
                           for n, m, k in zip(LABELS, TEXTS, SENTENCES, strict=True))],
        rows,
        [Lines(title, x, y, xs, {s: [one[s] for one in ones] for s in ones[0]}, ("log", "linear"))
         for title, x, y, xs, ones in curves],
        [
            Condition("images, 100 labels: gain", gain(seen, "pre-trained", 1, 1), "at least", 0.05, 0.01),
            Condition("images, 10 labels: gain, head alone", gain(seen, STARTS[2], 0, 1), "at least", 0.05, 0.01),
            Condition("texts, 5,000 bytes: gain in nats", gain(read, "pre-trained", 0, -1), "at least", 0.2, 0.01),
            Condition("sentences, 1,000 labels: gain", gain(told, "pre-trained", 1, 1), "at least", 0.02, 0.015),
        ],
        [
            "Learning from nothing is given as long as fine-tuning, but not the time of pre-training as well.",
            f"Texts are read {' or '.join(map(str, READINGS))} times, or as long as the time lasts: what serves a "
            "start best on one half of the held-out text is measured on the other. Without that, in a first try, 5,000 "
            "bytes were learned by heart: 3.87 nats of the pre-trained model, 3.24 from nothing.",
        ],
    )  # fmt: skip


CLAIM = Claim(
    sentence="Pre-training pays: what was learned from much data of one kind helps where there is little of another.",
    hypothesis="With 100 labels of MNIST, a model that has seen other digits classifies at least 5 points more test "
    "images correctly than one that starts from nothing; with 10 labels its head alone does. From 5,000 bytes of "
    "Shakespeare, a model that has read novels reaches at least 0.2 nats per byte less; with 1,000 "
    "labelled sentences one that has filled in hidden words of novels classifies at least 2 points more correctly.",
    equal="parameters, and core-seconds on the target data",
    measure=measure,
    minutes=44,
    least=5,
    needs=("shakespeare/input.txt", "british_novels/train.txt", "mnist/MNIST", "sst2/train.tsv"),
)
