"""What `vision.train` needs of a task."""

from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import nn

from core.adapters.lora import adapt
from core.messages import notice
from core.training.folder import resume_point
from core.training.run import Run
from core.training.task import Task
from core.training.trained import matches_data, save_data_record
from vision.config import VisionConfig
from vision.data.load import Data


class VisionTask(Task, Protocol):
    """Images, an objective and a metric; it knows the whole configuration of its run."""

    config: Any
    """The configuration of the run, with what the images and the weights to start from decide filled in."""
    data: Data
    """The images."""
    use: str
    """How to use what was trained: a sentence that the run folder follows."""

    @classmethod
    def prepare(cls, config: Any) -> Self:
        """Reads the images. Raises ValueError for what cannot be trained."""

    def to(self, device: torch.device) -> None:
        """Lets batches be made for a device; comes before the first of them."""

    def first_model(self) -> Any:
        """The model before the first step; a resumed run's weights come later, from its checkpoint."""

    def trained_part(self, model: Any) -> nn.Module:
        """The model, with those of its weights frozen that are not to be trained."""
        return adapt(model, self.config.adapter)

    def save_data(self, folder: Path) -> None:
        """Keeps in a run folder what is needed to use the model, and what it was trained on."""
        data = self.data
        data.preparation.save(folder)
        held = {"validation": len(data.validation), "validation_fingerprint": data.validation_fingerprint}
        save_data_record(folder, data.name, data.fingerprint, train=len(data.train), **held)

    def show(self, run: Run) -> None:
        """Writes something to look at into the run folder, after an evaluation; by default nothing."""
        return


def starts_from_others(config: VisionConfig) -> bool:
    """Whether a run's model is made of the weights that it starts from: when it begins, and beside adapters always."""
    return bool(config.init_from) and (resume_point(config) is None or config.adapter.kind != "none")


def check_same_data(config: VisionConfig, data: Data) -> None:
    """Raises ValueError where a run is resumed with other images than it was trained on; others held out, a notice."""
    if config.resume and not matches_data(config.out, data.fingerprint):
        raise ValueError(f"{config.out} was trained on other images: those of --data {config.data} have changed")
    if config.resume and not matches_data(config.out, data.validation_fingerprint, "validation_fingerprint"):
        notice(f"the validation images of --data {config.data} have changed: later figures are those of other images")
