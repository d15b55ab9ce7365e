"""The tasks of the panel, by the names in their configurations."""

from vision.tasks.classification import Classification
from vision.tasks.contrastive import Captioning
from vision.tasks.drawing.flow import Flow
from vision.tasks.drawing.pixels import Pixels
from vision.tasks.task import VisionTask

TASKS: dict[str, type[VisionTask]] = {
    "classification": Classification,
    "flow": Flow,
    "contrastive": Captioning,
    "pixels": Pixels,
}
