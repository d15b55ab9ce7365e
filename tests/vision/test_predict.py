"""`vision.predict`: the probabilities that evaluation computes, whatever the file; bad files are reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_digits

from tests.vision.runs import COLOR, GREY, Outcome, call, write_run
from vision.predict import chunks, predict
from vision.trained import load

Predict = Callable[..., Outcome]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Predict:
    """Runs `vision.predict` on the CPU."""
    return lambda *words: call(capfd, predict, *words, "--device", "cpu")


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("use") / "grey", GREY)


@pytest.fixture(scope="module")
def color(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores images at 18 pixels and looks at the 16 in their middle."""
    return write_run(tmp_path_factory.mktemp("use") / "color", COLOR, side=18)


def result(outcome: Outcome) -> dict[str, Any]:
    """The object on the last line."""
    assert outcome.code == 0, outcome.err
    return dict(json.loads(outcome.out.splitlines()[-1]))


def probabilities(outcome: Outcome) -> list[dict[str, float]]:
    """For each image the probability of every class that was named."""
    return [{guess["class"]: guess["probability"] for guess in image["top"]} for image in result(outcome)["images"]]


def digits(folder: Path, count: int) -> torch.Tensor:
    """Files 0.png, 1.png, ... of scikit-learn's digits; their pixels, uint8 (count, 1, 8, 8)."""
    pixels = (load_digits().images[:count] * 255 / 16).round().astype(np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return torch.from_numpy(pixels).unsqueeze(1)


def test_a_file_gets_the_probabilities_that_evaluation_computes(command: Predict, grey: Path, tmp_path: Path) -> None:
    pixels = digits(tmp_path, 7)
    outcome = command(grey, tmp_path, "--top", 10, "--json", "--batch-size", 3)
    trained = load(grey)
    expected = trained.logits(pixels).softmax(-1)  # (7, 10)
    for image, row in zip(probabilities(outcome), expected, strict=True):
        assert image == pytest.approx({f"class {label}": float(p) for label, p in enumerate(row)}, abs=2e-6)
        assert list(image.values()) == sorted(image.values(), reverse=True)
    files = [image["file"] for image in result(outcome)["images"]]
    assert files == [str(tmp_path / f"{number}.png") for number in range(7)]


def test_the_table_names_each_file_once_and_aligns_its_columns(command: Predict, grey: Path, tmp_path: Path) -> None:
    digits(tmp_path, 2)
    (tmp_path / "1.png").rename(tmp_path / "longer.png")
    code, out, err = command(grey, tmp_path, "--top", 3)
    assert (code, err) == (0, [])
    rows = out.splitlines()
    assert len(rows) == 6
    assert len({row.index("class") for row in rows}) == len({len(row) for row in rows}) == 1
    assert [row.split()[0] for row in rows[::3]] == [str(tmp_path / "0.png"), str(tmp_path / "longer.png")]


def test_no_more_classes_are_printed_than_there_are(command: Predict, color: Path, tmp_path: Path) -> None:
    [top] = probabilities(command(color, saved(tmp_path / "a.png", blocks()), "--top", 99, "--json"))
    assert len(top) == COLOR.classes
    assert sum(top.values()) == pytest.approx(1, abs=1e-5)


def blocks() -> Image.Image:
    """Sixteen colours, upright in one way only: 18 x 18."""
    rows, columns = np.mgrid[:18, :18] // 5
    return Image.fromarray(np.stack([rows * 80, columns * 80, (rows * columns) * 25], -1).astype(np.uint8))


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def rotated(orientation: int) -> Callable[[Path], Path]:
    """Writes `blocks` lying in the file as a camera held that way stores it (EXIF 2.3, tag Orientation)."""
    undo = {3: "ROTATE_180", 6: "ROTATE_90", 8: "ROTATE_270", 2: "FLIP_LEFT_RIGHT", 7: "TRANSVERSE"}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return lambda path: saved(path.with_suffix(".png"), blocks().transpose(Image.Transpose[undo]), exif=exif)


def with_alpha(path: Path) -> Path:
    image = blocks().convert("RGBA")
    image.putalpha(255)
    return saved(path.with_suffix(".png"), image)


COLOR_FILES: dict[str, Callable[[Path], Path]] = {
    "bmp": lambda path: saved(path.with_suffix(".bmp"), blocks()),
    "palette": lambda path: saved(path.with_suffix(".gif"), blocks().convert("P", palette=Image.Palette.ADAPTIVE)),
    "cmyk": lambda path: saved(path.with_suffix(".tif"), blocks().convert("CMYK")),
    "alpha": with_alpha,
    "webp": lambda path: saved(path.with_suffix(".webp"), blocks(), lossless=True),
    **{f"rotated {orientation}": rotated(orientation) for orientation in (2, 3, 6, 7, 8)},
}


def test_one_picture_in_any_file_is_one_picture(command: Predict, color: Path, tmp_path: Path) -> None:
    files = {kind: write(tmp_path / kind) for kind, write in COLOR_FILES.items()}
    plain, *others = probabilities(command(color, saved(tmp_path / "plain.png", blocks()), *files.values(), "--json"))
    for kind, other in zip(files, others, strict=True):
        assert other == pytest.approx(plain, abs=2e-6), kind
    [upside_down] = probabilities(command(color, saved(tmp_path / "a.png", blocks().rotate(180)), "--json"))
    assert upside_down != pytest.approx(plain, abs=0.01)


def shades() -> Image.Image:
    return ImageOps.grayscale(blocks())


def deep() -> Image.Image:
    """`shades` in 16 bits."""
    return Image.fromarray(np.asarray(shades()).astype(np.uint16) * 257)


GREY_FILES: dict[str, Callable[[], Image.Image]] = {
    "16-bit": deep,
    "float": lambda: Image.fromarray(np.asarray(shades()).astype(np.float32) / 255),
    "color": lambda: shades().convert("RGB"),
    "alpha": lambda: shades().convert("LA"),
}


@pytest.mark.parametrize("model", ["grey", "color"])
def test_grey_pictures_of_any_depth(
    command: Predict, request: pytest.FixtureRequest, tmp_path: Path, model: str
) -> None:
    files = [saved(tmp_path / "plain.png", shades())]
    files += [saved(tmp_path / f"{kind}.tif", image()) for kind, image in GREY_FILES.items()]
    plain, *others = probabilities(command(request.getfixturevalue(model), *files, "--json"))
    for kind, other in zip(GREY_FILES, others, strict=True):
        assert other == pytest.approx(plain, abs=2e-6), kind


def test_a_model_of_small_grey_images_takes_a_large_photograph(command: Predict, grey: Path, tmp_path: Path) -> None:
    photograph = blocks().resize((900, 500))
    [top] = probabilities(command(grey, saved(tmp_path / "a.jpg", photograph), "--top", 10, "--json"))
    assert sum(top.values()) == pytest.approx(1, abs=1e-5)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two good images, and four that are none."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    whole = saved(folder / "good.jpg", blocks().resize((60, 60))).read_bytes()
    saved(folder / "last.png", blocks())
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.webp").write_text("not an image")
    bomb = b"BM" + (0).to_bytes(8) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    bomb += (50_000).to_bytes(4, "little") * 2 + (1).to_bytes(2, "little") + (24).to_bytes(2, "little")
    (folder / "vast.bmp").write_bytes(bomb.ljust(60, b"\0"))
    return folder


@pytest.mark.parametrize("name", ["cut.jpg", "empty.png", "text.webp", "vast.bmp"])
def test_a_bad_image_is_named_before_anything_is_printed(command: Predict, color: Path, mixed: Path, name: str) -> None:
    code, out, [line] = command(color, mixed / "good.jpg", mixed / name, "--batch-size", 1)
    assert (code, out) == (2, "")
    assert str(mixed / name) in line
    assert "--skip-bad" in line


def test_bad_images_are_skipped_and_counted_when_asked_for(command: Predict, color: Path, mixed: Path) -> None:
    outcome = command(color, mixed, "--skip-bad", "--json")
    assert [Path(image["file"]).name for image in result(outcome)["images"]] == ["good.jpg", "last.png"]
    skipped = result(outcome)["skipped"]
    assert [Path(image["file"]).name for image in skipped] == ["cut.jpg", "empty.png", "text.webp", "vast.bmp"]
    assert all(image["file"] in image["reason"] for image in skipped)
    [line] = outcome.err
    assert "4 of 6 images" in line
    assert "empty.png is empty" in line


def test_nothing_but_bad_images_is_an_error(command: Predict, color: Path, mixed: Path) -> None:
    code, out, [line] = command(color, mixed / "cut.jpg", mixed / "empty.png", "--skip-bad")
    assert (code, out) == (2, "")
    assert "2 of 2 images cannot be read" in line


def test_files_folders_and_patterns_name_images_each_once(command: Predict, color: Path, tmp_path: Path) -> None:
    for name in ("b/c.png", "b/deep/er.JPG", "a.bmp", "b/.hidden.png", ".hidden/d.png", "d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        saved(tmp_path / name, blocks())
    (tmp_path / "b/notes.txt").write_text("no image")
    unnamed = (tmp_path / "d.png").rename(tmp_path / "no suffix")
    words = tmp_path / "*.bmp", unnamed, tmp_path / "b", tmp_path / "a.bmp", tmp_path / "**/c.p?g"
    files = [image["file"] for image in result(command(color, *words, "--json"))["images"]]
    assert files == [str(tmp_path / name) for name in ("a.bmp", "no suffix", "b/c.png", "b/deep/er.JPG")]
    everything = result(command(color, tmp_path, "--json"))["images"]
    assert [image["file"] for image in everything] == [
        str(tmp_path / name) for name in ("a.bmp", "b/c.png", "b/deep/er.JPG")
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name images"),
        (["--json"], "name images"),
        (["missing.png"], "missing.png: no such file or folder"),
        (["*.jpg"], "*.jpg names no images: they end in .jpg"),
        (["nothing"], "nothing names no images"),
        (["a.png", "--top", "0"], "top = 0 must be above 0"),
        (["a.png", "--checkpoint", "7"], "checkpoint = '7'"),
        (["a.png", "--to", "3"], "unknown option --to"),
    ],
)
def test_bad_input_is_reported_in_one_line(
    command: Predict, color: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    saved(tmp_path / "a.png", blocks())
    code, out, [line] = command(color, *words)
    assert (code, out) == (2, "")
    assert line.startswith(f"error: {message}")


def test_a_folder_that_holds_no_run(command: Predict, tmp_path: Path) -> None:
    code, _, [line] = command(tmp_path, saved(tmp_path / "a.png", blocks()))
    assert code == 2
    assert "is not a run folder" in line


def test_averaged_and_raw_weights(command: Predict, color: Path, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.png", blocks())
    averaged, raw = (probabilities(command(color, file, "--weights", w, "--json"))[0] for w in ("averaged", "raw"))
    assert probabilities(command(color, file, "--json")) == [averaged]
    for weights, top in (("averaged", averaged), ("raw", raw)):
        trained = load(color, weights="raw" if weights == "raw" else "averaged")
        expected = trained.logits(trained.preparation.read(file)[None]).softmax(-1)[0]
        assert top == pytest.approx({f"class {label}": float(p) for label, p in enumerate(expected)}, abs=2e-6)
    assert averaged != raw


def test_chunks_keep_order_and_remainder() -> None:
    assert list(chunks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunks([], 3)) == []
