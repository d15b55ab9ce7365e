"""Rectangular images through the whole panel: rows and columns wherever a square has a side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from core.config import PositionConfig, TransformerConfig
from tests.core.helpers import awake
from tests.vision.pretrained.models import TINY, assert_same_outputs, ours, some_images, theirs
from tests.vision.runs import CORE, Outcome, call, write_run
from vision.augmentation import transforms
from vision.augmentation.config import AugmentConfig
from vision.augmentation.draws import NAMES, UniformNumbers, affine, draw
from vision.augmentation.mixing import draw_box
from vision.config import TrainConfig
from vision.data.files import Layout, to_stored
from vision.data.preparation import Preparation
from vision.evaluate import evaluate
from vision.explain import explain_images
from vision.export import export
from vision.models.config import ViTConfig
from vision.models.tokens import ImageTokens, grid
from vision.models.vit import ViT
from vision.predict import predict
from vision.presets import PRESETS
from vision.pretrained.resize import adapt, resized
from vision.pretrained.timm_export import to_timm
from vision.pretrained.timm_layout import from_timm
from vision.train import train

ROWS, COLUMNS, PATCH = 8, 18, (2, 3)
WIDE = ViTConfig(image_size=(ROWS, COLUMNS), channels=3, classes=5, patch=PATCH, core=CORE)


def core(kind: Any) -> TransformerConfig:
    return replace(CORE, position=PositionConfig(kind))


# The model


def test_a_number_and_two_equal_ones_are_the_same_square() -> None:
    square, pair = (ViT(replace(WIDE, image_size=size, patch=patch)) for size, patch in ((12, 3), ((12, 12), (3, 3))))
    assert pair.state_dict().keys() == square.state_dict().keys()
    pair.load_state_dict(square.state_dict())
    images = torch.randn(2, 3, 12, 12)
    assert torch.equal(pair.eval()(images), square.eval()(images))


def test_patches_know_their_row_and_column() -> None:
    assert grid((2, 3)).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    tokens, coords = ImageTokens(WIDE)(torch.randn(2, 3, ROWS, COLUMNS))
    assert tokens.shape == (2, 24, WIDE.core.dim)
    assert torch.equal(coords, grid((4, 6)))


@pytest.mark.parametrize("pool", ["mean", "class", "attention"])
@pytest.mark.parametrize("kind", ["none", "learned", "sinusoidal"])
def test_an_image_on_its_side_is_the_same_to_a_model_on_its_side(kind: str, pool: Any) -> None:
    """Rows and columns exchanged in the image, in the patch map, and in the tables of positions."""
    upright = awake(ViT(replace(WIDE, pool=pool, core=core("learned" if kind == "learned" else "none"))))
    lying = awake(ViT(replace(upright.config, image_size=(COLUMNS, ROWS), patch=PATCH[::-1])))
    state = dict(upright.state_dict())
    kernel = state["embed.patches.project.weight"].unflatten(1, (3, *PATCH))
    state["embed.patches.project.weight"] = kernel.mT.flatten(1)
    if kind == "learned":
        names = [f"core.position.tables.{axis}.weight" for axis in (0, 1)]
        state |= dict(zip(names, [state[name] for name in reversed(names)], strict=True))
    lying.load_state_dict(state)
    images = torch.randn(2, 3, ROWS, COLUMNS)
    torch.testing.assert_close(lying(images.mT), upright(images), atol=1e-5, rtol=0)


def test_another_size_keeps_its_scale_along_both_axes() -> None:
    model = ViT(replace(WIDE, core=core("rotary")))
    coords = model.embed.locate((8, 6))  # twice the rows, the same columns
    assert coords[:, 0].unique().tolist() == [-0.25, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25]
    assert coords[:, 1].unique().tolist() == [0, 1, 2, 3, 4, 5]
    learned = ViT(replace(WIDE, core=core("learned")))
    with pytest.raises(ValueError, match="images have 8 x 6 patches; this model has positions for 4 x 6"):
        learned.embed.locate((8, 6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (8, 0)}, r"image_size = \(8, 0\) must be above 0"),
        ({"image_size": (8, 8, 3)}, r"image_size = \(8, 8, 3\) must be one side, or rows and columns"),
        ({"patch": (3, 3)}, r"patch = 3 must divide image_size = \(8, 18\)"),
        ({"tokenizer": "conv"}, r"patch = \(2, 3\) must be a power of 2"),
    ],
)
def test_impossible_shapes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(WIDE, **changes)


# Public weights

OBLONG = TINY | {"img_size": (32, 48), "patch_size": (16, 8)}


@pytest.mark.parametrize("name", ["ViT", "mean pooling beside a class token", "registers, mean pooling"])
def test_timms_rectangles_are_ours(name: str) -> None:
    model = theirs(name, **OBLONG)
    config, _ = from_timm(model)
    assert (config.size, config.grid) == ((32, 48), (2, 6))
    made = ours(model)
    assert_same_outputs(made, model, some_images(config))
    back = to_timm(made)
    assert back.arguments["img_size"] == (32, 48)


@pytest.mark.parametrize("size", [(48, 32), (32, 96), (64, 64)])
def test_positions_of_another_rectangle_are_resampled_as_timm_does(size: tuple[int, int]) -> None:
    model = theirs("ViT", **OBLONG)
    config, _ = from_timm(model)
    new = resized(config, size, config.patch)
    other = ViT(new).eval()
    other.load_state_dict(adapt(ours(model).state_dict(), config, new))
    model.set_input_size(img_size=size)
    assert_same_outputs(other, model, some_images(new))


def test_tables_of_rows_and_of_columns_are_resampled_each_for_itself() -> None:
    model = ViT(replace(WIDE, core=core("learned")))
    with torch.no_grad():
        for table in model.core.position.tables:
            table.weight.copy_(torch.linspace(0, 1, len(table.weight))[:, None].expand_as(table.weight))
    new = replace(WIDE, image_size=(16, COLUMNS), core=core("learned"))
    kept = adapt(model.state_dict(), model.config, new)
    rows, columns = (kept[f"core.position.tables.{axis}.weight"][:, 0] for axis in (0, 1))
    assert (len(rows), len(columns)) == (8, 6)
    torch.testing.assert_close(columns, torch.linspace(0, 1, 6), atol=1e-6, rtol=0)
    assert (rows.diff() > 0).all()


# Files and pixels


def stripes(width: int, height: int) -> Image.Image:
    """Grey, brighter from left to right."""
    return Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1)))


def test_a_file_gets_the_shape_of_the_model() -> None:
    seen = {}
    for fit in ("crop", "pad", "squash"):
        stored = to_stored(stripes(40, 10), Layout(1, (10, 20), fit))  # type: ignore[arg-type]
        assert stored.pixels.shape == (1, 10, 20)
        seen[fit] = (int(stored.pixels[0, 5, 1]), round(stored.shown, 3))
    assert seen["crop"][1] == 0.5
    assert seen["crop"][0] > 60  # the outer quarters are gone
    assert seen["squash"][0] < 30
    assert to_stored(stripes(20, 10), Layout(1, (10, 20))).shown == 1
    assert bool((to_stored(stripes(40, 10), Layout(1, (10, 20), "pad")).pixels[0, 0] == 0).all())


def test_a_model_is_given_the_central_part_of_its_shape() -> None:
    prepared = Preparation(("a", "b"), 1, (0.5,), (0.5,), (8, 12), crop=0.5)
    pixels = torch.arange(96, dtype=torch.uint8).view(1, 1, 8, 12)
    assert torch.equal(prepared.resize(pixels, (4, 6)) * 255, pixels[..., 2:6, 3:9].float())
    whole = replace(prepared, crop=1.0)
    assert whole.resize(pixels, (6, 6)).shape == (1, 1, 6, 6)


# Augmentation


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_geometry_on_a_rectangle_is_torchvisions(name: str) -> None:
    images = torch.rand(2, 3, 16, 30)
    amount = {"rotate": 0.4, "shear_x": 0.2, "shear_y": 0.2, "translate_x": 0.2, "translate_y": 0.2}[name]
    kinds, amounts = np.full((2, 1), NAMES.index(name)), np.full((2, 1), amount, np.float32)
    moved = transforms.warp(images, torch.from_numpy(affine(kinds, amounts, (16, 30))))
    slope = math.degrees(math.atan(amount))
    shear = {"shear_x": [-slope, 0.0], "shear_y": [0.0, -slope]}.get(name, [0.0, 0.0])
    shift = {"translate_x": [6, 0], "translate_y": [0, 3]}.get(name, [0, 0])
    angle = math.degrees(amount) if name == "rotate" else 0.0
    expected = reference.affine(images, angle, shift, 1.0, shear, InterpolationMode.BILINEAR)
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)


def test_a_part_resized_to_a_rectangle_is_torchvisions() -> None:
    pixels = torch.randint(256, (2, 3, 20, 30), dtype=torch.uint8)
    box = torch.tensor([[2, 3, 10, 20], [0, 0, 20, 30]])
    resampled = transforms.resample(pixels, box, torch.tensor([False, False]), (8, 18))
    for image, part, ours_ in zip(pixels, box.tolist(), resampled, strict=True):
        expected = reference.resized_crop(image.float(), *part, size=[8, 18], antialias=True)
        torch.testing.assert_close(ours_, expected, atol=0.01, rtol=0)


def test_what_is_erased_and_cut_lies_inside_and_its_share_is_told() -> None:
    numbers, config = UniformNumbers(0, 3, 500), AugmentConfig(erase="random", crop="resized")
    drawn = draw(config, numbers, 1000, (20, 40), (8, 18))
    for boxes, (rows, columns) in ((drawn.erased, (8, 18)), (drawn.box, (20, 40))):
        top, left, height, width = boxes.T
        assert (top + height <= rows).all()
        assert (left + width <= columns).all()
        assert left.max() > rows
    aspect = drawn.box[:, 3] / drawn.box[:, 2]
    assert abs(np.median(np.log(aspect / (18 / 8)))) < 0.1, "around the model's own"
    for seed in range(20):
        mix = draw_box(np.random.RandomState(seed), 0.6, (8, 18))
        assert mix.box is not None
        top, bottom, left, right = mix.box
        assert mix.share == pytest.approx(1 - (bottom - top) * (right - left) / (8 * 18))


# Commands


@pytest.fixture(scope="module")
def banners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of wide pictures: bright on the left, and on the right."""
    folder = tmp_path_factory.mktemp("banners")
    for name, turned in (("left", False), ("right", True)):
        (folder / name).mkdir()
        for number in range(20):
            noise = np.random.default_rng([turned, number]).normal(0, 20, (16, 36, 3))
            ramp = np.linspace(220, 30, 36)[None, :, None] + noise
            pixels = np.clip(ramp[:, ::-1] if turned else ramp, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def run(banners: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    augment = AugmentConfig(crop="shift", shift=2, operations=1, erase="random", mixup=0.2, cutmix=0.5)
    model = replace(WIDE, channels=0, classes=0, core=replace(core("rotary"), dim=32, n_heads=2))
    config = TrainConfig(
        steps=60,
        batch_size=16,
        device="cpu",
        precision="fp32",
        data=str(banners),
        out=out,
        model=model,
        augment=augment,
    )
    figures = train(config)
    assert figures["val/accuracy"] == 1
    return out


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    return lambda function, *words: call(capfd, function, *words)


def test_a_rectangular_model_is_put_to_use(
    run: Path, banners: Path, command: Callable[..., Outcome], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    said = command(predict, run, banners / "right" / "03.png", "--device", "cpu")
    assert said.code == 0
    assert "right" in said.out.splitlines()[0]
    said = command(evaluate, run, "--split", "validation", "--out", tmp_path / "evaluation", "--device", "cpu")
    assert said.code == 0, said.err
    said = command(explain_images, run, banners / "left" / "01.png", "--out", tmp_path / "maps.png", "--device", "cpu")
    assert said.code == 0, said.err
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.width > 3 * picture.height
    said = command(export, run, "--onnx", tmp_path / "model.onnx")
    assert said.code == 0, said.err


def test_a_rectangular_model_with_positions_of_a_table_leaves_for_timm(
    command: Callable[..., Outcome], tmp_path: Path
) -> None:
    timm_like = replace(core("learned"), norm_eps=1e-6)
    folder = write_run(tmp_path / "run", replace(WIDE, pool="class", coordinates="raster", core=timm_like))
    said = command(export, folder, "--timm", tmp_path / "timm")
    assert said.code == 0, said.err


def test_rows_and_columns_are_two_words_of_a_command_line() -> None:
    from core.cli.arguments import parse_fields

    def given(*words: str) -> ViTConfig:
        return parse_fields(PRESETS["vit-cifar-cpu"], words).model

    assert given("--model.image-size", "64").image_size == 64
    assert given("--model.image-size", "32", "64", "--model.patch", "8", "4").grid == (4, 16)
    with pytest.raises(ValueError, match="must be one side, or rows and columns"):
        given("--model.image-size", "32", "64", "3")
