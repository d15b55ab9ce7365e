"""Small models of timm of every handled kind, as they are and in files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from core.files.weights import import_weights
from tests.core.helpers import awake
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.pretrained.timm_layout import from_timm
from vision.trained import read_pretrained

TINY = {"embed_dim": 64, "num_heads": 4, "depth": 2, "img_size": 64, "num_classes": 11}
GATED = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 3.0}

THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("vit_tiny_patch16_224", {"depth": 2}),
    "DeiT": ("deit_tiny_patch16_224", {"depth": 2}),
    "DeiT III": ("deit3_small_patch16_224", TINY),
    "registers, mean pooling": ("vit_medium_patch16_reg4_gap_256", TINY),
    "mean pooling, normalised before": ("vit_medium_patch16_gap_256", TINY),
    "mean pooling beside a class token": ("vit_tiny_patch16_224", TINY | {"global_pool": "avg"}),
    "class token, normalised after": ("vit_tiny_patch16_224", TINY | {"fc_norm": True}),
    "DINOv2": ("vit_small_patch14_reg4_dinov2", TINY | {"img_size": 56}),
    "SigLIP with mean pooling": ("vit_base_patch32_siglip_gap_256", TINY),
    "any size of image": ("vit_tiny_patch16_224", TINY | {"dynamic_img_size": True}),
    "no positions": ("vit_tiny_patch16_224", TINY | {"pos_embed": "none"}),
    "QK-norm": ("vit_tiny_patch16_224", TINY | {"qk_norm": True}),
    "LayerScale": ("vit_tiny_patch16_224", TINY | {"init_values": 1e-5}),
    "no biases": ("vit_tiny_patch16_224", TINY | {"qkv_bias": False, "proj_bias": False}),
    "RMSNorm": ("vit_tiny_patch16_224", TINY | {"norm_layer": "rmsnorm", "qk_norm": True}),
    "another eps": ("vit_tiny_patch16_224", TINY | {"norm_layer": partial(nn.LayerNorm, eps=0.1)}),
    "tanh": ("vit_tiny_patch16_224", TINY | {"act_layer": "gelu_tanh"}),
    "ReLU": ("vit_tiny_patch16_224", TINY | {"act_layer": "relu"}),
    "SwiGLU": ("vit_tiny_patch16_224", TINY | GATED),
    "SwiGLU in two": ("vit_tiny_patch16_224", TINY | GATED | {"mlp_layer": timm.layers.SwiGLU}),
    "GEGLU": ("vit_tiny_patch16_224", TINY | GATED | {"act_layer": nn.GELU}),
    "grey": ("vit_tiny_patch16_224", TINY | {"in_chans": 1}),
}


def theirs(name: str, **changes: Any) -> Any:
    """A model of timm, every parameter drawn anew."""
    architecture, settings = THEIRS[name]
    return awake(timm.create_model(architecture, **settings | changes))


def ours(model: nn.Module) -> ViT:
    config, rules = from_timm(model)
    made = ViT(replace(config, classes=config.classes or 1)).eval()
    import_weights(made, model.state_dict(), rules)
    return made


Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def load_pretrained(name: str, config: ViTConfig, *classes: str) -> ViT:
    return read_pretrained(name).start(config, classes)


def some_images(config: ViTConfig) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(2, config.channels, *config.size, generator=generator)


@torch.no_grad()
def assert_same_outputs(a: nn.Module, b: nn.Module, images: Tensor) -> None:
    said, expected = a(images), b(images)
    assert (expected[0] - expected[1]).std() > 0.02 * expected.std(), "the image must matter"
    torch.testing.assert_close(said, expected, atol=1e-5 * expected.std().item(), rtol=0)


def without(items: dict[str, Any], name: str) -> dict[str, Any]:
    return {other: item for other, item in items.items() if other != name}


def saved(model: Any, folder: Path, **config: Any) -> Path:
    """A model as timm writes it for its hub: model.safetensors and config.json."""
    timm.models.save_for_hf(model, str(folder), model_config=config or None, safe_serialization=True)
    return folder
