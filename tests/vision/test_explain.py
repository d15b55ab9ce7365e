"""Attention maps and rollout by arithmetic, and the pictures that `vision.explain` makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.attention import attend
from core.config import PositionConfig
from tests.vision.runs import COLOR, GREY, Outcome, call, write_run
from vision.config import TrainConfig
from vision.data.preparation import Preparation
from vision.explain import MOST, chosen_layers, draw, explain, explain_images
from vision.models.vit import ViT
from vision.reports.attention_maps import join_heads, on_grid, reader, received, rollout
from vision.trained import Trained, load

Explain = Callable[..., Outcome]
SHAPES = {
    "mean": replace(COLOR, registers=1),
    "class": replace(COLOR, pool="class", registers=2, core=replace(COLOR.core, position=PositionConfig("learned"))),
    "attention": replace(COLOR, pool="attention", tokenizer="conv"),
}


def some_attention(batch: int = 2, n_heads: int = 3, tokens: int = 5) -> torch.Tensor:
    return torch.randn(batch, n_heads, tokens, tokens, dtype=torch.float64).mul(2).softmax(-1)


# Arithmetic


def test_rollout_of_two_tokens_by_hand() -> None:
    first = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])  # with the residual: 3/4 1/4, 0 1
    second = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])  # 1 0, 1/4 3/4
    expected = torch.tensor([[[3 / 4, 1 / 4], [3 / 16, 13 / 16]]])
    torch.testing.assert_close(rollout([first, second]), expected)


def test_rows_of_a_rollout_sum_to_one() -> None:
    total = rollout([join_heads(some_attention(), head) for head in ("mean", "max", "2")])
    torch.testing.assert_close(total.sum(-1), torch.ones_like(total[..., 0]))
    assert (total >= 0).all()


def test_tokens_that_hear_only_themselves_stay_themselves() -> None:
    identity = torch.eye(5).expand(2, 5, 5)
    torch.testing.assert_close(rollout([identity] * 4), identity)


def test_uniform_attention_gives_a_uniform_map() -> None:
    uniform = torch.full((1, 5, 5), 1 / 5)
    kept = 1 / 2**3  # what has come by the residual path alone, through three layers
    expected = kept * torch.eye(5) + (1 - kept) * uniform
    torch.testing.assert_close(rollout([uniform] * 3), expected)
    torch.testing.assert_close(received(expected, torch.full((1, 5), 1 / 5)), torch.full((1, 5), 1 / 5))


def test_heads_are_joined_by_mean_and_max_or_taken_one_by_one() -> None:
    attention = some_attention()
    torch.testing.assert_close(join_heads(attention, "mean"), attention.mean(1))
    assert (join_heads(attention, "3") == attention[:, 2]).all()
    greatest = join_heads(attention, "max")
    torch.testing.assert_close(greatest.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    assert (greatest.argmax(-1) == attention.amax(1).argmax(-1)).all()


@pytest.mark.parametrize("head", ["0", "4", "-1", "average", ""])
def test_a_head_that_is_none(head: str) -> None:
    with pytest.raises(ValueError, match=r"head = .* is not one of: mean, max, 1 to 3"):
        join_heads(some_attention(), head)


def test_a_map_lies_as_the_image_does_without_the_learned_tokens() -> None:
    tokens = torch.tensor([[0.4, 0.1, 0.05, 0.1, 0.35]])  # a class token, then two rows of two patches
    torch.testing.assert_close(on_grid(tokens, 1), torch.tensor([[[0.5, 0.25], [0.5, 1.75]]]))


@pytest.mark.parametrize("kind", SHAPES)
def test_the_reader_is_what_pooling_does(kind: str) -> None:
    config = SHAPES[kind]
    pool = ViT(config).pool
    x = torch.randn(3, config.learned_tokens + config.side**2, config.core.dim)
    read = reader(pool, x[:, pool.read], x.shape[1])
    torch.testing.assert_close(read.sum(-1), torch.ones(3))
    torch.testing.assert_close(torch.einsum("bt,btd->bd", read, x), pool(x[:, pool.read]))


@pytest.mark.parametrize(("choice", "layers"), [("all", [0, 1, 2]), ("last", [2]), ("1,3", [0, 2]), ("2", [1])])
def test_layers_by_name_and_number(choice: str, layers: list[int]) -> None:
    assert chosen_layers(choice, 3) == layers


@pytest.mark.parametrize("choice", ["0", "4", "1;2", "first", "1,", ""])
def test_layers_that_are_none(choice: str) -> None:
    with pytest.raises(ValueError, match=r"layers = .* is not one of: all, last, or numbers from 1 to 3, as in 1,3"):
        chosen_layers(choice, 3)


# Models


@pytest.fixture(scope="module", params=SHAPES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return load(write_run(tmp_path_factory.mktemp("use") / request.param, SHAPES[request.param]))


def test_looking_changes_no_answer(trained: Trained) -> None:
    pixels = torch.randint(256, (3, 16, 16), dtype=torch.uint8)
    before = trained.logits(pixels[None])
    explanation = explain(trained, pixels, [0, 1])
    torch.testing.assert_close(explanation.probability, float(before.softmax(-1).max()), rtol=1e-4, atol=1e-6)
    assert explanation.answer == trained.preparation.classes[int(before.argmax())]
    assert trained.logits(pixels[None]).equal(before)
    assert all(block.attention.branch.attend is attend for block in trained.model.core.blocks)
    assert not trained.model.pool._forward_pre_hooks


def test_every_map_is_shares_of_attention(trained: Trained) -> None:
    config = trained.model.config
    maps = explain(trained, torch.randint(256, (3, 16, 16), dtype=torch.uint8), [1]).maps
    assert list(maps) == ["layer 2", *["pooling"] * (config.pool == "attention"), "rollout"]
    for title, values in maps.items():
        assert values.shape == (config.side, config.side)
        share = float(values.sum()) / (config.side**2 + config.learned_tokens)  # of the patches
        assert share == pytest.approx(1, abs=1e-5) or (share < 1 and config.learned_tokens and title != "pooling")
        assert values.std() > 1e-4


def brightness_seeker() -> Trained:
    """Every token asks for the bright ones: channel 0 of a token is its brightness, channel 1 always 1."""
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
    return Trained(model, preparation, TrainConfig(steps=1), 1, torch.device("cpu"))


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
    for number, size in enumerate([(20, 30, 3), (16, 16, 3), (40, 20, 3)]):
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
    out = photos.parent / "new" / f"seen{suffix}"
    code, said, err = command(run, photos / "0.png", "--out", out, "--layers", "last", "--head", 2)
    assert (code, err) == (0, [])
    assert said == f"wrote {out}: 1 x 2 maps\n"
    assert out.read_bytes().startswith(start)
    assert list(out.parent.iterdir()) == [out]


def test_the_picture_grows_with_images_and_layers(command: Explain, run: Path, photos: Path, tmp_path: Path) -> None:
    sizes = []
    for words in ([photos / "0.png", "--layers", "1"], [photos / "0.png"], [photos]):
        assert command(run, *words, "--out", tmp_path / "seen.png").code == 0
        with Image.open(tmp_path / "seen.png") as picture:
            sizes.append(picture.size)
            assert picture.convert("L").getextrema() != (0, 0)
    (narrow, low), (wide, same), (still_wide, high) = sizes
    assert narrow < wide == still_wide
    assert low == same < high


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "seen.gif"], "out = 'seen.gif' must be a file that ends in one of: .png, .jpg, .jpeg, .pdf"),
        ([], "out is missing: name the picture with --out FILE.png"),
        (["--out", "seen.png", "--layers", "3"], "layers = '3' is not one of: all, last, or numbers from 1 to 2"),
        (["--out", "seen.png", "--head", "3"], "head = '3' is not one of: mean, max, 1 to 2"),
        (["bad.png", "--out", "seen.png"], "bad.png is empty"),
        (["missing.png", "--out", "seen.png"], "missing.png: no such file or folder"),
    ],
)
def test_bad_input_leaves_the_picture_before_it(
    command: Explain, run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(photos)
    (photos / "bad.png").touch()
    (photos / "seen.png").write_bytes(b"the picture before")
    before = sorted(photos.iterdir())
    code, out, [line] = command(run, "0.png", *words)
    assert (code, out) == (2, "")
    assert line.startswith(f"error: {message}")
    assert (photos / "seen.png").read_bytes() == b"the picture before"
    assert sorted(photos.iterdir()) == before


def test_more_images_than_a_picture_takes(command: Explain, run: Path, photos: Path) -> None:
    for number in range(MOST):
        (photos / f"{number:03d}.png").touch()
    code, _, [line] = command(run, photos, "--out", photos / "seen.jpg")
    assert code == 2
    assert line == f"error: {MOST + 3} images do not fit into one picture: {MOST} at most"


def test_bad_images_are_left_out_when_asked_for(command: Explain, run: Path, photos: Path) -> None:
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:50])
    out = photos.parent / "seen.png"
    code, said, [line] = command(run, photos, "--out", out, "--skip-bad")
    assert code == 0
    assert said == f"wrote {out}: 2 x 3 maps\n"
    assert "1 of 3 images" in line
