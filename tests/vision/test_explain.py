"""`vision.explain`: maps of trained models, and the pictures that it makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.config import PositionConfig
from tests.vision.runs import COLOR, GREY, SHAPES, Outcome, call, write_run
from vision.config import TrainConfig
from vision.data.preparation import Preparation
from vision.explain import MOST, chosen_layers, explain, explain_images
from vision.models.vit import ViT
from vision.reports.explanation_picture import draw
from vision.trained import Trained, load

Explain = Callable[..., Outcome]


@pytest.mark.parametrize(("choice", "layers"), [("all", [0, 1, 2]), ("last", [2]), ("1,3", [0, 2]), ("2", [1])])
def test_layers_by_name_and_number(choice: str, layers: list[int]) -> None:
    assert chosen_layers(choice, 3) == layers


@pytest.mark.parametrize("choice", ["0", "4", "1;2", "first", "1,", ""])
def test_layers_that_are_none(choice: str) -> None:
    with pytest.raises(ValueError, match=r"layers = .*from 1 to 3"):
        chosen_layers(choice, 3)


# Models


@pytest.fixture(scope="module", params=SHAPES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return load(write_run(tmp_path_factory.mktemp("use") / request.param, SHAPES[request.param]))


def test_explaining_changes_no_answer(trained: Trained) -> None:
    pixels = torch.randint(256, (3, 16, 16), dtype=torch.uint8)
    before = trained.logits(pixels[None])
    explanation = explain(trained, pixels, [0, 1])
    torch.testing.assert_close(explanation.probability, float(before.softmax(-1).max()), rtol=1e-4, atol=1e-6)
    assert explanation.answer == trained.preparation.classes[int(before.argmax())]
    assert trained.logits(pixels[None]).equal(before)


def test_every_map_is_shares_of_attention(trained: Trained) -> None:
    config = trained.model.config
    maps = explain(trained, torch.randint(256, (3, 16, 16), dtype=torch.uint8), [1]).maps
    assert list(maps) == ["layer 2", *["pooling"] * (config.pool == "attention"), "rollout"]
    for title, values in maps.items():
        assert values.shape == config.grid
        share = float(values.sum()) / (math.prod(config.grid) + config.learned_tokens)  # of the patches
        assert share == pytest.approx(1, abs=1e-5) or (share < 1 and config.learned_tokens and title != "pooling")
        assert values.std() > 1e-4


def brightness_seeker() -> Trained:
    """Every token attends to bright ones: channel 0 of a token is its brightness, channel 1 always 1."""
    core = replace(GREY.core, dim=4, n_heads=1, depth=1, norm="rms", bias="none", position=PositionConfig("none"))
    model = ViT(replace(GREY, classes=2, core=core)).eval()
    query, key = model.core.blocks[0].attention.branch.qkv.weight[:8].split(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embed.patches.project.weight[0] = 1
        model.embed.patches.project.bias[1] = 1
        query[0, 1], key[0, 0] = 30, 1
    preparation = Preparation(("dark", "bright"), 1, (0.5,), (0.5,), 8)
    return Trained(model, TrainConfig(steps=1), 1, torch.device("cpu"), preparation)


def test_attention_is_shown_where_it_is_paid() -> None:
    pixels = torch.zeros(1, 8, 8, dtype=torch.uint8)
    pixels[:, 2:4, 6:8] = 255  # row 1, column 3 of the patches
    maps = explain(brightness_seeker(), pixels, [0]).maps
    assert [divmod(int(values.argmax()), 4) for values in maps.values()] == [(1, 3), (1, 3)]
    assert maps["layer 1"].max() == pytest.approx(16, abs=0.01)  # all of it, 16 times an even share
    assert maps["rollout"].max() == pytest.approx(8.5, abs=0.01)  # half of it, and half of its own


# Pictures


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("use") / "run", COLOR)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photographs of noise in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(28, 30, 3), (16, 16, 3), (40, 38, 3)]):
        noise = np.random.default_rng(number).integers(256, size=size, dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Explain:
    """Runs `vision.explain` on the CPU."""
    return lambda *words: call(capfd, explain_images, *words, "--device", "cpu")


def test_a_picture_has_a_row_for_each_image_and_a_column_for_each_map(run: Path, photos: Path) -> None:
    trained, files = load(run), sorted(photos.iterdir())
    explained = [(file, explain(trained, trained.preparation.read(file), [0, 1])) for file in files]
    figure = draw(explained)
    *cells, _ = figure.axes  # the last is the scale
    rows = [cells[start : start + 4] for start in range(0, 12, 4)]
    for row, (file, explanation) in zip(rows, explained, strict=True):
        assert row[0].get_title() == f"{explanation.answer}, {100 * explanation.probability:.0f} %"
        assert row[0].get_xlabel() == file.name
        for axes, values in zip(row[1:], explanation.maps.values(), strict=True):
            base, heat = axes.images
            assert heat.get_extent() == base.get_extent()
            assert heat.get_clim() == pytest.approx((float(values.min()), float(values.max())), abs=0.2)
            assert axes.get_xlabel() == f"{values.min():.2f} – {values.max():.2f}"
    assert [axes.get_title() for axes in rows[0][1:]] == ["layer 1", "layer 2", "rollout"]
    corners = [axes.get_position() for row in rows for axes in row]
    assert all(0 < corner.x0 < corner.x1 < 1 and 0 < corner.y0 < corner.y1 < 1 for corner in corners)


def test_names_are_shown_as_they_are(run: Path, photos: Path) -> None:
    trained = load(run)
    image = explain(trained, trained.preparation.read(photos / "0.png"), [0])
    figure = draw([(Path("cost $a_1$ and a long, long, long name.png"), image._replace(answer="$x$ \\frac"))])
    figure.canvas.draw()
    assert figure.axes[0].get_title().startswith("$x$ \\frac, ")


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".JPG", b"\xff\xd8\xff"), (".pdf", b"%PDF")])
def test_the_format_is_the_suffix(command: Explain, run: Path, photos: Path, suffix: str, start: bytes) -> None:
    out = photos.parent / "new" / f"maps{suffix}"
    code, said, err = command(run, photos / "0.png", "--out", out, "--layers", "last", "--head", 2)
    assert (code, err) == (0, [])
    assert said == f"wrote {out}: 1 x 2 maps\n"
    assert out.read_bytes().startswith(start)
    assert list(out.parent.iterdir()) == [out]


def test_the_picture_grows_with_images_and_layers(command: Explain, run: Path, photos: Path, tmp_path: Path) -> None:
    sizes = []
    for words in ([photos / "0.png", "--layers", "1"], [photos / "0.png"], [photos]):
        assert command(run, *words, "--out", tmp_path / "maps.png").code == 0
        with Image.open(tmp_path / "maps.png") as picture:
            sizes.append(picture.size)
            assert picture.convert("L").getextrema() != (0, 0)
    (narrow, low), (wide, same), (still_wide, high) = sizes
    assert narrow < wide == still_wide
    assert low == same < high


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "maps.gif"], "out = 'maps.gif' "),
        ([], "out is missing"),
        (["--out", "maps.png", "--layers", "3"], "layers = '3' "),
        (["--out", "maps.png", "--head", "3"], "head = '3' "),
        (["bad.png", "--out", "maps.png"], "bad.png is empty"),
        (["missing.png", "--out", "maps.png"], "missing.png: no such file or folder"),
    ],
)
def test_bad_input_leaves_the_picture_before_it(
    command: Explain, run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(photos)
    (photos / "bad.png").touch()
    (photos / "maps.png").write_bytes(b"the picture before")
    before = sorted(photos.iterdir())
    code, out, [line] = command(run, "0.png", *words)
    assert (code, out) == (2, "")
    assert line.startswith(f"error: {message}")
    assert (photos / "maps.png").read_bytes() == b"the picture before"
    assert sorted(photos.iterdir()) == before


def test_more_images_than_a_picture_takes(command: Explain, run: Path, photos: Path) -> None:
    for number in range(MOST):
        (photos / f"{number:03d}.png").touch()
    code, _, [line] = command(run, photos, "--out", photos / "maps.jpg")
    assert code == 2
    assert line.startswith(f"error: {MOST + 3} images")


def test_bad_images_are_left_out_when_asked_for(command: Explain, run: Path, photos: Path) -> None:
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:50])
    out = photos.parent / "maps.png"
    code, said, [line] = command(run, photos, "--out", out, "--skip-bad")
    assert code == 0
    assert said == f"wrote {out}: 2 x 3 maps\n"
    assert "1 of 3 images" in line
