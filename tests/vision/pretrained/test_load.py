"""timm's models say the same here as there, or are refused by name; a run and a file are as good a start."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from core.config import TransformerConfig
from core.files.serialize import to_dict
from core.files.weights import export_weights
from core.training.checkpoints import Checkpoints, write_config
from tests.core.helpers import awake, shape
from tests.vision.pretrained.models import (
    THEIRS,
    Change,
    assert_same_outputs,
    load_pretrained,
    ours,
    saved,
    some_images,
    theirs,
    without,
)
from vision.config import TrainConfig
from vision.data.preparation import Preparation
from vision.models.config import ViTConfig
from vision.models.vit import ViT
from vision.pretrained.head import ClassNames
from vision.pretrained.resize import adapt, resized
from vision.pretrained.timm_layout import from_timm
from vision.trained import read_pretrained

# The same model


@pytest.mark.parametrize("name", THEIRS)
def test_a_model_of_timm_says_the_same_here(name: str) -> None:
    model = theirs(name)
    assert_same_outputs(ours(model), model, some_images(from_timm(model)[0]))


@pytest.mark.parametrize("name", THEIRS)
def test_weights_that_go_back_are_those_that_came(name: str) -> None:
    model = theirs(name)
    back = export_weights(ours(model), from_timm(model)[1])
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in back.items())


def test_the_shape_is_described_in_our_words() -> None:
    config, _ = from_timm(theirs("registers, mean pooling"))
    assert (config.pool, config.registers, config.final_norm, config.grid) == ("mean", 4, "pooled", (4, 4))
    assert config.coordinates == "raster"
    assert config.core.layer_scale
    config, _ = from_timm(theirs("mean pooling beside a class token"))
    assert (config.pool, config.registers) == ("mean", 1), "a class token that nobody reads is a register"
    config, _ = from_timm(theirs("another eps"))
    assert config.core.norm_eps == 0.1


@pytest.mark.parametrize("name", ["ViT", "DINOv2", "registers, mean pooling", "mean pooling, normalised before"])
@pytest.mark.parametrize("side", [3, 6, 18])
def test_another_image_size_is_that_of_timm(name: str, side: int) -> None:
    model = theirs(name)
    config, _ = from_timm(model)
    new = resized(config, side * config.patch, config.patch)
    larger = ViT(new).eval()
    larger.load_state_dict(adapt(ours(model).state_dict(), config, new))
    model.set_input_size(img_size=(new.image_size, new.image_size))
    assert_same_outputs(larger, model, some_images(new))


def test_another_image_size_is_what_timm_makes_of_a_checkpoint() -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    model, small = theirs("DeiT"), theirs("DeiT", img_size=96)
    small.load_state_dict(checkpoint_filter_fn(model.state_dict(), small))
    config, _ = from_timm(model)
    new = resized(config, 96, 16)
    made = ViT(new).eval()
    made.load_state_dict(adapt(ours(model).state_dict(), config, new))
    assert_same_outputs(made, small, some_images(new))


@pytest.mark.parametrize("patch", [8, 32])
def test_another_patch_size_is_that_of_timm(patch: int) -> None:
    model = theirs("ViT")
    config, _ = from_timm(model)
    new = resized(config, 128, patch)
    other = ViT(new).eval()
    other.load_state_dict(adapt(ours(model).state_dict(), config, new))
    model.set_input_size(img_size=(128, 128), patch_size=(patch, patch))
    with torch.no_grad():
        said, expected = other(some_images(new)), model(some_images(new))
    torch.testing.assert_close(said, expected, atol=1e-4 * expected.std().item(), rtol=0)  # timm inverts in float32


def test_a_model_without_a_head_says_what_timm_s_does_before_its_head() -> None:
    model = theirs("ViT", num_classes=0)
    config, _ = from_timm(model)
    assert config.classes == 0
    made = ours(model)
    assert not made.head.weight.any()
    made.head = nn.Identity()
    assert_same_outputs(made, model, some_images(config))


# Refused


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("deit_tiny_distilled_patch16_224", {}, "VisionTransformerDistilled is not handled: a distilled model"),
        ("swin_tiny_patch4_window7_224", {}, "SwinTransformer is not handled"),
        ("eva02_tiny_patch14_224", {}, "Eva is not handled"),
        ("resnet18", {}, "ResNet is not handled"),
        ("vit_tiny_r_s16_p8_224", {}, "patch_embed = HybridEmbed is not handled, only PatchEmbed"),
        ("vit_small_patch16_18x2_224", {}, "blocks.0 = ParallelThingsBlock is not handled, only Block"),
        ("vit_base_patch16_siglip_224", {}, "attn_pool = AttentionPoolLatent is not handled"),
        ("vit_base_patch16_clip_224", {}, "norm_pre = LayerNorm is not handled, only Identity"),
        ("vit_base_patch16_clip_quickgelu_224", {"pre_norm": False}, "blocks.0.mlp.act = QuickGELU is not handled"),
        ("vit_tiny_patch16_224", {"scale_attn_norm": True}, "blocks.0.attn.norm = LayerNorm is not handled"),
        ("vit_tiny_patch16_224", {"scale_mlp_norm": True}, "blocks.0.mlp.norm = LayerNorm is not handled"),
        ("vit_tiny_patch16_224", {"act_layer": "silu"}, "mlp.act = SiLU is not handled in a Mlp, only GELU or"),
        ("vit_tiny_patch16_224", {"mlp_layer": timm.layers.GluMlp}, "mlp.gate_last = True is not handled"),
        ("vit_tiny_patch16_224", {"global_pool": "max"}, "global_pool = 'max' is not handled, only token or avg"),
        ("vit_tiny_patch16_224", {"global_pool": ""}, "global_pool = '' is not handled, only token or avg"),
        ("vit_tiny_patch16_224", {"pool_include_prefix": True}, "pool_include_prefix = True is not handled"),
        ("vit_tiny_patch16_224", {"final_norm": False}, "norm and fc_norm: exactly one of the two is handled"),
        ("vit_tiny_patch16_224", {"img_size": 230}, "patch = 16 must divide image_size = 230"),
    ],
)  # fmt: skip
def test_what_is_not_handled_is_refused_by_name(name: str, settings: dict[str, Any], message: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, **settings)
    with pytest.raises(ValueError, match=message):
        from_timm(model)


def test_layers_that_differ_are_refused() -> None:
    model = theirs("SwiGLU")
    model.blocks[1].norm1.eps = 1e-3
    with pytest.raises(ValueError, match="eps .* 1e-06, 0.001"):
        from_timm(model)


# Files


@pytest.mark.parametrize("name", ["DINOv2", "mean pooling beside a class token", "grey", "no biases"])
def test_a_folder_that_timm_wrote_is_read(name: str, tmp_path: Path) -> None:
    model = theirs(name)
    folder = saved(model, tmp_path / "m", model_args=without(THEIRS[name][1], "num_classes"))
    for source in (folder, folder / "model.safetensors"):
        pretrained = read_pretrained(str(source))
        assert pretrained.config == from_timm(model)[0]
        assert not pretrained.assumed
        assert_same_outputs(
            load_pretrained(str(source), pretrained.config).eval(), model, some_images(pretrained.config)
        )
    about = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    fits = len(about["mean"]) == pretrained.config.channels  # timm before 1.0.31 writes three for grey images
    assert (pretrained.mean, pretrained.std) == ((tuple(about["mean"]), tuple(about["std"])) if fits else (None, None))


def test_normalisation_and_names_come_with_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"kind {i}" for i in range(11)]
    folder = saved(theirs("ViT", num_classes=11), tmp_path / "m", model_args={"depth": 2}, label_names=names)
    source = read_pretrained(str(folder))
    assert source.classes == ClassNames(tuple(names), ("",) * 11)
    data = Preparation(tuple(names), 3, (0.1, 0.2, 0.3), (0.4, 0.4, 0.4), 224)
    half = (0.5, 0.5, 0.5)
    assert source.adapt_preparation(data) == replace(data, mean=half, std=half, crop=0.9)
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match="the images have 1 channels, the model to start from 3"):
        source.adapt_preparation(Preparation(("a", "b"), 1, (0.1,), (0.4,), 224))


@pytest.mark.parametrize(
    "name",
    [
        *("ViT", "DeiT III", "registers, mean pooling", "mean pooling, normalised before"),
        *("mean pooling beside a class token", "QK-norm", "SwiGLU", "SwiGLU in two", "grey", "no biases"),
    ],
)
def test_weights_alone_tell_the_shape_and_what_they_do_not_is_said(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = theirs(name) if name in ("ViT", "QK-norm") else theirs(name, num_heads=1)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for source in (tmp_path, tmp_path / "model.safetensors"):
        pretrained = read_pretrained(str(source))
        assert pretrained.config == from_timm(model)[0]
        assert (pretrained.mean, pretrained.crop, pretrained.classes) == (None, None, ClassNames())
        made = load_pretrained(str(source), pretrained.config).eval()
        assert f"notice: {source}: there is no config.json beside it" in capsys.readouterr().err
        assert_same_outputs(made, model, some_images(pretrained.config))
    data = Preparation(("a", "b"), pretrained.config.channels, *[(0.5,) * pretrained.config.channels] * 2, 64)
    assert pretrained.adapt_preparation(data) == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w | {"dist_token": torch.zeros(1, 1, 192)}, "dist_token: a distilled model has a second head"),
        (lambda w: w | {"norm_pre.weight": torch.ones(192)}, "the weights hold unknown norm_pre.weight"),
        (lambda w: w | {"blocks.0.attn.rope": torch.ones(192)}, "the weights hold unknown blocks.0.attn.rope"),
        (lambda w: without(w, "blocks.1.mlp.fc1.bias"), "the weights lack blocks.1.mlp.fc1.bias"),
        (lambda w: without(w, "pos_embed"), "there is no pos_embed of 3 axes"),
        (lambda w: w | {"pos_embed": torch.zeros(1, 199, 192)}, "pos_embed has 199 places"),
        (lambda w: w | {"norm.weight": torch.ones(191)}, r"norm.weight has the shape \(191,\)"),
        (lambda w: w | {"norm.weight": torch.ones(192).to(torch.int8)}, "norm.weight is of type int8"),
        (lambda w: {f"a.{k}": t for k, t in w.items()} | {"a.text": torch.ones(3)}, "the weights hold unknown text"),
        (lambda w: w | {"patch_embed.proj.weight": torch.zeros(80, 3, 16, 16)}, "the width 80 "),
    ],
)  # fmt: skip
def test_weights_of_another_kind_are_refused_by_name(change: Change, message: str, tmp_path: Path) -> None:
    save_file(change(theirs("ViT").state_dict()), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=f"m.safetensors: {message}"):
        read_pretrained(str(tmp_path / "m.safetensors"))


RESNET: dict[str, Any] = {"architecture": "resnet18", "model_args": {}, "pretrained_cfg": {}, "global_pool": "avg"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": ...}, "config.json has no architecture, as timm writes it"),
        ({"architecture": "vit_tini_patch16_224"}, "timm has no 'vit_tini_patch16_224'; did you mean 'vit_tiny_"),
        (RESNET, "timm's ResNet is not handled"),
        ({"architecture": "deit_tiny_distilled_patch16_224"}, "a distilled model has a second head"),
        ({"model_args": {"depht": 3}}, "timm cannot build 'vit_tiny_patch16_224': .*depht"),
        ({"model_args": {"pretrained": True}}, "timm cannot build .* 'pretrained'"),
        ({"model_args": {"checkpoint_path": "a.pth"}}, "timm cannot build .* 'checkpoint_path'"),
        ({"model_args": {"depth": 3}}, "the weights lack blocks.2"),
        ({"num_classes": 7}, r"head.* has the shape"),
        ({"model_args": [3]}, r"config.json: model_args = \[3\] is not an object"),
        ({"pretrained_cfg": "in1k"}, "config.json: pretrained_cfg = 'in1k' is not an object"),
    ],
)  # fmt: skip
def test_a_config_that_says_something_else_is_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = saved(theirs("ViT"), tmp_path / "m", model_args={"depth": 2})
    described = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps({k: v for k, v in described.items() if v is not ...}))
    with pytest.raises(ValueError, match=message):
        read_pretrained(str(folder))


def test_a_normalisation_of_other_channels_says_nothing(tmp_path: Path) -> None:
    folder = saved(theirs("grey"), tmp_path / "m", model_args=without(THEIRS["grey"][1], "num_classes"))
    described = json.loads((folder / "config.json").read_text())
    for mean in ([0.5, 0.5, 0.5], ["half"], 0.5, None):
        described["pretrained_cfg"]["mean"] = mean
        (folder / "config.json").write_text(json.dumps(described))
        source = read_pretrained(str(folder))
        assert (source.config.channels, source.mean, source.std) == (1, None, None)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(theirs("ViT").state_dict(), file)
    whole = file.read_bytes()
    for content in (whole[:-1000], whole[:4], b"", b"\xff" * 5000):
        file.write_bytes(content)
        for source in (tmp_path, file):
            with pytest.raises(ValueError, match="model.safetensors is (damaged or )?not a (readable )?safetensors"):
                read_pretrained(str(source))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "model.pth")
    for source in (tmp_path, tmp_path / "model.pth"):
        with pytest.raises(ValueError, match="model.pth is a pickle, which can execute code, and is never read"):
            read_pretrained(str(source))
    with pytest.raises(ValueError, match="nowhere is neither a run folder, nor timm:NAME, nor safetensors"):
        read_pretrained("nowhere")


def test_a_file_in_half_precision_is_read_in_full(tmp_path: Path) -> None:
    model = theirs("ViT")
    save_file({name: t.half() for name, t in model.state_dict().items()}, tmp_path / "model.safetensors")
    source = read_pretrained(str(tmp_path))
    assert {t.dtype for t in source.weights.values()} == {torch.float32}
    model.half().float()
    assert_same_outputs(load_pretrained(str(tmp_path), source.config).eval(), model, some_images(source.config))


# The hub

CACHED = "test_vit.r160_in1k"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's files, in which a snapshot of one small model of timm has room."""
    import huggingface_hub

    kept = tmp_path / f"models--timm--{CACHED}"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    (kept / "snapshots" / ("0" * 40)).mkdir(parents=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return kept / "snapshots" / ("0" * 40)


def test_a_model_that_the_hub_gave_before_loads_without_a_network(
    hub_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = awake(timm.create_model(CACHED))
    saved(model, hub_cache)
    source = read_pretrained(f"timm:{CACHED}")
    assert (source.mean, source.std) == (model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
    made = load_pretrained(f"timm:{CACHED}", source.config).eval()
    assert_same_outputs(made, model, some_images(source.config))
    assert not capsys.readouterr().err


def test_what_the_hub_gave_is_read_only_if_it_is_whole_and_no_pickle(hub_cache: Path) -> None:
    torch.save(timm.create_model(CACHED).state_dict(), hub_cache / "pytorch_model.bin")
    with pytest.raises(ValueError, match=f"timm:{CACHED}: there is no model.safetensors of timm/{CACHED} on the"):
        read_pretrained(f"timm:{CACHED}")
    (hub_cache / "model.safetensors").write_bytes(b"\xff" * 5000)
    with pytest.raises(ValueError, match=f"timm:{CACHED}: .*model.safetensors is damaged"):
        read_pretrained(f"timm:{CACHED}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch16_224", "could not be downloaded from the Hugging Face hub .* or name a folder"),
        ("vit_tiny_patch61_224", "timm has no 'vit_tiny_patch61_224'; did you mean 'vit_tiny_patch16_224'?"),
        ("vit_tiny_patch16_224.mine", "timm cannot build 'vit_tiny_patch16_224.mine': Invalid pretrained tag"),
        ("deit_tiny_distilled_patch16_224", "timm's VisionTransformerDistilled is not handled: a distilled model"),
        ("vit_huge_patch14_gap_224", "timm names no weights on the Hugging Face hub"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_had_says_how(name: str, message: str, hub_cache: Path) -> None:
    with pytest.raises(ValueError, match=f"^timm:{name}: .*{message.replace('?', '.')}") as caught:
        read_pretrained(f"timm:{name}")
    assert "\n" not in str(caught.value)


# A run of ours


@pytest.fixture
def run_folder(tmp_path: Path) -> tuple[Path, ViT]:
    """The folder of a run with averaged weights, its best checkpoint not the last, and the model to be found there."""
    config = ViTConfig(image_size=8, channels=1, classes=3, patch=2, core=shape())
    best, folder = awake(ViT(config)), tmp_path / "run"
    write_config(folder, to_dict(TrainConfig(steps=2, model=config, out=folder)))
    Preparation(("a", "b", "c"), 1, (0.25,), (0.5,), 8).save(folder)
    checkpoints, record = Checkpoints(folder), {"step": 1, "metric": "val/accuracy", "value": 0.9}
    for step, averaged in ((1, best), (2, awake(ViT(config), seed=8))):
        raw = awake(ViT(config), seed=9)
        checkpoints.write(step, {"model": raw.state_dict(), "ema": averaged.state_dict()}, {"state": {"best": record}})
    return folder, best


def test_the_best_of_a_run_is_a_start(run_folder: tuple[Path, ViT]) -> None:
    folder, best = run_folder
    source = read_pretrained(str(folder))
    assert (source.mean, source.std, source.classes.names) == ((0.25,), (0.5,), ("a", "b", "c"))
    assert_same_outputs(load_pretrained(str(folder), source.config).eval(), best, some_images(source.config))


def test_other_classes_get_a_head_of_their_own(
    run_folder: tuple[Path, ViT], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, best = run_folder
    made = load_pretrained(str(folder), replace(best.config, classes=7))
    assert not capsys.readouterr().err
    load_pretrained(str(folder), replace(best.config, classes=7), *"tuvwxyz")
    start = f"notice: the head of 7 classes is trained from scratch: {folder} has one of 3, none by these names\n"
    assert capsys.readouterr().err == start
    assert made(torch.randn(2, 1, 8, 8)).shape == (2, 7)
    kept = dict(best.named_parameters())
    assert all(torch.equal(p, kept[n]) for n, p in made.named_parameters() if not n.startswith("head."))


def test_another_size_and_patch_start_from_what_is_resampled(run_folder: tuple[Path, ViT]) -> None:
    folder, best = run_folder
    new = resized(best.config, 24, 4)
    made = load_pretrained(str(folder), new)
    expected = adapt(best.state_dict(), best.config, new)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in made.state_dict().items())


def test_another_shape_is_refused(run_folder: tuple[Path, ViT]) -> None:
    folder, best = run_folder
    with pytest.raises(ValueError, match="differ in more than image_size, patch and classes"):
        load_pretrained(str(folder), replace(best.config, core=TransformerConfig(64, 2, 4)))


def test_a_run_that_is_damaged_is_named(run_folder: tuple[Path, ViT]) -> None:
    folder, _ = run_folder
    (folder / "checkpoints" / "step-00000001" / "ema.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="ema.safetensors holds 0 bytes instead of"):
        read_pretrained(str(folder))


def test_nothing_of_a_head_is_no_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = theirs("ViT", num_classes=0)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    source = read_pretrained(str(tmp_path))
    assert source.config.classes == 0
    made = load_pretrained(str(tmp_path), replace(source.config, classes=5), *"abcde")
    assert f"the head of 5 classes is trained from scratch: {tmp_path} has none" in capsys.readouterr().err
    assert made.head.weight.std() > 0
    assert load_file(tmp_path / "model.safetensors")["norm.weight"].equal(made.core.norm.weight)
