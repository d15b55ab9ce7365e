"""Which images a model is evaluated on."""

from functools import partial
from pathlib import Path
from typing import Literal

from core.files.downloads import data_root
from core.messages import notice
from core.training.trained import matches_data
from vision.data.batches import ImageSet
from vision.data.folder import Part
from vision.data.load import load_data, load_part, parts_named
from vision.trained import Trained, TrainedContrastive, TrainedGenerator, TrainedPixels

Evaluated = Trained | TrainedContrastive | TrainedGenerator | TrainedPixels
Split = Literal["auto", "test", "validation"]

FAIRNESS = {
    "validation": "these are the validation images, by which the best checkpoint was chosen",
    "others": "these are its validation images",
    "all": "these are all of its images, a fair test if the model was trained on none of them "
    "(else: --split validation)",
}


def choose_images(folder: Path, trained: Evaluated, name: str, split: Split, skip_bad: bool) -> tuple[str, ImageSet]:
    """The images of a split, and which it is: "test", "validation" or, of a folder without parts, "all".

    name: the run's image set or folder, or another. All are stored and labelled as the model's own. Raises ValueError:
    there are none, or they have classes that the model does not have.
    """
    config, preparation = trained.config, trained.preparation
    other = Path(name).expanduser().resolve() != Path(config.data).expanduser().resolve()
    parts = parts_named(name, data_root(), preparation.layout.media) - {"train"}
    default = "test" if "test" in parts else "validation" if parts or not other else "all"
    chosen = default if split == "auto" else split
    if chosen == "validation" and not (other and "validation" in parts):
        images = _held_out(folder, trained, name, skip_bad, "other" if other else "own")
    else:
        part: Part = "train" if chosen == "all" else "test" if chosen == "test" else "validation"
        images = load_part(name, part, preparation, trained_on=config.data, skip_bad=skip_bad, storage=config.storage)
    if split == "auto" and chosen != "test":
        which = "others" if other and chosen == "validation" else chosen
        notice(f"{name} has no test images: {FAIRNESS[which]}")
    return chosen, images


def _held_out(folder: Path, trained: Evaluated, name: str, skip_bad: bool, whose: Literal["own", "other"]) -> ImageSet:
    """The images that training held out of its own, or would have held out of others."""
    config = trained.config
    data = load_data(
        name,
        size=config.model.image_size,
        validation=config.validation,
        preparation=trained.preparation,
        matches=partial(matches_data, folder),
        skip_bad=skip_bad,
        storage=config.storage,
        labelling=config.labelling,
    )
    if not len(data.validation):
        raise ValueError(f"{name} has no validation images: the run was trained on all of them (--validation 0)")
    if whose == "own" and not matches_data(folder, data.fingerprint):
        notice(f"{name} no longer holds the images that the run was trained on")
    return data.validation
