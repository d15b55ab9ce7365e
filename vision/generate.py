"""Draw images with a trained model.

python -m vision.generate DIR [--class NAME...] [--number 16] [--guidance 2] --out sheet.png [--film film.gif]
python -m vision.generate DIR --prompt "red folder with arrow" "green book" --out sheet.png
python -m vision.generate DIR --complete photo.png --number 8 --out sheet.png
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from core.checks import check_at_least, check_positive
from core.cli.arguments import OPTION, REQUIRED, parse_fields, run_folder
from core.cli.exits import main
from core.devices import autocast, device_kind
from core.messages import nearest
from core.training.trained import Weights
from vision.captions.prompts import Prompts
from vision.generation.options import DrawingOptions
from vision.reports.sheets import write_film, write_images, write_sheet
from vision.tasks.drawing.pixels import sized
from vision.trained import TrainedGenerator, TrainedPixels, load_drawing

FILMED = 100
"""Images that fit into one film."""


@dataclass(frozen=True)
class GenerateConfig(DrawingOptions):
    """Settings of `vision.generate`."""

    out: Path = field(default=Path(), metadata={REQUIRED: True})
    """The picture to write, all images in one: .png; it replaces an earlier one."""
    classes: tuple[str, ...] = field(default=(), metadata={OPTION: "--class"})
    """What to draw, by the names of the classes, in turn; default all."""
    prompt: tuple[str, ...] = ()
    """What to draw, by captions, in turn, of a model that was trained on captions."""
    number: int = 16
    """How many images."""
    columns: int | None = None
    """Images beside each other; default as many as classes that take turns, or a square."""
    seed: int = 0
    """Of the noise that the images begin as: the same seed and number give the same image of a class."""
    complete: Path | None = None
    """An image whose upper half every image begins with, of a model that draws token by token; it is shown first."""
    film: Path | None = None
    """Also a film of how they are drawn: .gif."""
    images: Path | None = None
    """Also every image by itself, enlarged by nothing: FOLDER/CLASS/NUMBER.png, as `--data FOLDER` takes them."""
    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""
    weights: Weights = "averaged"
    """Averaged weights, where the run kept them, or raw ones."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic; auto is what training chooses by itself."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "number", "columns")
        check_at_least(self, 0, "seed")
        for name, ending in (("out", ".png"), ("film", ".gif")):
            path = getattr(self, name)
            if path not in (None, Path()) and path.suffix.lower() != ending:
                raise ValueError(f"{name} = {str(path)!r} must be a file that ends in {ending}")
        if self.film is not None and self.number > FILMED:
            raise ValueError(f"number = {self.number} is more than the {FILMED} images that fit into a film")


def asked(prompts: Prompts, known: Sequence[str], options: GenerateConfig) -> tuple[Tensor, list[str]]:
    """What takes turns in being drawn: what the model is told of it, a row each, and its names.

    Raises ValueError for an unknown class or word, and for what is not asked of such a model.
    """
    if options.complete is not None and not options.classes and not options.prompt:
        return prompts.nothing.unsqueeze(0), [""]
    if prompts.words is None and not options.prompt:
        for name in options.classes:
            if name not in known:
                raise ValueError(f"class {name!r} is not one that the model draws; {nearest(name, known)}")
        names = [*options.classes] or [*known]
        return prompts.of([known.index(name) for name in names]), names
    if options.classes:
        raise ValueError(f"class {options.classes[0]!r} is for models of classes: this one draws captions, --prompt")
    if prompts.words is not None and not options.prompt and options.complete is None:
        raise ValueError('prompt is missing: say what to draw with --prompt "A CAPTION"')
    return prompts.read(options.prompt), [*options.prompt]


def begun(trained: TrainedGenerator | TrainedPixels, image: Path) -> tuple[Tensor, Tensor]:
    """An image as the model's tokens stand for it, uint8 (1, C, S, S), and the tokens of its upper half, int64 (m,).

    Raises ValueError for what is no image, and for a model that does not draw token by token, or needs to be told what.
    """
    if isinstance(trained, TrainedGenerator):
        raise ValueError("complete is for models that draw token by token: this one draws whole images from noise")
    shape, book = trained.config.model, trained.codebook
    try:
        stored = trained.preparation.read(image).unsqueeze(0)
    except OSError as error:
        raise ValueError(f"complete = {str(image)!r} cannot be read: {error.strerror}") from error
    pixels = sized(stored, trained.preparation, shape.image_size)
    codes = book.encode(pixels)
    return book.decode(codes), codes[0, : shape.side // 2 * shape.side]


def drawer(trained: TrainedGenerator | TrainedPixels, options: GenerateConfig) -> tuple[Tensor, Any]:
    """Images that are shown before those that are drawn, uint8 (n, C, S, S), and what draws."""
    shape = trained.config.model
    if options.complete is None:
        return torch.empty(
            0, shape.channels, shape.image_size, shape.image_size, dtype=torch.uint8
        ), trained.generator()
    shown, codes = begun(trained, options.complete)
    assert isinstance(trained, TrainedPixels)
    if not (options.classes or options.prompt or trained.config.class_dropout):
        raise ValueError(
            "complete needs --class or --prompt: with class_dropout = 0 a model is always told what to draw"
        )
    return shown, trained.generator(begun=codes)


def draw(trained: TrainedGenerator | TrainedPixels, options: GenerateConfig) -> float:
    """Draws and writes what is asked for; returns the seconds that drawing took."""
    turns, names = asked(trained.prompts, trained.preparation.classes, options)
    order = [index % len(names) for index in range(options.number)]
    how = trained.config.how(options)
    shown, generator = drawer(trained, options)
    started = time.monotonic()
    with autocast(options.precision, trained.device):
        if options.film is None:
            frames = [generator.draw(turns[order], how, options.seed)]
        else:
            frames = [*generator.film(turns[order], how, options.seed)]
    seconds = time.monotonic() - started
    columns = options.columns or (len(names) if 4 <= len(names) <= 12 else max(1, round(options.number**0.5)))
    captions = [names[turn] for turn in order]
    titles = ["to be completed"] * len(shown) + captions
    write_sheet(torch.cat([shown, frames[-1]]), options.out, columns, titles)
    if options.film is not None:
        write_film(frames, options.film, columns)
    if options.images is not None:
        write_images(frames[-1], captions, options.images)
    return seconds


def generate(argv: list[str]) -> None:
    """The command. Raises ValueError for bad input, before anything is drawn."""
    folder, rest = run_folder(argv, "vision.generate")
    options = parse_fields(
        GenerateConfig(),
        rest,
        prog="python -m vision.generate DIR",
        description="Draws images with a model that vision.train has trained to draw.",
    )
    if options.out == Path():
        raise ValueError("out is missing: name the picture with --out FILE.png")
    trained = load_drawing(folder, options.checkpoint, device_kind(options.device), options.weights)
    seconds = draw(trained, options)
    print(f"wrote {options.out}: {options.number:,} images, {seconds / options.number:.3g} seconds each")


if __name__ == "__main__":
    main(lambda: generate(sys.argv[1:]))
