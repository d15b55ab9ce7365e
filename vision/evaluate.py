"""Evaluate an image model on images that it was not trained on.

python -m vision.evaluate DIR [--checkpoint best|last|last-good|last-K|STEP] [--split test|validation] [--json]
python -m vision.evaluate DIR --judge JUDGE_DIR [--retrain] [--samples N] [--json]

No other command reads the test images.
"""

import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from core.checks import check_positive
from core.cli.arguments import parse_fields, run_folder
from core.cli.exits import main
from core.devices import autocast, device_kind
from core.files.json_files import write_json
from core.messages import notice
from core.training.trained import EvaluateOptions, Weights, print_json
from vision.data.batches import image_names
from vision.data.evaluation import Split, choose_images
from vision.generation.options import DrawingOptions
from vision.reports.report import key_figures, tables, write_figures
from vision.tasks.contrastive import retrieval, vectors
from vision.tasks.drawing.drawn import DrawnOptions, evaluate_drawn
from vision.tasks.evaluation import Views, evaluate_all, variants
from vision.trained import Trained, load, load_contrastive, load_drawing, task_of

DRAWING = ("judge", "retrain", "samples", *(f.name for f in fields(DrawingOptions)))
"""Settings of models that draw."""


@dataclass(frozen=True)
class EvaluateConfig(DrawingOptions, EvaluateOptions):
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
    judge: Path | None = None
    """Of a model that draws: the run folder of a classifier of the same images, by which those drawn are judged, or,
    where it draws captions, of a model of images and captions."""
    retrain: bool = False
    """Also train a classifier like the judge, by its own recipe, on the images drawn alone."""
    samples: int = 2000
    """Images drawn, of the classes that the training images have, or of captions of unseen images; at most as many as
    these."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic; auto is what training chooses by itself."""
    out: Path | None = None
    """Folder for the pictures and figures.json; default DIR/evaluation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        EvaluateOptions.__post_init__(self)
        check_positive(self, "batch_size", "samples")

    def refuse_others(self, *names: str, task: str) -> None:
        """Raises ValueError for one of these settings, which other tasks have."""
        for f in fields(self):
            if f.name in names and getattr(self, f.name) != f.default:
                raise ValueError(f"{f.name} = {getattr(self, f.name)!r} has no effect on the task {task!r}")


def evaluate(argv: list[str]) -> None:
    """The command."""
    folder, rest = run_folder(argv, "vision.evaluate")
    options = parse_fields(
        EvaluateConfig(),
        rest,
        prog="python -m vision.evaluate DIR",
        description="Evaluates a run on images that it was not trained on, and draws its errors.",
    )
    EVALUATIONS[task_of(folder)](folder, options)


def evaluate_generator(folder: Path, options: EvaluateConfig) -> None:
    """Of a model that draws: prints its figures and keeps pictures."""
    started = time.monotonic()
    options.refuse_others("data", "skip_bad", "tta", task=task_of(folder))
    if options.weights == "both":
        raise ValueError("weights = 'both' is for classifiers: name averaged or raw")
    trained = load_drawing(folder, options.checkpoint, device_kind(options.device), options.weights)
    asked = trained.config.how(options)
    place, rows = options.out or folder / "evaluation", options.batch_size or trained.config.eval_batch
    how = DrawnOptions(
        split=options.split,
        judge=options.judge,
        retrain=options.retrain,
        samples=options.samples,
        how=asked,
        rows=rows,
    )
    with autocast(options.precision, trained.device):
        split, found = evaluate_drawn(folder, trained, how, place)
    about = {"step": trained.step, "data": trained.config.data, "split": split, "judge": str(options.judge or "")}
    figures = about | asdict(asked) | found | {"seconds": round(time.monotonic() - started, 2)}
    write_json(place / "figures.json", figures)
    words = ", ".join(f"{name} {value}" for name, value in asdict(asked).items() if value is not None)
    print(f"{trained.config.data}: {split} images, checkpoint of step {trained.step}, {words}\n")
    print(*(f"{name:<30} {value:>10.4f}" for name, value in found.items()), sep="\n")
    print(f"\npictures and figures are in {place}")
    if options.json:
        print_json(figures)


def evaluate_captioning(folder: Path, options: EvaluateConfig) -> None:
    """Of a model of images and captions: how well captions that were not trained on are found by their images."""
    started = time.monotonic()
    options.refuse_others("data", "skip_bad", "tta", *DRAWING, task="contrastive")
    if options.weights == "both":
        raise ValueError("weights = 'both' is for classifiers: name averaged or raw")
    trained = load_contrastive(folder, options.checkpoint, device_kind(options.device), options.weights)
    config, place = trained.config, options.out or folder / "evaluation"
    split, images = choose_images(folder, trained, config.data, options.split, config.skip_bad)
    rows = options.batch_size or config.eval_batch
    with autocast(options.precision, trained.device):
        found = retrieval(*vectors(trained.model, images, trained.preparation, trained.prompts, rows))
    figures: dict[str, Any] = {"step": trained.step, "data": config.data, "split": split, "images": len(images)}
    figures |= {f"{split}/{name}": value for name, value in found.items()}
    figures["seconds"] = round(time.monotonic() - started, 2)
    write_json(place / "figures.json", figures)
    print(f"{config.data}: {len(images):,} images ({split}), checkpoint of step {trained.step}\n")
    print(*(f"{name:<30} {value:>10.4f}" for name, value in found.items()), sep="\n")
    if options.json:
        print_json(figures)


def evaluate_classifier(folder: Path, options: EvaluateConfig) -> None:
    """Of a classifier: prints tables and keeps pictures, predictions and figures."""
    started = time.monotonic()
    options.refuse_others(*DRAWING, task="classification")
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


EVALUATIONS = {
    "classification": evaluate_classifier,
    "flow": evaluate_generator,
    "pixels": evaluate_generator,
    "contrastive": evaluate_captioning,
}
"""By the names of the tasks."""


if __name__ == "__main__":
    main(lambda: evaluate(sys.argv[1:]))
