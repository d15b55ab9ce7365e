"""Every format and mode becomes the 8-bit picture that it shows; what is damaged or dangerous is refused."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vision.data.files import MAX_PIXELS, SUFFIXES, Layout, read_image, read_stored

ORIENTATION = 0x0112
STORED = {  # how a picture must lie in a file for the EXIF orientation to put it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def smooth(height: int = 30, width: int = 40) -> Image.Image:
    """A picture that JPEG keeps well: ramps of red and green over blue."""
    rows, columns = np.mgrid[:height, :width]
    ramps = np.stack([rows * 255 // height, columns * 255 // width, np.full((height, width), 90)], axis=-1)
    return Image.fromarray(ramps.astype(np.uint8))


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def values(path: Path, channels: int = 3) -> NDArray[np.int64]:
    image = read_image(path, channels)
    assert image.mode == {1: "L", 3: "RGB"}[channels]
    return np.asarray(image).astype(np.int64)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_exif_orientation_is_applied(orientation: int, suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = smooth().transpose(STORED[orientation])
    path = saved(tmp_path / f"a.{suffix}", stored, exif=exif, quality=100, subsampling=0)
    assert np.abs(values(path) - np.asarray(smooth())).max() <= (0 if suffix == "png" else 6)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif", "ppm"])
def test_every_format_is_read(suffix: str, tmp_path: Path) -> None:
    path = saved(tmp_path / f"a.{suffix}", smooth(), **({"lossless": True} if suffix == "webp" else {}))
    assert np.abs(values(path) - np.asarray(smooth())).mean() < (12 if suffix == "gif" else 3)


def test_the_format_is_known_by_the_content_not_by_the_name(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", smooth()).rename(tmp_path / "a.jpg")
    assert (values(tmp_path / "a.jpg") == np.asarray(smooth())).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_black_and_white(channels: int, tmp_path: Path) -> None:
    grey = smooth().convert("L")
    seen = values(saved(tmp_path / "grey.png", grey), channels)
    assert (seen == (np.asarray(grey) if channels == 1 else np.asarray(grey)[..., None])).all()
    bits = values(saved(tmp_path / "bits.png", Image.fromarray(np.asarray(grey) > 99)), channels)
    assert set(np.unique(bits)) == {0, 255}


def test_cmyk_is_converted_and_adobes_inverted_kind_is_not_taken_for_a_negative(tmp_path: Path) -> None:
    cmyk = smooth().convert("CMYK")
    for path in (saved(tmp_path / "a.tif", cmyk), saved(tmp_path / "a.jpg", cmyk, quality=100)):
        assert np.abs(values(path) - np.asarray(smooth())).mean() < 3
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()


def test_palette(tmp_path: Path) -> None:
    palette = smooth().quantize(64)
    path = saved(tmp_path / "a.png", palette)
    assert Image.open(path).mode == "P"
    assert (values(path) == np.asarray(palette.convert("RGB"))).all()
    assert (values(path, 1) == np.asarray(palette.convert("L"))).all()


def test_transparent_is_white(tmp_path: Path) -> None:
    black = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    black.putpixel((0, 0), (10, 20, 30, 255))
    black.putpixel((1, 0), (0, 0, 0, 128))
    for path in (saved(tmp_path / "a.png", black), saved(tmp_path / "a.webp", black, lossless=True, exact=True)):
        seen = values(path)
        assert seen[0, 0].tolist() == [10, 20, 30]
        assert seen[0, 1].tolist() == [127, 127, 127]
        assert (seen[1:] == 255).all()
    palette = Image.new("P", (4, 4), 0)
    palette.putpixel((0, 0), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    seen = values(saved(tmp_path / "p.png", palette, transparency=0))
    assert seen[0, 0].tolist() == [200, 0, 0]
    assert (seen[1:] == 255).all()


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7))])
def test_a_transparent_colour_is_white(mode: str, key: object, tmp_path: Path) -> None:
    image = Image.new(mode, (4, 4), key)
    image.putpixel((0, 0), 100 if mode == "L" else (100, 100, 100))
    seen = values(saved(tmp_path / "a.png", image, transparency=key), 1)
    assert seen[0].tolist() == [100, 255, 255, 255]


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = Image.merge("LA", [Image.new("L", (4, 4), 60), Image.linear_gradient("L").resize((4, 4))])
    alpha = np.asarray(image)[..., 1].astype(int)
    expected = np.rint((60 * alpha + 255 * (255 - alpha)) / 255)
    assert np.abs(values(saved(tmp_path / "a.png", image), 1) - expected).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(suffix: str, tmp_path: Path) -> None:
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(deep))
    assert (values(path, 1).ravel() == np.arange(256)).all()
    assert (values(path)[..., 1].ravel() == np.arange(256)).all()


def test_sixteen_bits_are_rounded_to_the_nearest(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], np.uint16)
    assert values(saved(tmp_path / "a.png", Image.fromarray(deep)), 1).tolist() == [[0, 0, 1, 1, 2, 254, 255, 255]]


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 1 << 20, 1 << 21]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 1, 200.4]], np.float32), [0, 1, 200]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[7e8, 7e8]], np.float32), [0, 0]),
    ],
)
def test_integers_of_32_bits_and_floats(numbers: NDArray[np.generic], shown: list[int], tmp_path: Path) -> None:
    assert values(saved(tmp_path / "a.tif", Image.fromarray(numbers)), 1).tolist() == [shown]


def test_floats_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(np.array([[0, np.nan]], np.float32)))
    with pytest.raises(ValueError, match=r"a\.tif cannot be read as an image: it holds values that are not finite"):
        read_image(path, 1)


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert values(path)[0, 0].tolist() == [255, 0, 0]


# -------------------------------------------------------------------------------------- bad files


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels and holds none."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT", b"IEND"]
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 50_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded_and_without_a_warning(side: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"bomb\.png .*more than 134,217,728 pixels"):
            read_image(path, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\xff\xd8\xff", "cannot be read as an image: it is damaged, or none of JPEG, .*PNG"),
        (b"These are words.", "cannot be read as an image: it is damaged, or none of JPEG, .*PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is damaged, or none of"),
        (png_header(9, 9), "cannot be read as an image: "),
    ],
)
def test_what_is_no_image_is_named_with_the_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path} .*{reason}" if reason[0] == "i" else f"^{path} {reason}") as error:
        read_image(path, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tif", "ppm"])
def test_a_file_that_is_cut_off_is_refused(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(48, 64, 3)).astype(np.uint8)
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    whole = path.read_bytes()
    for fraction in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(fraction * len(whole))])
        with pytest.raises(ValueError, match=f"{path} cannot be read as an image"):
            read_image(path, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tif", "ppm"])
def test_a_damaged_file_is_read_or_refused_in_a_sentence(suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = saved(tmp_path / f"a.{suffix}", smooth(), **({"exif": exif} if suffix in ("jpg", "png", "webp") else {}))
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refusals = []
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole) if rng.random() < 0.5 else min(64, len(whole)), size=3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        refusals += refusal(path)
    assert refusals
    assert all(text.startswith(f"{path} cannot be read as an image: ") for text in refusals)
    assert not any("\n" in text for text in refusals)


def refusal(path: Path) -> list[str]:
    """Why a file is refused, if it is."""
    try:
        read_image(path, 3)
    except ValueError as error:
        return [str(error)]
    return []


def test_a_missing_file_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        read_image(tmp_path / "missing.png", 3)
    assert error.value.filename == str(tmp_path / "missing.png")


# -------------------------------------------------------------------------------------- squares


def read_pixels(path: Path, channels: int, side: int) -> torch.Tensor:
    return read_stored(path, Layout(channels, side)).pixels


@pytest.mark.parametrize("size", [(60, 20), (20, 60)])
def test_the_centre_is_cropped(size: tuple[int, int], tmp_path: Path) -> None:
    image = Image.new("RGB", size, "blue")
    image.paste(Image.new("RGB", (20, 20), "red"), ((size[0] - 20) // 2, (size[1] - 20) // 2))
    pixels = read_pixels(saved(tmp_path / "a.png", image), 3, 10)
    assert (pixels.shape, pixels.dtype) == ((3, 10, 10), torch.uint8)
    inner = pixels[:, 2:-2, 2:-2]  # at the seam the filter sees both colours
    assert (inner == torch.tensor([255, 0, 0]).view(3, 1, 1)).all()
    assert (pixels[2] < 50).all()


def test_a_square_of_the_right_side_keeps_its_pixels(tmp_path: Path) -> None:
    image = smooth(16, 16)
    path = saved(tmp_path / "a.png", image)
    assert (read_pixels(path, 3, 16).permute(1, 2, 0).numpy() == np.asarray(image)).all()
    assert (read_pixels(path, 1, 16)[0].numpy() == np.asarray(image.convert("L"))).all()


def test_shrinking_does_not_alias(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    shrunk = read_pixels(saved(tmp_path / "a.png", Image.fromarray(stripes)), 1, 16).float()
    assert (shrunk - 127.5).abs().max() < 20  # the nearest pixel, or two of them blended, would be black or white


def test_a_thin_strip_takes_no_more_memory_than_it_has(tmp_path: Path) -> None:
    strip = Image.new("L", (20_000, 1), 77)
    assert (read_pixels(saved(tmp_path / "a.png", strip), 3, 224) == 77).all()


def test_a_large_jpeg_decoded_at_a_fraction_of_its_size_shows_the_same(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", smooth(480, 640), quality=95)
    assert read_image(path, 3, 30).size == (80, 60)
    whole = np.asarray(read_image(path, 3).crop((80, 0, 560, 480)).resize((30, 30), Image.Resampling.BICUBIC))
    assert np.abs(read_pixels(path, 3, 30).permute(1, 2, 0).numpy().astype(int) - whole).max() <= 3


# -------------------------------------------------------------------------------------- paperwork


def with_chunks(path: Path, *chunks: bytes, place: int = 33) -> Path:
    """Puts chunks (kind and content) into a PNG, by default behind its header."""
    content = path.read_bytes()
    framed = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(content[:place] + framed + content[place:])
    return path


LONG = b"workflow " * 500_000
NOTES = {
    "compressed text": (b"zTXtworkflow\0\0" + zlib.compress(LONG),),
    "international text": (b"iTXtworkflow\0\1\0\0\0" + zlib.compress(LONG),),
    "many plain texts": (b"tEXtworkflow\0" + LONG,) * 16,
    "a large colour profile": (b"iCCPprofile\0\0" + zlib.compress(LONG),),
    "an odd colour profile": (b"iCCPprofile\0\7" + b"?" * 9,),
    "a damaged exif": (b"eXIfMM\0*\xff\xff\xff\xff",),
}


@pytest.mark.parametrize("kind", NOTES)
@pytest.mark.parametrize("place", ["front", "end"])
def test_notes_in_a_png_say_nothing_about_its_pixels(kind: str, place: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", smooth())
    with_chunks(path, *NOTES[kind], place=33 if place == "front" else len(path.read_bytes()) - 12)
    assert (values(path) == np.asarray(smooth())).all()


def test_notes_are_dropped_but_not_what_pixels_depend_on(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = saved(tmp_path / "a.png", smooth().transpose(STORED[6]), exif=exif)
    assert (values(with_chunks(path, *NOTES["compressed text"])) == np.asarray(smooth())).all()
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    path = saved(tmp_path / "p.png", palette, transparency=0)
    assert (values(with_chunks(path, *NOTES["a large colour profile"])) == 255).all()


def test_a_damaged_exif_of_a_jpeg_is_passed_over(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", smooth(), quality=95, exif=b"Exif\0\0 no header at all")
    assert np.abs(values(path) - np.asarray(smooth())).mean() < 3


@pytest.mark.parametrize("suffix", ["avif", "jfif"])
def test_further_suffixes(suffix: str, tmp_path: Path) -> None:
    from PIL import features

    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert f".{suffix}" in SUFFIXES
    path = saved(tmp_path / f"a.{suffix}", smooth(), quality=95)
    assert np.abs(values(path) - np.asarray(smooth())).mean() < 4
