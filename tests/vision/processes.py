"""Small models and images to evaluate, alone or in several processes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, distributed

from core.config import TransformerConfig
from vision.data.batches import Images
from vision.data.load import load_test
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.tasks.classification import evaluate


def opinionated(classes: int = 10, channels: int = 1) -> ViT:
    """A small model in evaluation mode with random weights, also in the head, for images of 8 x 8 pixels."""
    torch.manual_seed(0)
    core = TransformerConfig(dim=16, depth=1, n_heads=2)
    model = ViT(ViTConfig(image_size=8, channels=channels, classes=classes, patch=4, core=core))
    torch.nn.init.normal_(model.head.weight)
    return model.eval()


def grey(classes: int = 10) -> Preparation:
    return Preparation(tuple(map(str, range(classes))), 1, (0.3,), (0.4,), 8)


def digits() -> Images:
    images = load_test("digits", grey())
    assert isinstance(images, Images)
    return images


def numbered(count: int) -> tuple[ViT, Images, Preparation]:
    """So many images, each of a class of its own, so that the counts by class tell how often each was counted."""
    pixels = torch.randint(256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return opinionated(count), Images(pixels, torch.arange(count)), grey(count)


def take_part(rank: int, world: int, count: int, batch_size: int, folder: Path) -> None:
    """Writes as RANK.json this process's figures and the sums over all processes."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=world)
    sums: list[Tensor] = []

    def reduce(flat: Tensor) -> Tensor:
        distributed.all_reduce(flat)
        sums.append(flat.clone())
        return flat

    model, images, preparation = numbered(count)
    figures = evaluate(model, images, preparation, batch_size, share=(rank, world), reduce=reduce)
    [flat] = sums
    (folder / f"{rank}.json").write_text(json.dumps({"figures": figures, "sums": flat.tolist()}))
    distributed.destroy_process_group()
