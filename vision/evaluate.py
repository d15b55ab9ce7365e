"""Evaluate an image model on images that it was not trained on.

python -m vision.evaluate DIR [--checkpoint best|last|last-good|last-K|STEP] [--split test|validation] [--json]

No other command reads the test images.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.checks import check_positive
from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import main
from core.devices import device_kind
from core.messages import notice
from core.training.trained import EvaluateOptions, Weights, print_json
from vision.data.batches import image_names
from vision.data.evaluation import Split, choose_images
from vision.reports.report import key_figures, tables, write_figures
from vision.tasks.evaluation import Views, evaluate_all, variants
from vision.trained import Trained, load


@dataclass(frozen=True)
class EvaluateConfig(EvaluateOptions):
    """Settings of `vision.evaluate`."""

    split: Split = "auto"
    """Which images; auto is test where the data has a test part."""
    weights: Literal["averaged", "raw", "both"] = "averaged"
    """The averages of a run with --ema, the weights that were trained, or one after the other."""
    data: str = ""
    """Other images to evaluate on, of the same classes: a name or a folder; default the run's own. Of a folder
    without parts, all images."""
    skip_bad: bool = False
    """Leave out images that cannot be read, and count them; always so where the run did."""
    tta: Views = "none"
    """Test-time augmentation, reported separately: the mean of the probabilities in several views of an image. flip:
    also mirrored; shift: also moved by a pixel, up, down, left and right; flip-shift: all ten."""
    batch_size: int | None = None
    """Images at once; default the run's eval_batch."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic; auto is what training chooses by itself."""
    out: Path | None = None
    """Folder for the pictures and figures.json; default DIR/evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "batch_size")


def evaluate(argv: list[str]) -> None:
    """The command."""
    folder, rest = run_folder(argv, "vision.evaluate")
    options = parse_fields(
        EvaluateConfig(),
        rest,
        prog="python -m vision.evaluate DIR",
        description="Evaluates a run on images that it was not trained on, and draws its errors.",
    )
    started = time.monotonic()
    models = load_models(folder, options)
    weights, trained = next(iter(models.items()))
    config, classes = trained.config, trained.preparation.classes
    if options.tta != "none" and trained.preparation.sound is not None:
        raise ValueError(f"tta = {options.tta!r} is for images: a sound mirrored or moved is another sound")
    name, skip_bad = options.data or config.data, options.skip_bad or config.skip_bad
    split, images = choose_images(folder, trained, name, options.split, skip_bad)
    rows = options.batch_size or config.eval_batch
    results = {
        kind: evaluate_all(model, images, options.tta, options.precision, rows) for kind, model in models.items()
    }
    reported, names = list(variants(results, options.tta)), image_names(images)
    figures: dict[str, Any] = {"step": trained.step, "data": name, "split": split, "images": len(images)}
    figures |= {"weights": weights, "tta": options.tta} | key_figures(split, reported, classes)
    figures["seconds"] = round(time.monotonic() - started, 2)
    place = options.out or folder / "evaluation"
    write_figures(figures, results[weights], classes, names, place)
    media = trained.preparation.layout.media.plural
    print(f"{name}: {len(images):,} {media} ({split}), checkpoint of step {trained.step}\n")
    print(*tables(reported, results[weights], classes, names), sep="\n\n")
    print(f"\npictures, predictions and figures are in {place}")
    if options.json:
        print_json(figures)


def load_models(folder: Path, options: EvaluateConfig) -> dict[str, Trained]:
    """The models to evaluate, by the name of their weights."""
    kinds: tuple[Weights, ...] = ("averaged", "raw") if options.weights == "both" else (options.weights,)
    models: dict[str, Trained] = {
        kind: load(folder, options.checkpoint, device_kind(options.device), kind) for kind in kinds
    }
    [first, *others] = models.values()
    if first.config.ema:
        return models
    if others:
        notice(f"{folder} has no averaged weights (--ema 0): only the raw ones are evaluated")
    return {"raw": first}


if __name__ == "__main__":
    main(lambda: evaluate(sys.argv[1:]))
