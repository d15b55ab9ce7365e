"""How well an image model tells classes apart, on images that it did not learn from.

python -m vision.evaluate DIR [--checkpoint best|last|last-good|STEP] [--split test|validation] [--json]

This command alone reads the test images.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from core.checks import check_positive
from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import main
from core.devices import autocast, device_kind
from core.files.json_files import write_json
from core.messages import notice
from core.training.trained import EvaluateOptions, Weights, matches_data, print_json
from vision.data.batches import ImageSet, evaluation_batches
from vision.data.folder import VALIDATION, first_few
from vision.data.load import Data, load_data, load_test
from vision.data.named import NAMES
from vision.reports.metrics import Tally
from vision.reports.pictures import Mistakes
from vision.reports.report import Judged, as_json, draw, tables, variants
from vision.tasks.views import Views, joined, seen
from vision.trained import Trained, load

FAIRNESS = {
    "validation": "these are the validation images, by which the best checkpoint was chosen",
    "all": "these are all of its images, a fair test if the model learnt from none of them (else: --split validation)",
}
SHOWN = 24
"""Mistakes in the picture of them."""


@dataclass(frozen=True)
class EvaluateConfig(EvaluateOptions):
    """Settings of `vision.evaluate`."""

    split: Literal["auto", "test", "validation"] = "auto"
    """Which images; auto is test where the data has a test part."""
    weights: Literal["averaged", "raw", "both"] = "averaged"
    """The averages of a run with --ema, the weights that were trained, or one after the other."""
    data: str = ""
    """Other images to evaluate on, of the same classes: a name or a folder; default the run's own. Of a folder
    without parts, all images."""
    skip_bad: bool = False
    """Leave out images that cannot be read, and count them; always so where the run did."""
    tta: Views = "none"
    """Test-time augmentation, reported apart: the mean of the probabilities that the classes get in several views of
    an image. flip: also mirrored; shift: also moved by a pixel, up, down, left and right; flip-shift: all ten."""
    batch_size: int | None = None
    """Images at once; default the run's eval_batch."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic; auto is what training takes by itself."""
    out: Path | None = None
    """Folder for the pictures and figures.json; default DIR/evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size")


def evaluate_run(argv: list[str]) -> None:
    """The command."""
    folder, rest = run_folder(argv, "vision.evaluate")
    options = parse_fields(
        EvaluateConfig(),
        rest,
        prog="python -m vision.evaluate DIR",
        description="Evaluates a run on images that it did not learn from, and draws what it gets wrong.",
    )
    started = time.monotonic()
    models = load_models(folder, options)
    trained = next(iter(models.values()))
    split, images = choose_images(folder, trained, options)
    results = {kind: judge(model, images, options) for kind, model in models.items()}
    name, classes = options.data or trained.config.data, trained.preparation.classes
    found = list(variants(results, options.tta))
    print(f"{name}: {len(images):,} images ({split}), checkpoint of step {trained.step}\n")
    print(*tables(found, classes), sep="\n\n")
    figures: dict[str, Any] = {"step": trained.step, "data": name, "split": split, "images": len(images)}
    figures |= {"weights": next(iter(results)), "tta": options.tta} | as_json(found, classes)
    figures["seconds"] = round(time.monotonic() - started, 2)
    place = options.out or folder / "evaluation"
    draw(next(iter(results.values())), classes, place)
    write_json(place / "figures.json", figures)
    print(f"\npictures and figures are in {place}")
    if options.json:
        print_json(figures)


def load_models(folder: Path, options: EvaluateConfig) -> dict[str, Trained]:
    """The models to judge, by the name of their weights."""
    kinds: tuple[Weights, ...] = ("averaged", "raw") if options.weights == "both" else (options.weights,)
    models: dict[str, Trained] = {
        kind: load(folder, options.checkpoint, device_kind(options.device), kind) for kind in kinds
    }
    [first, *others] = models.values()
    if first.config.ema:
        return models
    if others:
        notice(f"{folder} kept no averages of its weights (--ema 0): there are the raw ones only")
    return {"raw": first}


def choose_images(folder: Path, trained: Trained, options: EvaluateConfig) -> tuple[str, ImageSet]:
    """Which images are judged, "test", "validation" or "all" of a folder without parts, and the images.

    Raises ValueError: there are none, or they are not of the model's classes.
    """
    config, name = trained.config, options.data or trained.config.data
    other, parts = not same_place(name, config.data), parts_of(name)
    by_default = "test" if "test" in parts else "validation" if parts or not other else "all"
    split, skip_bad = by_default if options.split == "auto" else options.split, options.skip_bad or config.skip_bad
    if split == "test":
        return split, load_test(name, trained.preparation, skip_bad=skip_bad, storage=config.storage)
    drawn = None if other and "validation" in parts else config.validation
    data = load_data(
        name,
        size=config.model.image_size,
        channels=trained.preparation.channels,
        validation=0 if split == "all" else drawn,
        skip_bad=skip_bad,
        storage=config.storage,
    )
    check_classes(data, trained.preparation.classes)
    images = data.train if split == "all" else data.validation
    if not len(images):
        raise ValueError(f"{name} has no validation images: the run learnt from all of them (--validation 0)")
    if options.split == "auto":
        notice(f"{name} has no test images: {FAIRNESS[split]}")
    if not (other or matches_data(folder, data.fingerprint)):
        notice(f"{name} does not hold the images any more that the run was trained on")
    return split, images


def same_place(name: str, other: str) -> bool:
    """Whether two names of image sets or folders mean the same."""
    return name == other or Path(name).expanduser().resolve() == Path(other).expanduser().resolve()


def parts_of(name: str) -> set[str]:
    """Which of "test" and "validation" a named set, or a folder by its sub-folders, has."""
    if name in NAMES:
        return {"test"}
    folders = {"test": ("test",), "validation": VALIDATION}
    return {part for part, names in folders.items() if any((Path(name).expanduser() / sub).is_dir() for sub in names)}


def check_classes(data: Data, known: tuple[str, ...]) -> None:
    """Raises ValueError naming classes that the data has and the model lacks, or the other way round."""
    found = data.preparation.classes
    if found != known:
        different = sorted(set(found) ^ set(known)) or ["the same in another order"]
        raise ValueError(f"{data.name} has other classes than the model: {first_few(different)}")


@torch.no_grad()
def judge(trained: Trained, images: ImageSet, options: EvaluateConfig) -> Judged:
    """All that the command tells of a model and a set of images."""
    model, batch_size = trained.model, options.batch_size or trained.config.eval_batch
    plain = several = Tally.empty(model.config.classes)
    mistakes = None
    with autocast(options.precision, trained.device):
        for pixels, labels in evaluation_batches(images, batch_size):
            prepared = trained.preparation(pixels.to(trained.device), model.config.image_size)
            logits = [model(view).float() for view in seen(prepared, options.tta)]
            plain += Tally.of(logits[0], labels)
            if options.tta != "none":
                several += Tally.of(joined(logits), labels)
            mistakes = Mistakes.of(pixels, logits[0], labels).surest(SHOWN, mistakes)
    assert mistakes is not None
    return Judged(plain, several if options.tta != "none" else None, mistakes)


if __name__ == "__main__":
    main(lambda: evaluate_run(sys.argv[1:]))
