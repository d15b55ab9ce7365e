"""What leaves in timm's layout has the same outputs there, and comes back; what has no place there is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from core.config import PositionConfig, TransformerConfig
from tests.core.helpers import awake
from tests.vision.pretrained.models import assert_same_outputs, some_images
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.tokens import WhitenedPatchEmbedding
from vision.models.vit import ViT
from vision.presets import PRESETS
from vision.pretrained.timm_export import save_timm, to_timm
from vision.trained import read_pretrained

CORE = TransformerConfig(dim=24, depth=2, n_heads=2, norm_eps=1e-6, position=PositionConfig("learned"))
PLAIN = ViTConfig(image_size=16, channels=3, classes=5, patch=4, pool="class", coordinates="raster", core=CORE)
COLOR = Preparation(tuple("cabed"), 3, (0.1, 0.2, 0.3), (0.2, 0.3, 0.4), 18, 0.9)

HELD: dict[str, ViTConfig] = {
    "class token": PLAIN,
    "mean, registers": replace(PLAIN, pool="mean", registers=2),
    "normalised after pooling": replace(PLAIN, pool="mean", final_norm="pooled"),
    "class token, registers": replace(PLAIN, registers=3),
    "tables of rows and columns": replace(PLAIN, coordinates="grid", registers=1),
    "sinusoidal": replace(PLAIN, coordinates="grid", core=replace(CORE, position=PositionConfig("sinusoidal"))),
    "no positions": replace(PLAIN, core=replace(CORE, position=PositionConfig("none"))),
    "no biases": replace(PLAIN, core=replace(CORE, bias="none")),
    "biases of queries alone": replace(PLAIN, core=replace(CORE, bias="qkv", layer_scale=0.1)),
    "no gains": replace(PLAIN, core=replace(CORE, norm="rms", qk_norm="rms", feedforward="relu")),
    "whitened": replace(PLAIN, inputs="whitened", core=replace(CORE, feedforward="gelu-tanh", ffn_dim=65)),
    "SwiGLU": replace(PLAIN, core=replace(CORE, feedforward="swiglu", ffn_dim=40, norm="rmsnorm")),
    "GEGLU": replace(PLAIN, core=replace(CORE, feedforward="geglu", layer_scale=0.3, qk_norm="layernorm")),
    "PyTorch's eps": replace(PLAIN, core=replace(CORE, norm_eps=1e-5, dropout=0.1, drop_path=0.1)),
    "grey": replace(PLAIN, channels=1),
}


def model_of(config: ViTConfig) -> ViT:
    model = awake(ViT(config)).eval()
    if isinstance(model.embed.patches, WhitenedPatchEmbedding):
        model.embed.patches.fit(torch.randn(40, 3, 16, 16) @ torch.randn(16, 16))
    return model


@pytest.mark.parametrize("name", HELD)
def test_timm_loads_the_state_dict_and_has_the_same_logits(name: str) -> None:
    model = model_of(HELD[name])
    made = to_timm(model)
    theirs = timm.create_model(made.architecture, **made.arguments).eval()
    theirs.load_state_dict(made.weights, strict=True)
    assert_same_outputs(theirs, model, some_images(model.config))


@pytest.mark.parametrize("name", ["class token", "mean, registers", "SwiGLU", "PyTorch's eps"])
def test_a_folder_is_loaded_by_timm_s_hub_loader_and_comes_back(name: str, tmp_path: Path) -> None:
    model, folder = model_of(HELD[name]), tmp_path / "left"
    save_timm(model, COLOR, folder)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert_same_outputs(theirs, model, some_images(model.config))
    settings = timm.data.resolve_data_config({}, model=theirs)
    assert [tuple(settings[key]) for key in ("mean", "std", "input_size")] == [COLOR.mean, COLOR.std, (3, 16, 16)]
    assert [settings[key] for key in ("crop_pct", "interpolation", "crop_mode")] == [0.9, "bicubic", "center"]
    assert tuple(theirs.pretrained_cfg["label_names"]) == COLOR.classes
    source = read_pretrained(str(folder))
    assert (source.mean, source.std, source.crop, source.classes.names) == (COLOR.mean, COLOR.std, 0.9, COLOR.classes)
    assert_same_outputs(source.start(source.config, COLOR.classes).eval(), model, some_images(model.config))


def test_half_precision_and_other_ways_to_make_squares(tmp_path: Path) -> None:
    model = model_of(PLAIN)
    for fit, mode in (("pad", "border"), ("squash", "squash")):
        save_timm(model, replace(COLOR, fit=fit), tmp_path / fit, torch.float16)
        assert {tensor.dtype for tensor in load_file(tmp_path / fit / "model.safetensors").values()} == {torch.float16}
        theirs = timm.create_model(f"local-dir:{tmp_path / fit}", pretrained=True).eval()
        assert theirs.pretrained_cfg["crop_mode"] == mode
        with torch.no_grad():
            torch.testing.assert_close(theirs(some_images(PLAIN)), model(some_images(PLAIN)), atol=0.05, rtol=0.02)


@pytest.mark.parametrize("name", ["vit-tiny", "vit-small", "vit-base"])
def test_the_presets_of_timm_s_shapes_are_built_by_timm(name: str) -> None:
    from vision.pretrained.timm_export import canonical, timm_arguments
    from vision.pretrained.timm_layout import from_timm

    config = replace(PRESETS[name].model, channels=3, classes=10)
    architecture, arguments = timm_arguments(config)
    with torch.device("meta"):
        assert from_timm(timm.create_model(architecture, **arguments))[0] == canonical(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(PLAIN, pool="attention"), "place for pool = 'attention';"),
        (replace(PLAIN, tokenizer="conv"), "place for tokenizer = 'conv';"),
        (replace(PLAIN, core=replace(CORE, feedforward="relu2")), "place for core.feedforward = 'relu2';"),
        (replace(PLAIN, core=replace(CORE, norm_placement="post")), "place for core.norm_placement = 'post';"),
        (
            replace(PLAIN, core=replace(CORE, n_kv_heads=1)),
            "place for core.n_kv_heads = 1;",
        ),
        (replace(PLAIN, core=replace(CORE, norm_eps=1e-3)), "place for core.norm_eps = 0.001;"),
        (replace(PLAIN, core=replace(CORE, qk_norm="rmsnorm")), "place for core.qk_norm = 'rmsnorm';"),
        (
            replace(PLAIN, coordinates="grid", core=replace(CORE, position=PositionConfig("rotary"))),
            "place for core.position.kind = 'rotary';",
        ),
    ],
)
def test_what_has_no_place_in_timm_s_layout_is_named(config: ViTConfig, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"timm's layout has no {message} ONNX has"):
        save_timm(model_of(config), COLOR, tmp_path / "left")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="already exists"):
        save_timm(model_of(PLAIN), COLOR, tmp_path)
    assert not list(tmp_path.iterdir())
