"""timm, vit-pytorch and torchvision as contestants: models of our shape, and the data pipeline of most tutorials."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from vision.models.config import ViTConfig

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer
    from torch.utils.data import DataLoader

PACKAGES = {"timm": "timm", "vit-pytorch": "vit_pytorch"}
"""Peers by name, each with the module that it is imported as."""


def installed() -> list[str]:
    """The peers that are here."""
    return [peer for peer, module in PACKAGES.items() if importlib.util.find_spec(module) is not None]


# ---------------------------------------------------------------------------------------------- models


def peer_model(peer: str, shape: ViTConfig) -> nn.Module:
    """The peer's Vision Transformer in the shape of a plain one of ours: images (B, C, S, S) -> logits (B, K)."""
    return timm_model(shape) if peer == "timm" else vit_pytorch_model(shape)


def timm_model(shape: ViTConfig) -> VisionTransformer:
    """timm's, without a class token, the tokens normalised before their mean: our plain model to the last parameter."""
    from timm.models.vision_transformer import VisionTransformer

    core = shape.core
    return VisionTransformer(
        img_size=shape.image_size,
        patch_size=shape.patch,
        in_chans=shape.channels,
        num_classes=shape.classes,
        global_pool="avg",
        class_token=False,
        fc_norm=False,
        embed_dim=core.dim,
        depth=core.depth,
        num_heads=core.n_heads,
        mlp_ratio=core.ffn_width / core.dim,
        drop_path_rate=core.drop_path,
    )


def vit_pytorch_model(shape: ViTConfig) -> nn.Module:
    """vit-pytorch's, with mean pooling; it normalises patches before and after their map, and has no qkv bias."""
    from vit_pytorch import ViT

    core = shape.core
    return ViT(
        image_size=shape.image_size,
        patch_size=shape.patch,
        channels=shape.channels,
        num_classes=shape.classes,
        pool="mean",
        dim=core.dim,
        depth=core.depth,
        heads=core.n_heads,
        dim_head=core.head_width,
        mlp_dim=core.ffn_width,
    )


# ---------------------------------------------------------------------------------------------- data

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of CIFAR-10's training pixels, by channel, as tutorials have them (to the digits shown)."""


def torchvision_loader(root: Path, images: int, batch: int, workers: int) -> DataLoader:
    """CIFAR-10 as most tutorials feed it: PIL images one by one through torchvision.transforms.v2, a DataLoader around.

    root: the folder above cifar-10-batches-py. images: how many of the training images. workers stay between epochs.
    """
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import CIFAR10
    from torchvision.transforms import v2

    steps = [
        v2.RandomCrop(32, padding=4),
        v2.RandomHorizontalFlip(),
        v2.RandAugment(num_ops=2, magnitude=9),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
        v2.RandomErasing(p=0.5),
    ]
    data = Subset(CIFAR10(os.fspath(root), transform=v2.Compose(steps)), range(images))
    return DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)
