"""A Vision Transformer of timm as a configuration of ours, and the correspondence of its tensors to ours.

What is handled is listed: the modules of a model, the names of its tensors. Anything else is refused by name.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import nn

from core.config import FeedForwardKind, NormKind, PositionConfig, TransformerConfig
from core.files.weights import BOTH, SAME, WEIGHT, Layout, Rule, each_layer, module, stacked
from vision.models.config import ViTConfig
from vision.sides import Sides, rows_and_columns, shortest

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of a model's tensors, by timm's names."""

NORMS: dict[str, NormKind] = {"LayerNorm": "layernorm", "LayerNormFp32": "layernorm", "RmsNorm": "rmsnorm"}
PLAIN: dict[str, FeedForwardKind] = {"GELU": "gelu", "GELUTanh": "gelu-tanh", "ReLU": "relu"}
GATED: dict[str, FeedForwardKind] = {"SiLU": "swiglu", "GELU": "geglu"}
PREFIX = ("cls_token", "reg_token")
"""Learned tokens, in the order in which they come before the patches."""

LINEAR, NORM = ("Linear",), tuple(NORMS)
NOTHING = ("Identity",)
PASSIVE = (*NOTHING, "Dropout", "DropPath", "PatchDropout")
"""What a trained model uses nothing of, wherever it is."""
HANDLED: dict[str, tuple[str, ...]] = {
    "patch_embed": ("PatchEmbed",),
    "patch_embed.proj": ("Conv2d",),
    "blocks": ("Sequential",),
    "blocks.*": ("Block",),
    "blocks.*.norm1": NORM,
    "blocks.*.attn": ("Attention",),
    "blocks.*.attn.qkv": LINEAR,
    "blocks.*.attn.q_norm": NORM + NOTHING,
    "blocks.*.attn.k_norm": NORM + NOTHING,
    "blocks.*.attn.proj": LINEAR,
    "blocks.*.ls1": ("LayerScale", *NOTHING),
    "blocks.*.norm2": NORM,
    "blocks.*.mlp": ("Mlp", "GluMlp", "SwiGLU"),
    "blocks.*.mlp.fc1": LINEAR,
    "blocks.*.mlp.fc1_g": LINEAR,
    "blocks.*.mlp.fc1_x": LINEAR,
    "blocks.*.mlp.act": (*PLAIN, *GATED),
    "blocks.*.mlp.fc2": LINEAR,
    "blocks.*.ls2": ("LayerScale", *NOTHING),
    "norm": NORM + NOTHING,
    "fc_norm": NORM + NOTHING,
    "head": LINEAR + NOTHING,
}
"""The modules of timm's VisionTransformer and of which class each may be; others are PASSIVE."""

ABSENT = Layout(lambda parts: torch.zeros(()), lambda ours: [])
"""A tensor of ours that their model does not have: zero."""


def from_timm(model: nn.Module) -> tuple[ViTConfig, list[Rule]]:
    """The shape of a timm VisionTransformer, and the table of its weights.

    `import_weights` fills our model by that table, and `export_weights` makes their state dict of it.
    A model without a head has 0 classes; rules then fill the head of a model of ours with zeros.

    Raises ValueError naming the class, the module or the setting that is not handled.
    """
    _refuse_unknown(model)
    blocks: Any = model.blocks
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    norms = [part for part in model.modules() if type(part).__name__ in NORMS]
    config = describe(
        shapes,
        image_size=shortest(*model.patch_embed.img_size),  # type: ignore[union-attr, misc]
        n_heads=_only("num_heads", (block.attn.num_heads for block in blocks)),
        pool="class" if model.global_pool == "token" else "mean",
        feedforward=_only("mlp", (_feedforward(block.mlp) for block in blocks)),
        norm=_only("norm", (NORMS[type(norm).__name__] for norm in norms)),
        norm_eps=_only("eps", (norm.eps for norm in norms)),
    )
    return config, rules(config, shapes)


def infer(shapes: Shapes) -> ViTConfig:
    """The likely shape of a model of which only the tensors are known.

    Images are as large as the grid of positions, a head is 64 channels wide where its normalisation does not say
    otherwise, activations are GELU (or SiLU where gated), eps is 1e-6, and a class token is what the head reads.

    Raises ValueError naming the tensor that is missing or of no such model.
    """
    for name, axes in {"patch_embed.proj.weight": 4, "pos_embed": 3, "blocks.0.mlp.fc2.weight": 2}.items():
        if len(shapes.get(name, ())) != axes:
            raise ValueError(f"there is no {name} of {axes} axes, as a Vision Transformer in timm's layout has it")
    if "dist_token" in shapes:
        raise ValueError("dist_token: a distilled model has a second head, which is not handled")
    dim, _, *patch = shapes["patch_embed.proj.weight"]
    (width,) = shapes.get("blocks.0.attn.q_norm.weight", (64,))
    if dim % width:
        raise ValueError(f"the width {dim} is not a multiple of {width} channels per head; add its config.json")
    gated = shapes.get("blocks.0.mlp.fc1.weight", (0,))[0] != shapes["blocks.0.mlp.fc2.weight"][1]
    return describe(
        shapes,
        image_size=shortest(*(side * _side(shapes) for side in patch)),
        n_heads=dim // width,
        pool="class" if "cls_token" in shapes and "fc_norm.weight" not in shapes else "mean",
        feedforward="swiglu" if gated else "gelu",
        norm="layernorm" if "blocks.0.norm1.bias" in shapes else "rmsnorm",
        norm_eps=1e-6,
    )


def describe(
    shapes: Shapes,
    *,
    image_size: Sides,
    n_heads: int,
    pool: Literal["class", "mean"],
    feedforward: FeedForwardKind,
    norm: NormKind,
    norm_eps: float,
) -> ViTConfig:
    """The shape of a model as a configuration of ours: by its tensors, and what their shapes leave open."""
    dim, channels, *sides = shapes["patch_embed.proj.weight"]
    core = TransformerConfig(
        dim=dim,
        depth=len({name.split(".")[1] for name in shapes if name.startswith("blocks.")}),
        n_heads=n_heads,
        ffn_dim=shapes["blocks.0.mlp.fc2.weight"][1],
        feedforward=feedforward,
        norm=norm,
        norm_eps=norm_eps,
        qk_norm=norm if "blocks.0.attn.q_norm.weight" in shapes else "none",
        position=PositionConfig("learned" if "pos_embed" in shapes else "none"),
        layer_scale=1e-5 if "blocks.0.ls1.gamma" in shapes else None,
    )
    return ViTConfig(
        image_size=image_size,
        channels=channels,
        classes=shapes.get("head.weight", (0,))[0],
        patch=shortest(*sides),
        pool=pool,
        registers=_prefix(shapes) - (pool == "class"),
        coordinates="raster",
        final_norm="pooled" if "fc_norm.weight" in shapes else "tokens",
        core=core,
    )


def rules(config: ViTConfig, shapes: Shapes) -> list[Rule]:
    """How their tensors correspond to ours: complete for the model of `config`, whatever theirs lacks."""
    patch = (config.channels, *rows_and_columns(config.patch))
    kernel = Layout(lambda parts: parts[0].flatten(1), lambda ours: [ours.unflatten(1, patch)])  # (D, C p q)
    final = ("norm", "fc_norm") if config.final_norm == "pooled" else ("core.norm", "norm")
    table = [
        *_linear(shapes, "embed.patches.project", "patch_embed.proj", layout=kernel),
        *each_layer(_block(config.core, shapes), config.core.depth),
        *_norm(config.core, *final),
    ]
    if "head.weight" in shapes:
        table += module("head", "head")
    else:
        table += [Rule("head.weight", (), ABSENT), Rule("head.bias", (), ABSENT)]
    if config.learned_tokens:
        table.append(_learned(shapes))
    if "pos_embed" in shapes:
        table.append(_positions(config.learned_tokens + math.prod(config.grid) - shapes["pos_embed"][1]))
    return table


def _block(core: TransformerConfig, shapes: Shapes) -> list[Rule]:
    attention, compute = "core.blocks.*.attention", "core.blocks.*.feedforward"
    split = "blocks.0.mlp.fc1_g.weight" in shapes  # the gate and what it multiplies, apart
    up = ("blocks.*.mlp.fc1_g", "blocks.*.mlp.fc1_x") if split else ("blocks.*.mlp.fc1",)
    both = stacked(core.ffn_width, core.ffn_width) if split else SAME
    table = [
        *_norm(core, f"{attention}.norm", "blocks.*.norm1"),
        *_linear(shapes, f"{attention}.branch.qkv", "blocks.*.attn.qkv"),
        *_linear(shapes, f"{attention}.branch.out", "blocks.*.attn.proj"),
        *_norm(core, f"{compute}.norm", "blocks.*.norm2"),
        *_linear(shapes, f"{compute}.branch.up", *up, layout=both),
        *_linear(shapes, f"{compute}.branch.out", "blocks.*.mlp.fc2"),
    ]
    if core.qk_norm != "none":
        table += _norm(core, f"{attention}.branch.q_norm", "blocks.*.attn.q_norm")
        table += _norm(core, f"{attention}.branch.k_norm", "blocks.*.attn.k_norm")
    if core.layer_scale:
        table.append(Rule(f"{attention}.scale.gain", ("blocks.*.ls1.gamma",)))
        table.append(Rule(f"{compute}.scale.gain", ("blocks.*.ls2.gamma",)))
    return table


def _linear(shapes: Shapes, ours: str, *theirs: str, layout: Layout = SAME) -> list[Rule]:
    """A linear map; one without a bias has a bias of zero here."""
    table = module(ours, *theirs, kinds=WEIGHT, layout=layout)
    if f"{theirs[0]}.bias".replace("*", "0") not in shapes:
        return [*table, Rule(f"{ours}.bias", (), ABSENT)]
    return table + module(ours, *theirs, kinds=("bias",), layout=SAME if len(theirs) == 1 else layout)


def _norm(core: TransformerConfig, ours: str, theirs: str) -> list[Rule]:
    return module(ours, theirs, kinds=WEIGHT if core.norm == "rmsnorm" else BOTH)


def _learned(shapes: Shapes) -> Rule:
    """The class token (1, 1, D) and the registers (1, R, D) are one table: (P, D)."""
    theirs = tuple(name for name in PREFIX if name in shapes)
    rows = [shapes[name][1] for name in theirs]
    layout = Layout(
        lambda parts: torch.cat(list(parts), dim=1)[0],
        lambda ours: [part.unsqueeze(0) for part in ours.split(rows)],
    )
    return Rule("embed.learned", theirs, layout)


def _positions(without: int) -> Rule:
    """Positions (1, N, D), or (1, P + N, D), are a table (P + N, D); without: its first rows that theirs lack: zero."""
    layout = Layout(
        lambda parts: torch.cat((parts[0].new_zeros(without, parts[0].shape[-1]), parts[0][0])),
        lambda ours: [ours[without:].unsqueeze(0)],
    )
    return Rule("core.position.tables.0.weight", ("pos_embed",), layout)


def _refuse_unknown(model: nn.Module) -> None:
    """Raise ValueError naming the first thing about a model that is not handled."""
    kind = type(model).__name__
    if kind != "VisionTransformer":
        reason = "a distilled model has a second head" if "Distilled" in kind else "only a plain VisionTransformer is"
        raise ValueError(f"timm's {kind} is not handled: {reason}")
    for name, part in model.named_modules():
        accepted = HANDLED.get(re.sub(r"^blocks\.\d+", "blocks.*", name), PASSIVE)
        if name and type(part).__name__ not in accepted:
            raise ValueError(f"{name} = {type(part).__name__} is not handled, only {' or '.join(accepted)}")
    for name, values in {"global_pool": ("token", "avg"), "pool_include_prefix": (False,)}.items():
        if (value := getattr(model, name, values[-1])) not in values:
            raise ValueError(f"{name} = {value!r} is not handled, only {' or '.join(map(str, values))}")
    if isinstance(model.norm, nn.Identity) == isinstance(model.fc_norm, nn.Identity):
        raise ValueError("norm and fc_norm: exactly one of the two is handled")


def _feedforward(mlp: Any) -> FeedForwardKind:
    """The kind of a feed-forward layer. Raises ValueError naming an activation or an order that is not handled."""
    kind, act = type(mlp).__name__, type(mlp.act).__name__
    if getattr(mlp.act, "approximate", "none") == "tanh":
        act = "GELUTanh"
    known = PLAIN if kind == "Mlp" else GATED
    if act not in known:
        raise ValueError(f"mlp.act = {act} is not handled in a {kind}, only {' or '.join(known)}")
    if getattr(mlp, "gate_last", False):
        raise ValueError("mlp.gate_last = True is not handled: the gate must come first")
    return known[act]


def _prefix(shapes: Shapes) -> int:
    """The number of learned tokens."""
    return sum(shapes[name][1] for name in PREFIX if name in shapes)


def _side(shapes: Shapes) -> int:
    """The side of the grid of positions, which may include the learned tokens or not."""
    places = shapes["pos_embed"][1]
    for patches in (places - _prefix(shapes), places):
        side = round(max(patches, 0) ** 0.5)
        if side and side**2 == patches:
            return side
    raise ValueError(f"pos_embed has {places} places, not a square grid beside {_prefix(shapes)} learned tokens")


def _only(name: str, values: Iterable[Any]) -> Any:
    """The value that all have in common. Raises ValueError if they differ."""
    different = list(dict.fromkeys(values))
    if len(different) != 1:
        raise ValueError(f"{name} must be the same in all layers, got {', '.join(map(str, different))}")
    return different[0]
