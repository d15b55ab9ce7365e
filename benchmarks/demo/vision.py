"""The demo's second panel: a small Vision Transformer, what it looks at, where it is wrong; and digits drawn."""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.demo.chart import Chart
from benchmarks.demo.panels import ask, parameters, run
from benchmarks.demo.report import Gallery, Matrix, Panel, Picture, curve, duration, size
from benchmarks.measure.harness import last_json
from core.files.json_files import read_json
from core.training.metrics import read_metrics
from vision.data.batches import ImageSet
from vision.data.load import load_data, load_test
from vision.trained import Trained, load

CIFAR = ["vit-cifar-cpu", "--data", "cifar10", "--validation", "1000", "--eval-every", "50"]
DIGITS = ["vit-digits", "--data", "digits", "--eval-every", "50"]
MINUTES = "1.0"  # of training on CIFAR-10, where nothing else is said
DRAWING = ["flow-digits", "--validation", "0", "--ema", "0.97", "--eval-every", "1000"]
DRAWING_MINUTES = "0.35"
ERRORS = 16  # shown


def vision(folder: Path, budget: Sequence[str]) -> Panel:
    """A ViT on CIFAR-10, or on handwritten digits where that cannot be loaded."""
    start = time.perf_counter()
    words, name = vision_source()
    run("vision.train", *words, "--out", str(folder), *(budget or (["--minutes", MINUTES] if words == CIFAR else [])))
    found = last_json(ask("vision.evaluate", str(folder), "--json"))
    trained, records, written = load(folder), read_metrics(folder), read_json(folder / "evaluation" / "figures.json")
    classes = written["class_names"]
    test = load_test(trained.config.data, trained.preparation)
    attention, looks = explained(folder, trained, test)
    sheet = drawn(folder.parent / "drawn", budget)
    return Panel(
        name="vision",
        title="Vision: a Vision Transformer",
        summary="The same blocks read an image as a set of small squares, each with its place, and learn to classify"
        " it. Nothing in them says that neighbouring squares belong together.",
        figures=vision_figures(found, records),
        facts=vision_facts(trained, folder, found, name),
        chart=vision_chart(records, len(classes)),
        specimens=[
            Matrix(
                "All test images: true class (rows), predicted class (columns)",
                classes,
                written["confusion"],
            ),
            Picture(looks, attention.read_bytes(), "test images, and beside each its attention maps"),
            Gallery(
                "Most confident errors: true class → predicted class",
                confident_errors(folder / "evaluation" / "predictions.csv", test),
            ),
            sheet,
        ],
        commands=[
            f"python -m vision.predict {folder} {folder / 'examples'}",
            f"python -m vision.evaluate {folder} --tta flip",
            f"python -m vision.generate {folder.parent / 'drawn'} --class 7 --number 16 --out sevens.png",
        ],
        seconds=time.perf_counter() - start,
    )


def vision_source() -> tuple[list[str], str]:
    """How to train on the images that can be loaded, and what to call them."""
    try:
        load_data("cifar10", size=32)
        return CIFAR, "CIFAR-10"
    except (ValueError, OSError) as reason:
        print(f"demo: {reason}\ndemo: taking digits, scikit-learn's handwritten ones, in its place", flush=True)
        return DIGITS, "scikit-learn's handwritten digits (CIFAR-10 could not be loaded)"


def explained(folder: Path, trained: Trained, test: ImageSet) -> tuple[Path, str]:
    """A picture of what the model looks at in some test images, and its caption."""
    depth, out = trained.model.config.core.depth, folder / "attention.png"
    layers = [str(layer) for layer in sorted({1, 1 + depth // 2, depth})]
    images = write_examples(folder / "examples", trained.preparation.classes, test)
    run("vision.explain", str(folder), *map(str, images), "--layers", ",".join(layers), "--out", str(out))
    return out, f"What it looks at: in layers {', '.join(layers)} of {depth}, and through all of them"


def drawn(folder: Path, budget: Sequence[str]) -> Picture:
    """Handwritten digits that a model of the same blocks draws, after a short training of its own in `folder`."""
    if folder.exists():
        shutil.rmtree(folder)
    run("vision.train", *DRAWING, "--out", str(folder), *(budget or ["--minutes", DRAWING_MINUTES]))
    run("vision.generate", str(folder), "--number", "20", "--out", str(folder / "sheet.png"))
    record = read_metrics(folder)[-1]
    spent = f"{record['step']:,} steps in {duration(record['seconds'])}"
    caption = f"Drawn by the same blocks, from noise and the digit asked for below each ({spent})"
    return Picture(caption, (folder / "sheet.png").read_bytes(), "two rows of the digits 0 to 9, drawn")


def write_examples(folder: Path, classes: Sequence[str], test: ImageSet) -> list[Path]:
    """The first test image of every other class, as PNG files named after it."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{name}.png" for name in classes[::2]]
    firsts = [np.flatnonzero(test.labels.numpy() == label)[:1] for label in range(0, len(classes), 2)]
    for file, (pixels, _) in zip(files, test.batches(firsts), strict=True):
        file.write_bytes(as_png(pixels[0]))
    return files


def confident_errors(file: Path, test: ImageSet) -> list[tuple[bytes, str]]:
    """The most confident errors of all in predictions.csv, each with its true and its predicted class."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in enumerate(csv.DictReader(lines)) if row[1]["truth"] != row[1]["answer"]]
    worst = sorted(rows, key=lambda row: -float(row[1]["probability"]))[:ERRORS]
    images = (pixels[0] for pixels, _ in test.batches(np.array([place]) for place, _ in worst))
    said = (f"{row['truth']} → {row['answer']} {float(row['probability']):.0%}" for _, row in worst)
    return [(as_png(image), words) for image, words in zip(images, said, strict=True)]


def as_png(pixels: Tensor) -> bytes:
    """uint8 (C, H, W) as a PNG file."""
    from PIL import Image

    file, image = io.BytesIO(), pixels.permute(1, 2, 0).numpy()  # (H, W, C)
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, format="PNG")
    return file.getvalue()


def vision_figures(found: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [
        ("test images classified correctly", f"{found['test/accuracy']:.1%}"),
        ("correct class among the five likeliest", f"{found['test/top5']:.1%}"),
        ("calibration error (ECE)", f"{found['test/ece']:.1%}"),
        ("training time", duration(records[-1]["seconds"])),
    ]


def vision_facts(trained: Trained, folder: Path, found: Mapping[str, Any], data: str) -> list[tuple[str, str]]:
    config, model, core = trained.config, trained.config.model, trained.config.model.core
    images, low, high = read_json(folder / "data.json"), found["test/accuracy_low"], found["test/accuracy_high"]
    shape = f"{core.depth} blocks, {core.dim} wide, {core.n_heads} heads, patches of {model.patch} pixels"
    last = read_metrics(folder)[-1]["step"]
    return [
        ("Data", f"{data}: {model.classes} classes, {model.image_size} x {model.image_size} pixels"),
        ("Learned from", f"{images['train']:,} images; {images['validation']:,} more chose the checkpoint"),
        ("Tested on", f"{found['images']:,} test images; 95 % interval {low:.1%} to {high:.1%}"),
        ("Model", f"{shape}; {size(parameters(folder), 'parameters')}"),
        ("Choices", f"{core.position.kind} positions, {core.norm}, {core.feedforward}"),
        ("Training", f"{last:,} steps of {config.batch_size} images, {config.optimizer.kind}"),
        ("Shown", f"checkpoint of step {trained.step:,}, the best on the held-out images"),
        ("Run folder", str(folder)),
    ]


def vision_chart(records: Sequence[Mapping[str, Any]], classes: int) -> Chart:
    curves = (curve(records, "val/accuracy", "held-out images, all of them"),)
    return Chart("optimiser steps", "accuracy", curves, references=((1 / classes, "chance"),))
