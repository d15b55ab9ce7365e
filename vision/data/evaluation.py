"""Which images a model is evaluated on."""

from pathlib import Path
from typing import Literal

from core.messages import notice
from core.training.trained import matches_data
from vision.data.batches import ImageSet
from vision.data.folder import part_folders
from vision.data.load import check_classes, load_data, load_test
from vision.data.named import NAMES
from vision.trained import Trained

Split = Literal["auto", "test", "validation"]

FAIRNESS = {
    "validation": "these are the validation images, by which the best checkpoint was chosen",
    "all": "these are all of its images, a fair test if the model was trained on none of them "
    "(else: --split validation)",
}


def choose_images(folder: Path, trained: Trained, name: str, split: Split, skip_bad: bool) -> tuple[str, ImageSet]:
    """The images of a split, and which it is: "test", "validation" or, of a folder without parts, "all".

    name: the run's image set or folder, or another. Raises ValueError: there are none, or they do not have the model's
    classes.
    """
    config, preparation = trained.config, trained.preparation
    path = Path(name).expanduser()
    other = path.resolve() != Path(config.data).expanduser().resolve()
    parts = {"test"} if name in NAMES else set[str](part_folders(path)) - {"train"}
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
    check_classes(data.preparation.classes, preparation.classes, name, "the model")
    images = data.train if chosen == "all" else data.validation
    if not len(images):
        raise ValueError(f"{name} has no validation images: the run was trained on all of them (--validation 0)")
    if split == "auto":
        notice(f"{name} has no test images: {FAIRNESS[chosen]}")
    if not (other or matches_data(folder, data.fingerprint)):
        notice(f"{name} no longer holds the images that the run was trained on")
    return chosen, images
