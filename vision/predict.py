"""Classify images, or sounds.

python -m vision.predict DIR IMAGE... [--top N] [--json] [--skip-bad]

IMAGE is a file, a folder (every image below it) or a pattern in quotes; any size, any mode. A model of sounds takes
wav, flac and ogg instead, of any rate and number of channels.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from core.checks import check_positive
from core.cli.arguments import parse_fields
from core.cli.exits import main
from core.devices import device_kind
from core.training.trained import Weights
from vision.data.inputs import Reader, find_images, run_folder_and_images
from vision.trained import Trained, load

T = TypeVar("T")


Prediction = tuple[Path, list[tuple[str, float]]]
"""An image and its most probable classes with their probabilities, in order."""


@dataclass(frozen=True)
class PredictConfig:
    """Settings of `vision.predict`."""

    top: int = 5
    """Classes to print for each image, at most."""
    json: bool = False
    """End with one line that is a JSON object."""
    skip_bad: bool = False
    """Leave out images that cannot be read, and count them, instead of stopping at the first."""
    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""
    weights: Weights = "averaged"
    """Averaged weights, where the run kept them, or raw ones."""
    batch_size: int = 64
    """Images at once."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run."""

    def __post_init__(self) -> None:
        check_positive(self, "top", "batch_size")


def predictions(
    trained: Trained, images: Iterable[tuple[Path, Tensor]], top: int, batch_size: int
) -> Iterator[Prediction]:
    """The answers to images: files with pixels, uint8 (C, H, W), all of one shape."""
    classes = trained.preparation.classes
    for batch in chunks(images, batch_size):
        logits = trained.logits(torch.stack([pixels for _, pixels in batch]))  # (B, K)
        best = logits.double().softmax(-1).topk(min(top, len(classes)))  # 2 x (B, top)
        for (file, _), values, labels in zip(batch, best.values.tolist(), best.indices.tolist(), strict=True):
            yield file, [(classes[label], value) for label, value in zip(labels, values, strict=True)]


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Groups of `size` consecutive items; the last may be shorter."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def table(predicted: Sequence[Prediction]) -> str:
    """A line for each class: the file on the first of its lines, the class, its probability."""
    file_width = max(len(str(file)) for file, _ in predicted)
    class_width = max(len(name) for _, top in predicted for name, _ in top)
    return "\n".join(
        f"{'' if rank else str(file):<{file_width}}  {name:<{class_width}}  {100 * probability:5.1f} %"
        for file, top in predicted
        for rank, (name, probability) in enumerate(top)
    )


def as_json(predicted: Sequence[Prediction], bad: Mapping[Path, str]) -> dict[str, Any]:
    """The same for other programs, with the images that were skipped."""
    images = [
        {"file": str(file), "top": [{"class": name, "probability": round(value, 6)} for name, value in top]}
        for file, top in predicted
    ]
    return {"images": images, "skipped": [{"file": str(file), "reason": reason} for file, reason in bad.items()]}


def predict(argv: list[str]) -> None:
    """The command. Raises ValueError for images that cannot be read, before any prediction is printed."""
    folder, words, rest = run_folder_and_images(argv, "vision.predict")
    options = parse_fields(
        PredictConfig(),
        rest,
        prog="python -m vision.predict DIR IMAGE...",
        description="Classifies images: files, folders of them, or patterns in quotes.",
    )
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may lack a character
    trained = load(folder, options.checkpoint, device_kind(options.device), options.weights)
    files = find_images(words, options.skip_bad, trained.preparation.layout.media)
    reader = Reader(trained.preparation, options.skip_bad)
    predicted = list(predictions(trained, reader.read(files), options.top, options.batch_size))
    print(table(predicted))
    if options.json:
        print(json.dumps(as_json(predicted, reader.bad)))


if __name__ == "__main__":
    main(lambda: predict(sys.argv[1:]))
