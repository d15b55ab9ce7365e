"""Which caption an image has: two encoders, and how well captions are found by images."""

from dataclasses import replace
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.devices import to_device
from core.training.config import with_steps
from core.training.folder import resume_point
from core.training.order import Batch, Share, share
from core.training.run import Run
from vision.captions.prompts import Prompts
from vision.data.batches import ImageSet, evaluation_batches
from vision.data.load import Data
from vision.data.preparation import Preparation
from vision.generation.noise import generator
from vision.models.contrastive import Contrastive, ContrastiveLoss
from vision.tasks.contrastive_config import ContrastiveRunConfig
from vision.tasks.drawing.prompted import PromptedTask, check_same_shape, choose_prompts, first_model, prepared_data
from vision.trained import load_contrastive


class Captioning(PromptedTask):
    """Images and their captions, the cross-entropy of the right one in a group, how well those held out are found."""

    unit = "images"
    best = "val/mrr"
    mode: Literal["min", "max"] = "max"
    use = "evaluate it with: python -m vision.evaluate"

    def __init__(self, data: Data, prompts: Prompts, config: ContrastiveRunConfig):
        self.data, self.prompts, self.config = data, prompts, config

    @classmethod
    def prepare(cls, config: ContrastiveRunConfig) -> Self:
        data = prepared_data(config)
        prompts = choose_prompts(config, "caption", config.model.caption_length, data)
        shape = replace(config.model, channels=data.preparation.channels, words=len(prompts.words or ()))
        config = replace(config, model=shape)
        if config.init_from and resume_point(config) is None:
            check_same_shape(config, load_contrastive(config.init_from).config)
        return cls(data, prompts, with_steps(config, len(data.train)))

    def first_model(self) -> Contrastive:
        return first_model(self.config, Contrastive, load_contrastive)

    def summary(self) -> str:
        data, words = self.data, len(self.prompts.words or ())
        return (
            f"{data.name}: {len(data.train):,} images with captions to learn from, {len(data.validation):,} held out, "
            f"{words:,} words"
        )

    def objective(self, model: nn.Module) -> nn.Module:
        return ContrastiveLoss(model, self.config.group, self.config.temperature)

    def order(self, step: int, part: Share, progress: float) -> list[Batch]:
        """The micro-batches of a step, each of whole groups: images (b, C, S, S) and words int64 (b, L)."""
        config = self.config
        if (images := config.batch_size // (part.world * part.accumulate)) % config.group:
            raise ValueError(f"group = {config.group} must divide the {images} images of a micro-batch of one process")
        drawn = generator(config.seed, "shift", step)
        offsets = torch.randint(2 * config.shift + 1, (config.batch_size, 2), generator=drawn)
        rows = share(np.arange(config.batch_size), *part)
        batch = self.images.batch(step, *part)
        return [self._begin(micro, offsets[torch.from_numpy(own)]) for micro, own in zip(batch, rows, strict=True)]

    def count(self, *batch: Tensor) -> int:
        """The number of images in a micro-batch."""
        return len(batch[0])

    def evaluate(self, run: Run) -> dict[str, float]:
        """How well captions of held-out images are found among all of them; each process does it all."""
        model = run.state.model
        assert isinstance(model, Contrastive)
        if not len(self.data.validation):
            return {}
        found = retrieval(*vectors(model, self.data.validation, self.data.preparation, self.prompts))
        return {f"val/{name}": value for name, value in found.items()}

    def _begin(self, stored: Batch, offsets: Tensor) -> Batch:
        """Prepared images, moved by their offsets, and words."""
        pixels, labels = (to_device(each, self.device) for each in stored)
        images = self.data.preparation(pixels, self.config.model.image_size)
        return moved(images, to_device(offsets, self.device), self.config.shift), self.prompts.of(labels)


def moved(images: Tensor, offsets: Tensor, most: int) -> Tensor:
    """Each image (B, C, S, S) moved by so many rows and columns, less `most`, int64 (B, 2); edges are repeated."""
    side = images.shape[-1]
    padded = F.pad(images, (most,) * 4, mode="replicate")
    places = offsets.unsqueeze(-1) + torch.arange(side, device=images.device)  # (B, 2, S)
    batch = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    rows, columns = places[:, 0].unsqueeze(2), places[:, 1].unsqueeze(1)  # (B, S, 1), (B, 1, S)
    return padded.movedim(1, -1)[batch, rows, columns].movedim(-1, 1)


@torch.no_grad()
def vectors(
    model: Contrastive, images: ImageSet, preparation: Preparation, prompts: Prompts, rows: int = 500
) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors of images and of their captions, 2 x float32 (N, W), and their labels, int64 (N,), on the CPU."""
    device = next(model.parameters()).device
    parts = []
    for pixels, labels in evaluation_batches(images, rows):
        told = prompts.of(labels.to(device))
        parts.append((*model(preparation(pixels.to(device), model.config.image_size), told), labels))
    seen, read, labels = (torch.cat([part[n].cpu() for part in parts]) for n in range(3))
    return seen, read, labels


def retrieval(seen: Tensor, read: Tensor, labels: Tensor) -> dict[str, float]:
    """How well each image's caption is found among the N different ones, by cosines; chance ranks them at random.

    accuracy, top5: the share of images whose own caption is the nearest, or among the nearest five; mrr: the mean of
    1 / its rank; chance: the accuracy of guessing. seen, read: (N, W); labels: int64 (N,), equal for equal captions
    """
    names, places = np.unique(labels.numpy(), return_index=True)
    own = torch.from_numpy(np.searchsorted(names, labels.numpy()))
    cosines = seen @ read[torch.from_numpy(places)].T  # (N, captions)
    right = cosines.gather(1, own.unsqueeze(1))
    ranks = (cosines >= right - 1e-6).sum(1).double()  # others as near, but for rounding, come first
    return {
        "accuracy": float((ranks <= 1).double().mean()),
        "top5": float((ranks <= 5).double().mean()),
        "mrr": float((1 / ranks).mean()),
        "chance": 1 / len(names),
    }
