"""A model that draws, evaluated: on real images, and by what a classifier makes of the images that it draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from core.checks import check_positive
from core.messages import notice
from core.training.trained import matches_data
from vision.data.batches import Images, ImageSet
from vision.data.evaluation import Split, choose_images
from vision.data.load import load_data
from vision.generation.measures import chosen, frechet_distance, kernel_distance, nearest
from vision.reports.sheets import write_sheet
from vision.tasks.drawing.flow import held_out_loss
from vision.tasks.drawing.judges import Judge, as_drawn, load_judge
from vision.tasks.drawing.pixels import coding_error, nats, per_unit
from vision.trained import TrainedGenerator, TrainedPixels

SHOWN = 20
"""Images drawn that are shown above the nearest training image."""


@dataclass(frozen=True, kw_only=True)
class DrawnOptions:
    """How a model that draws is evaluated."""

    split: Split
    """Which real images."""
    judge: Path | None
    """The run folder of the model that judges; without one, only the loss and the nearest images are known."""
    retrain: bool
    """Whether a classifier like the judge is trained on the images drawn alone."""
    samples: int
    """Images drawn, at most as many as there are training images, or unseen ones where captions are told."""
    how: Any
    """How they are drawn: what `how` of the run's configuration says."""
    rows: int
    """Images at once."""

    def __post_init__(self) -> None:
        check_positive(self, "samples", "rows")
        if self.retrain and self.judge is None:
            raise ValueError("retrain needs judge: the run folder of a classifier, whose recipe is then repeated")


def evaluate_drawn(
    folder: Path, trained: TrainedGenerator | TrainedPixels, options: DrawnOptions, out: Path
) -> tuple[str, dict[str, float]]:
    """The split of real images that was read, and all figures; writes samples.png and nearest.png into `out`.

    SPLIT/loss is that of `figures_of_real`, with others beside it. samples/nearest is the median difference of an image
    drawn from the nearest training image (root mean square, pixels being 0 to 1), and nearest_real that of a real image
    that was not trained on: far below it, the model copies. With a judge there are also the figures of `judged`.

    Drawn are the classes of training images, or the captions of unseen ones.
    """
    config, preparation, prompts = trained.config, trained.preparation, trained.prompts
    judge = None if options.judge is None else load_judge(options.judge, trained, options.rows)
    split, real = choose_images(folder, trained, config.data, options.split, config.skip_bad)
    real_figures = {f"{split}/{name}": value for name, value in figures_of_real(trained, real, options.rows).items()}
    size = config.model.image_size
    seen, unseen = (as_drawn(images, preparation, size) for images in (training_images(folder, trained), real))
    source = seen if prompts.words is None else unseen
    labels = source.labels[chosen(options.samples, len(source))]
    drawn = Images(trained.generator(options.rows).draw(prompts.of(labels), options.how), labels)
    figures = real_figures | nearest_figures(drawn, seen, unseen)
    names = () if prompts.words is None else [preparation.classes[label] for label in labels]
    draw_pictures(drawn, seen, out, names)
    if judge is None:
        notice("judge is missing: name the run folder of one with --judge to have the images judged")
        return split, figures
    return split, figures | judged(judge, drawn, seen, unseen, options.retrain)


def figures_of_real(trained: TrainedGenerator | TrainedPixels, real: ImageSet, rows: int) -> dict[str, float]:
    """What a model makes of real images: the loss of their velocity, or of their tokens, and bits per dimension of the
    images that these stand for, with the root mean square (`coding_error`) by which they differ from the real ones.
    """
    preparation, prompts = trained.preparation, trained.prompts
    if isinstance(trained, TrainedGenerator):
        return {"loss": float(held_out_loss(trained.model, real, preparation, prompts, trained.config)) / len(real)}
    codebook, side = trained.codebook, trained.config.model.image_size
    total = float(nats(trained.model, real, preparation, prompts, codebook, rows))
    error = coding_error(real, preparation, codebook, side)
    return per_unit(total, len(real), trained.model) | {"coding_error": error}


def judged(judge: Judge, drawn: Images, seen: Images, unseen: Images, retrain: bool) -> dict[str, float]:
    """What a judge makes of images drawn, beside what it makes of real ones.

    First what it says itself (`Judge.figures`). frechet, kernel: distances of its last features from those of unseen
    images; frechet_real, kernel_real: those of as many training images. accuracy_retrained: on unseen images, of the
    same classifier trained on the drawn ones alone.
    """
    figures = judge.figures(drawn, unseen)
    some = seen.subset(chosen(len(drawn), len(seen)).numpy())
    ours, theirs, real = (judge.features(images) for images in (drawn, some, unseen))
    for name, distance in (("frechet", frechet_distance), ("kernel", kernel_distance)):
        figures |= {name: distance(ours, real), f"{name}_real": distance(theirs, real)}
    if retrain:
        figures["accuracy_retrained"] = judge.retrained(drawn).accuracy(unseen)
    return {f"samples/{name}": value for name, value in figures.items()}


def nearest_figures(drawn: Images, seen: Images, unseen: Images) -> dict[str, float]:
    """How far images drawn, and unseen ones, are from the nearest training image: medians of `nearest` in 0..1."""
    medians = [nearest(images.pixels / 255, seen.pixels / 255)[0].median() for images in (drawn, unseen)]
    return dict(zip(("samples/nearest", "samples/nearest_real"), map(float, medians), strict=True))


def draw_pictures(drawn: Images, seen: Images, out: Path, names: Sequence[str] = ()) -> None:
    """Writes samples.png, and nearest.png: images drawn in the upper row of each pair, the nearest real ones below."""
    write_sheet(drawn.pixels[:100], out / "samples.png", columns=10, captions=names[:100])
    some = drawn.pixels[:SHOWN]
    near = seen.pixels[nearest(some, seen.pixels)[1]]
    rows = [part for pair in zip(some.split(10), near.split(10), strict=True) for part in pair]
    write_sheet(torch.cat(rows), out / "nearest.png", columns=10)


def training_images(folder: Path, trained: TrainedGenerator | TrainedPixels) -> ImageSet:
    """The images that a run was trained on, as far as they are still the same."""
    config = trained.config
    data = load_data(
        config.data,
        size=config.model.image_size,
        validation=config.validation,
        preparation=trained.preparation,
        matches=partial(matches_data, folder),
        skip_bad=config.skip_bad,
        storage=config.storage,
        labelling=config.labelling,
    )
    if not matches_data(folder, data.fingerprint):
        notice(f"{config.data} no longer holds the images that the run was trained on")
    return data.train
