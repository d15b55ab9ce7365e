"""Models of ours that timm loads: as a folder with model.safetensors and config.json, or as its state dict.

A model is first brought into the form that timm's layout has: biases and gains that it lacks are added as zeros and
ones, positions that are added to the tokens become a table, whitening a part of the patch map. What then differs from
the model that timm builds is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.cli.exits import RunFailure
from core.config import GATED, FeedForwardKind, PositionConfig, TransformerConfig
from core.files.atomic import atomic_write
from core.files.json_files import write_json
from core.files.tensors import WEIGHTS
from core.files.weights import export_weights
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.pretrained.resize import dropping, fold_whitening
from vision.pretrained.timm_layout import from_timm

PLAIN, GATES, CLIP = "vit_base_patch16_224", "vit_giant_patch14_dinov2", "vit_base_patch16_clip_224"
"""The architectures whose settings describe a model: most; with gates; LayerNorm with an eps of 1e-5."""
ACTIVATIONS: dict[FeedForwardKind, str] = {
    "gelu": "gelu",
    "gelu-tanh": "gelu_tanh",
    "relu": "relu",
    "swiglu": "silu",
    "geglu": "gelu",
}
NO_PLACE = "timm's layout has no place for {}; ONNX has (--onnx FILE.onnx)"
MODES = {"crop": "center", "pad": "border", "squash": "squash"}
"""timm's names of how images become squares."""
TOLERANCE = 1e-5
"""Largest difference of a logit between timm's model and ours, as a share of the largest logit or of 1."""


@dataclass(frozen=True, eq=False)
class TimmModel:
    """A model as timm has it: what `timm.create_model(architecture, **arguments)` makes, and its state dict."""

    architecture: str
    arguments: dict[str, Any]
    weights: dict[str, Tensor]


def to_timm(model: ViT) -> TimmModel:
    """A model in timm's layout.

    Raises ValueError naming what that has no place for, and RunFailure where outputs differ.
    """
    import timm

    if model.config.padding != "none":
        raise ValueError(NO_PLACE.format(f"padding = {model.config.padding!r}"))
    same = in_timms_form(model)
    architecture, arguments = timm_arguments(same.config)
    with torch.device("meta"):
        skeleton = timm.create_model(architecture, **arguments)
    described, rules = from_timm(skeleton)
    if different := differences(same.config, described):
        raise ValueError(NO_PLACE.format(", ".join(different)))
    made = TimmModel(architecture, arguments, export_weights(same, rules))
    compare(made, model)
    return made


def save_timm(model: ViT, preparation: Preparation, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Writes a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads, atomically.

    Raises what `to_timm` raises, and ValueError for a folder that exists.
    """
    if folder.exists():
        raise ValueError(f"{folder} already exists: give the name of a new folder")
    from safetensors.torch import save_file

    made = to_timm(model)
    with atomic_write(folder) as aside:
        aside.mkdir()
        weights = {name: tensor.to(dtype) for name, tensor in made.weights.items()}
        save_file(weights, aside / WEIGHTS, metadata={"format": "pt"})
        write_json(aside / "config.json", timm_config(made, model.config, preparation))


def in_timms_form(model: ViT) -> ViT:
    """A model of the same outputs, in evaluation mode, in the form that timm's layout describes as far as possible."""
    config = canonical(model.config)
    weights = {name: tensor.float().cpu() for name, tensor in model.state_dict().items()}
    weights = fold_whitening(weights)
    coords = model.embed.locate()
    added = model.core.position.embed(coords.to(model.head.weight.device))
    if added is not None:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("core.position.")}
        weights["core.position.tables.0.weight"] = added.detach().float().cpu()  # (T, D)
    same = ViT(config).eval()
    state = same.state_dict()
    for name, tensor in state.items():
        missing = torch.zeros if name.endswith(".bias") else torch.ones
        state[name] = weights.pop(name) if name in weights else missing(tensor.shape)
    if not weights:  # else something has no place, which the configurations tell
        same.load_state_dict(state)
    return same


def canonical(config: ViTConfig) -> ViTConfig:
    """The same shape in timm's terms, whatever of it timm has; what changes no output is left out."""
    core = config.core
    added = core.position.kind in ("learned", "sinusoidal")
    gains = {"rms": "rmsnorm"}
    core = replace(
        dropping(core, TransformerConfig()),
        n_kv_heads=None if core.key_heads == core.n_heads else core.n_kv_heads,
        head_dim=None if core.head_width * core.n_heads == core.dim else core.head_dim,
        ffn_dim=core.ffn_width,
        norm=gains.get(core.norm, core.norm),  # type: ignore[arg-type]
        qk_norm=gains.get(core.qk_norm, core.qk_norm),  # type: ignore[arg-type]
        bias="all",
        position=PositionConfig("learned") if added else core.position,
        layer_scale=1e-5 if core.layer_scale or core.feedforward in GATED else None,
        init="gpt2",
    )
    return replace(config, inputs="pixels", coordinates="raster", coordinate_side=None, core=core)


def timm_arguments(config: ViTConfig) -> tuple[str, dict[str, Any]]:
    """An architecture of timm and its settings for a shape; what they have no setting for is left out."""
    core, gated = config.core, config.core.feedforward in GATED
    hidden = core.ffn_width * (2 if gated else 1)
    exact = int(core.dim * (hidden / core.dim)) == hidden
    arguments = {
        "img_size": config.image_size,
        "patch_size": config.patch,
        "in_chans": config.channels,
        "num_classes": config.classes,
        "global_pool": "token" if config.pool == "class" else "avg",
        "class_token": config.pool == "class",
        "reg_tokens": config.registers,
        "fc_norm": config.final_norm == "pooled",
        "embed_dim": core.dim,
        "depth": core.depth,
        "num_heads": core.n_heads,
        "mlp_ratio": (hidden if exact else hidden + 0.5) / core.dim,
        "qk_norm": core.qk_norm != "none",
        "act_layer": ACTIVATIONS.get(core.feedforward, "gelu"),
        "pos_embed": "none" if core.position.kind == "none" else "learn",
        "no_embed_class": False,
    }
    if core.layer_scale:
        arguments["init_values"] = 1e-5
    if core.norm == "layernorm" and core.norm_eps == 1e-5 and not gated:
        return CLIP, arguments | {"pre_norm": False}
    return GATES if gated else PLAIN, arguments | {"norm_layer": core.norm}


def differences(ours: Any, theirs: Any, prefix: str = "") -> list[str]:
    """The fields in which two configurations differ, each with our value."""
    different = []
    for field in fields(ours):
        value, other = getattr(ours, field.name), getattr(theirs, field.name)
        if is_dataclass(value) and field.name != "position":
            different += differences(value, other, f"{prefix}{field.name}.")
        elif value != other:
            name = f"{prefix}{field.name}"
            is_kind = isinstance(value, PositionConfig)
            different.append(f"{name}.kind = {value.kind!r}" if is_kind else f"{name} = {value!r}")
    return different


@torch.no_grad()
def compare(made: TimmModel, model: ViT) -> None:
    """Raises RunFailure where timm's model has other outputs than ours."""
    import timm

    theirs: nn.Module = timm.create_model(made.architecture, **made.arguments).eval()
    theirs.load_state_dict(made.weights)
    c, generator = model.config, torch.Generator().manual_seed(0)
    images = torch.randn(2, c.channels, *c.size, generator=generator)
    expected = model(images.to(model.head.weight)).float().cpu()
    difference = float((theirs(images) - expected).abs().max() / expected.abs().max().clamp(min=1))
    if not difference <= TOLERANCE:  # also where it is NaN
        raise RunFailure(f"timm's logits differ by {difference:.2g} of the largest from ours, more than {TOLERANCE:g}")


def timm_config(made: TimmModel, config: ViTConfig, preparation: Preparation) -> dict[str, Any]:
    """A config.json as timm's hub has it."""
    size = (config.channels, *config.size)
    return {
        "architecture": made.architecture,
        "num_classes": config.classes,
        "num_features": config.core.dim,
        "global_pool": made.arguments["global_pool"],
        "label_names": list(preparation.classes),
        "model_args": made.arguments,
        "pretrained_cfg": {
            "input_size": size,
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": preparation.crop,
            "crop_mode": MODES[preparation.fit],
            "mean": preparation.mean,
            "std": preparation.std,
            "num_classes": config.classes,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
