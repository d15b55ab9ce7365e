"""Which images a model is evaluated on."""

from pathlib import Path
from typing import Literal

from core.messages import notice
from core.training.trained import matches_data
from vision.config import TrainConfig
from vision.data.batches import ImageSet
from vision.data.folder import first_few, part_folders
from vision.data.load import Data, load_data, load_test
from vision.data.named import NAMES
from vision.data.preparation import Preparation

Split = Literal["auto", "test", "validation"]

FAIRNESS = {
    "validation": "these are the validation images, by which the best checkpoint was chosen",
    "all": "these are all of its images, a fair test if the model was trained on none of them "
    "(else: --split validation)",
}


def choose_images(
    run: Path, config: TrainConfig, preparation: Preparation, *, name: str = "", split: Split, skip_bad: bool
) -> tuple[str, ImageSet]:
    """The images of a split, and which it is: "test", "validation" or, of a folder without parts, "all".

    run, config, preparation: of the model. name: another image set or folder; default the run's own.
    Raises ValueError: there are none, or they do not have the model's classes.
    """
    name = name or config.data
    other, parts = not is_same(name, config.data), parts_of(name)
    default = "test" if "test" in parts else "validation" if parts or not other else "all"
    chosen = default if split == "auto" else split
    if chosen == "test":
        return chosen, load_test(name, preparation, skip_bad=skip_bad, storage=config.storage)
    held_out = None if other and "validation" in parts else config.validation
    data = load_data(
        name,
        size=config.model.image_size,
        channels=preparation.channels,
        validation=0 if chosen == "all" else held_out,
        skip_bad=skip_bad,
        storage=config.storage,
    )
    check_classes(data, preparation.classes)
    images = data.train if chosen == "all" else data.validation
    if not len(images):
        raise ValueError(f"{name} has no validation images: the run was trained on all of them (--validation 0)")
    if split == "auto":
        notice(f"{name} has no test images: {FAIRNESS[chosen]}")
    if not (other or matches_data(run, data.fingerprint)):
        notice(f"{name} no longer holds the images that the run was trained on")
    return chosen, images


def is_same(name: str, other: str) -> bool:
    """Whether two names of image sets or folders mean the same."""
    return name == other or Path(name).expanduser().resolve() == Path(other).expanduser().resolve()


def parts_of(name: str) -> set[str]:
    """Which of "test" and "validation" a named set, or a folder by its sub-folders, has."""
    return {"test"} if name in NAMES else set[str](part_folders(Path(name).expanduser())) - {"train"}


def check_classes(data: Data, known: tuple[str, ...]) -> None:
    """Raises ValueError naming classes that the data has and the model lacks, or the other way round."""
    classes = data.preparation.classes
    if classes != known:
        different = sorted(set(classes) ^ set(known)) or ["the same in another order"]
        raise ValueError(f"{data.name} has other classes than the model: {first_few(different)}")
