"""What other tools do to names in a checkpoint and to its config.json changes nothing; what is not known is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.vision.pretrained.models import (
    GATED,
    TINY,
    Change,
    assert_same_outputs,
    saved,
    some_images,
    theirs,
)
from vision.trained import read_pretrained

WRAPPED: dict[str, Change] = {
    "compiled": lambda w: {f"_orig_mod.{k}": t for k, t in w.items()},
    "distributed": lambda w: {f"module.{k}": t for k, t in w.items()},
    "both": lambda w: {f"module._orig_mod.{k}": t for k, t in w.items()},
    "blocks compiled": lambda w: {k.replace("blocks.0.", "blocks.0._orig_mod."): t for k, t in w.items()},
    "held by another module": lambda w: {f"module.backbone.{k}": t for k, t in w.items()},
    "DINOv2's masked patches": lambda w: w | {"mask_token": torch.ones(1, 192)},
    "MAE's decoder": lambda w: (
        w | {"mask_token": torch.ones(1, 1, 8), "decoder_blocks.0.attn.qkv.weight": torch.ones(8)}
    ),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_what_other_tools_add_to_a_checkpoint_changes_nothing(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = theirs("ViT")
    saved(model, tmp_path, model_args={"depth": 2})
    weights = WRAPPED[case](load_file(tmp_path / "model.safetensors"))
    save_file(weights, tmp_path / "model.safetensors")
    source = read_pretrained(str(tmp_path))
    left_out = "only pretraining uses" in capsys.readouterr().err
    assert left_out == ("mask_token" in weights)
    assert_same_outputs(source.start(source.config).eval(), model, some_images(source.config))


def test_dinov2_as_it_was_published_is_timm_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Registers without a position, the class token's apart, SwiGLU's maps by other names, masked patches."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    settings = TINY | GATED | {"img_size": 56, "num_classes": 0, "num_heads": 1}
    model = timm.create_model("vit_small_patch14_reg4_dinov2", **settings)
    published = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    published["register_tokens"] = published.pop("reg_token")
    published["pos_embed"] = torch.randn(1, 17, 64)
    published["mask_token"] = torch.zeros(1, 64)
    renamed = {k.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): t for k, t in published.items()}
    save_file(renamed, tmp_path / "dinov2.safetensors")
    model.load_state_dict(checkpoint_filter_fn(dict(renamed), model))
    source = read_pretrained(str(tmp_path / "dinov2.safetensors"))
    assert (source.config.registers, source.config.pool, source.config.image_size) == (4, "class", 56)
    made = source.start(replace(source.config, classes=3)).eval()
    made.head = nn.Identity()
    assert_same_outputs(made, model.eval(), some_images(source.config))


def test_a_tensor_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    weights = theirs("ViT").state_dict()
    save_file(weights | {"module.norm.weight": torch.ones(192)}, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="m.safetensors: norm.weight is there twice"):
        read_pretrained(str(tmp_path / "m.safetensors"))


def test_fields_of_a_config_that_nobody_knows_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(
        theirs("ViT"),
        tmp_path,
        model_args={"depth": 2},
        license="mit",
        _name_or_path="x",
        trained_by="me",
        pretrained_cfg={"odd": 3},
    )
    read_pretrained(str(tmp_path))
    assert capsys.readouterr().err == (
        f"notice: {tmp_path / 'config.json'}: fields that are not known are passed over: trained_by; odd\n"
    )


def test_a_config_in_timm_s_older_layout_brings_its_normalisation(tmp_path: Path) -> None:
    saved(theirs("ViT"), tmp_path, model_args={"depth": 2})
    new = json.loads((tmp_path / "config.json").read_text())
    old = new["pretrained_cfg"] | {"mean": [0.1, 0.2, 0.3], "labels": [f"kind {i}" for i in range(1000)]}
    old |= {"architecture": new["architecture"], "model_args": new["model_args"], "crop_pct": 0.95}
    (tmp_path / "config.json").write_text(json.dumps(old))
    source = read_pretrained(str(tmp_path))
    assert (source.mean, source.crop, source.classes.names[7]) == ((0.1, 0.2, 0.3), 0.95, "kind 7")
