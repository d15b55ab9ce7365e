"""A model that draws, evaluated: on real images, and by what a classifier makes of the images that it draws."""

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from core.checks import check_positive
from core.messages import notice
from core.training.trained import matches_data
from vision.data.batches import Images, ImageSet, evaluation_batches
from vision.data.evaluation import Split, choose_images
from vision.data.load import Data, load_data
from vision.generation.draw import ImageGenerator
from vision.generation.measures import chosen, frechet_distance, kernel_distance, nearest
from vision.generation.samplers import Drawing
from vision.reports.sheets import write_sheet
from vision.tasks.classification import Classification, evaluate
from vision.tasks.flow import held_out_loss
from vision.tasks.loop import train_task
from vision.trained import Trained, TrainedGenerator, load

SHOWN = 20
"""Images drawn that are shown above the nearest training image."""


@dataclass(frozen=True, kw_only=True)
class DrawnOptions:
    """How a model that draws is evaluated."""

    split: Split
    """Which real images."""
    judge: Path | None
    """The run folder of the classifier that judges; without one, only the loss and the nearest images are known."""
    retrain: bool
    """Whether a classifier like the judge is trained on the images drawn alone."""
    samples: int
    """Images drawn, at most as many as there are training images."""
    drawing: Drawing
    """How they are drawn."""
    rows: int
    """Images at once."""

    def __post_init__(self) -> None:
        check_positive(self, "samples", "rows")
        if self.retrain and self.judge is None:
            raise ValueError("retrain needs judge: the run folder of a classifier, whose recipe is then repeated")


def evaluate_drawn(
    folder: Path, trained: TrainedGenerator, options: DrawnOptions, out: Path
) -> tuple[str, dict[str, float]]:
    """The split of real images that was read, and all figures; writes samples.png and nearest.png into `out`.

    SPLIT/loss is that of the velocity on real images. samples/nearest is the median difference of an image drawn from
    the nearest training image (root mean square, pixels being 0 to 1), and nearest_real that of a real image that was
    not trained on: far below it, the model copies. With a judge there are also the figures of `judged`.
    """
    config, preparation = trained.config, trained.preparation
    judge = None if options.judge is None else load_judge(options.judge, trained)
    split, real = choose_images(folder, trained, config.data, options.split, config.skip_bad)
    total = held_out_loss(trained.model, real, preparation, config)
    seen, unseen = (stored(images, trained) for images in (training_images(folder, trained), real))
    labels = seen.labels[chosen(options.samples, len(seen))]
    generator = ImageGenerator(trained.model, preparation, trained.device, options.rows)
    drawn = Images(generator.draw(labels.tolist(), options.drawing), labels)
    figures = {f"{split}/loss": float(total) / len(real)} | nearest_figures(drawn, seen, unseen)
    draw_pictures(drawn, seen, out)
    if judge is None:
        notice("judge is missing: name the run folder of a classifier with --judge to have the images judged")
        return split, figures
    return split, figures | judged(judge, drawn, seen, unseen, options)


def judged(judge: Trained, drawn: Images, seen: Images, unseen: Images, options: DrawnOptions) -> dict[str, float]:
    """What a classifier makes of images drawn, beside what it makes of real ones.

    recognised: the share that is assigned to the class asked for; recognised_real: that of unseen real images.
    frechet, kernel: distances of its last features from those of unseen images; frechet_real, kernel_real: those of as
    many training images. accuracy_retrained: on unseen images, of the same classifier trained on the drawn ones alone.
    """
    some = seen.subset(chosen(len(drawn), len(seen)).numpy())
    ours, theirs, real = (features(judge, images, options.rows) for images in (drawn, some, unseen))
    figures = {
        "recognised": accuracy(judge, drawn, options.rows),
        "recognised_real": accuracy(judge, unseen, options.rows),
    }
    for name, distance in (("frechet", frechet_distance), ("kernel", kernel_distance)):
        figures |= {name: distance(ours, real), f"{name}_real": distance(theirs, real)}
    if options.retrain:
        figures["accuracy_retrained"] = accuracy(trained_on(judge, drawn), unseen, options.rows)
    return {f"samples/{name}": value for name, value in figures.items()}


def nearest_figures(drawn: Images, seen: Images, unseen: Images) -> dict[str, float]:
    """How far images drawn, and unseen ones, are from the nearest training image: medians of `nearest` in 0..1."""
    medians = [nearest(images.pixels / 255, seen.pixels / 255)[0].median() for images in (drawn, unseen)]
    return dict(zip(("samples/nearest", "samples/nearest_real"), map(float, medians), strict=True))


def draw_pictures(drawn: Images, seen: Images, out: Path) -> None:
    """Writes samples.png, and nearest.png: images drawn in the upper row of each pair, the nearest real ones below."""
    write_sheet(drawn.pixels[:100], out / "samples.png", columns=10)
    some = drawn.pixels[:SHOWN]
    near = seen.pixels[nearest(some, seen.pixels)[1]]
    rows = [part for pair in zip(some.split(10), near.split(10), strict=True) for part in pair]
    write_sheet(torch.cat(rows), out / "nearest.png", columns=10)


def training_images(folder: Path, trained: TrainedGenerator) -> ImageSet:
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


def stored(images: ImageSet, trained: TrainedGenerator) -> Images:
    """Images as the model draws them, of its size."""
    size, parts = trained.config.model.image_size, [*evaluation_batches(images, 500)]
    pixels = [(trained.preparation.resize(part, size) * 255).round().to(torch.uint8) for part, _ in parts]
    return Images(torch.cat(pixels), torch.cat([labels for _, labels in parts]))


def load_judge(folder: Path, trained: TrainedGenerator) -> Trained:
    """A classifier of the same classes. Raises ValueError for one of others."""
    judge, own = load(folder, device=trained.device.type), trained.preparation
    for name in ("classes", "channels"):
        if (theirs := getattr(judge.preparation, name)) != (ours := getattr(own, name)):
            raise ValueError(f"judge = {str(folder)!r} has {name} = {theirs!r}, not {ours!r}, as what it is to judge")
    return judge


@torch.no_grad()
def features(judge: Trained, images: Images, rows: int) -> Tensor:
    """What the head of a classifier reads: (N, D)."""
    size = judge.model.config.image_size
    parts = [judge.preparation(part.to(judge.device), size) for part in images.pixels.split(rows)]
    return torch.cat([judge.model.pooled(part).float().cpu() for part in parts])


def accuracy(judge: Trained, images: Images, rows: int) -> float:
    """The share of images that a classifier assigns to their own class."""
    return evaluate(judge.model, images, judge.preparation, rows, device=judge.device)["accuracy"]


def trained_on(judge: Trained, images: Images) -> Trained:
    """The same classifier, from its first step on, trained on other images alone (Ravuri & Vinyals 2019)."""
    with tempfile.TemporaryDirectory() as folder:
        config = replace(judge.config, out=Path(folder) / "run", init_from="", validation=0, resume=False, train="all")
        data = Data("images drawn", images, images.subset(torch.arange(0).numpy()), judge.preparation, "", "")
        train_task(Classification(data, config))
        return load(config.out, "last", device=judge.device.type)
