"""Show what a model looks at: attention maps of its layers and attention rollout, over the images.

python -m vision.explain DIR IMAGE... --out FILE.png [--layers all|last|1,3] [--head mean|max|N]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from core.attention import record_attention
from core.cli.arguments import parse_fields
from core.cli.exits import main
from core.devices import device_kind
from core.files.atomic import atomic_write
from core.training.trained import Weights
from vision.data.given import Reader, find_images, run_folder_and_images
from vision.reports.attention_maps import join_heads, on_grid, reader, received, rollout
from vision.reports.pictures import INK, PAPER, SOFT
from vision.trained import Trained, load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".pdf": "pdf"}
MOST = 24
"""Images that one picture takes."""
DPI = 150
CELL, BESIDE, BELOW, EDGE, HEAD, FOOT = 1.5, 0.1, 0.45, 0.15, 0.35, 0.65  # inches
COLORS = "inferno"
FINER = 16  # cells of a smooth map along a patch
LEGEND = "attention, from a map's least to its largest share; 1 = an even share"


class Explanation(NamedTuple):
    """What a model finds in an image, and where.

    image: float (C, S, S) in 0..1, as the model sees it. maps: (side, side) by title, 1 = an even share.
    """

    image: Tensor
    answer: str
    probability: float
    maps: dict[str, Tensor]


@dataclass(frozen=True)
class ExplainConfig:
    """Settings of `vision.explain`."""

    out: Path = Path()
    """The picture to write: .png, .jpg or .pdf; it replaces one that is there."""
    layers: str = "all"
    """Layers whose attention is shown: all, last, or numbers from 1 on, as in 1,3."""
    head: str = "mean"
    """The mean over the heads, their max, or one of them, from 1 on."""
    skip_bad: bool = False
    """Leave out images that cannot be read, and count them, instead of stopping at the first."""
    checkpoint: str = "best"
    """best, last, last-good, or a step."""
    weights: Weights = "averaged"
    """Averaged weights, where the run kept them, or raw ones."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run."""


@torch.no_grad()
def explain(trained: Trained, pixels: Tensor, layers: Sequence[int], head: str = "mean") -> Explanation:
    """An image, uint8 (C, H, W), its most probable class, and the attention behind it.

    The maps: for each of `layers` (numbers from 0 on) what a patch gets of the attention of those tokens that the
    answer is read from; with attention pooling, the pooling's weights; and the rollout of all layers.
    """
    model, heard = trained.model, list[Tensor]()
    hook = model.pool.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    with record_attention(model) as maps:
        probabilities = trained.logits(pixels[None])[0].softmax(-1)  # (K,)
    hook.remove()
    attention = [join_heads(weights, head) for weights in maps.values()]  # L x (1, T, T)
    read = reader(model.pool, heard[0], attention[0].shape[-1])  # (1, T)
    shares = {f"layer {layer + 1}": received(attention[layer], read) for layer in layers}
    if model.pool.attention is not None:
        shares["pooling"] = read
    shares["rollout"] = received(rollout(attention), read)
    label = int(probabilities.argmax())
    return Explanation(
        trained.preparation.fit(pixels[None], model.config.image_size)[0],
        trained.preparation.classes[label],
        float(probabilities[label]),
        {title: on_grid(share, model.config.learned_tokens)[0].cpu() for title, share in shares.items()},
    )


def chosen_layers(choice: str, depth: int) -> list[int]:
    """Layer numbers from 0 on for "all", "last" or "1,3". Raises ValueError for another choice."""
    if choice in ("all", "last"):
        return list(range(depth)) if choice == "all" else [depth - 1]
    numbers = [int(word) if word.strip().isdecimal() else 0 for word in choice.split(",")]
    if not all(1 <= number <= depth for number in numbers):
        raise ValueError(f"layers = {choice!r} is not one of: all, last, or numbers from 1 to {depth}, as in 1,{depth}")
    return [number - 1 for number in numbers]


def draw(explained: Sequence[tuple[Path, Explanation]]) -> Figure:
    """A row for each image: itself with the answer above it, then its maps with their range below."""
    figure, grid = sheet(len(explained), 1 + len(explained[0][1].maps))
    for (file, explanation), row in zip(explained, grid, strict=True):
        show(row[0], explanation.image)
        name_it(row[0], f"{short(explanation.answer, 14)}, {100 * explanation.probability:.0f} %", short(file.name, 24))
        for axes, (title, values) in zip(row[1:], explanation.maps.items(), strict=True):
            show(axes, grey(explanation.image))
            lay_over(axes, values)
            name_it(axes, title if row is grid[0] else "", f"{values.min():.2f} – {values.max():.2f}")
    return figure


def sheet(rows: int, columns: int) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    """An empty picture of rows x columns square axes, its scale at the foot."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    width = columns * CELL + (columns - 1) * BESIDE + 2 * EDGE
    height = rows * CELL + (rows - 1) * BELOW + HEAD + FOOT
    figure = Figure((width, height), facecolor=PAPER)
    place = {"left": EDGE / width, "right": 1 - EDGE / width, "top": 1 - HEAD / height, "bottom": FOOT / height}
    space = {"wspace": BESIDE / CELL, "hspace": BELOW / CELL}
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=place | space)
    scale = figure.add_axes((EDGE / width, 0.2 / height, CELL / 2 / width, 0.09 / height))
    bar = figure.colorbar(ScalarMappable(cmap=COLORS), cax=scale, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    scale.annotate(LEGEND, (1, 0.5), (6, 0), "axes fraction", "offset points", va="center", color=SOFT, fontsize=7.5)
    return figure, grid.tolist()


def grey(image: Tensor) -> Tensor:
    """The image (C, S, S) in grey and with less contrast, for colours to be laid over: (1, S, S)."""
    return 0.1 + 0.75 * image.mean(0, keepdim=True)


def show(axes: Axes, image: Tensor) -> None:
    """An image (C, S, S) in 0..1 with its pixels as squares."""
    axes.imshow(image.expand(3, -1, -1).permute(1, 2, 0).numpy(), interpolation="nearest")  # (S, S, 3)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def lay_over(axes: Axes, values: Tensor) -> None:
    """A map (side, side) over the image in the axes, smooth, its colours from its least to its largest value."""
    [image] = axes.images
    fine = F.interpolate(values[None, None], scale_factor=FINER, mode="bicubic")[0, 0]
    fine = fine.clamp(values.min(), values.max())
    axes.imshow(fine.numpy(), cmap=COLORS, alpha=0.65, extent=image.get_extent())


def name_it(axes: Axes, above: str, below: str) -> None:
    """Text over and under the axes, as it is: a dollar opens no formula."""
    axes.set_title(above, color=INK, fontsize=9, pad=4, parse_math=False)
    axes.set_xlabel(below, color=SOFT, fontsize=7, labelpad=3, parse_math=False)


def short(name: str, most: int) -> str:
    """A name of at most `most` characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def write(explained: Sequence[tuple[Path, Explanation]], out: Path) -> None:
    """Draws into a file, whole or not at all, in place of any before it."""
    with atomic_write(out) as aside:
        draw(explained).savefig(aside, format=FORMATS[out.suffix.lower()], dpi=DPI, facecolor=PAPER)


def check_out(out: Path) -> None:
    """Raises ValueError unless it names a picture."""
    if out == Path():
        raise ValueError("out is missing: name the picture with --out FILE.png")
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"out = {str(out)!r} must be a file that ends in one of: {', '.join(FORMATS)}")


def explain_images(argv: list[str]) -> None:
    """The command. Raises ValueError for bad input, before the picture is touched."""
    folder, words, rest = run_folder_and_images(argv, "vision.explain")
    options = parse_fields(
        ExplainConfig(),
        rest,
        prog="python -m vision.explain DIR IMAGE...",
        description="Shows what a model looks at: files, folders of them, or patterns in quotes.",
    )
    check_out(options.out)
    files = find_images(words)
    if len(files) > MOST:
        raise ValueError(f"{len(files):,} images do not fit into one picture: {MOST} at most")
    trained = load(folder, options.checkpoint, device_kind(options.device), options.weights)
    layers = chosen_layers(options.layers, trained.model.config.core.depth)
    images = Reader(trained.preparation, options.skip_bad).read(files)
    explained = [(file, explain(trained, pixels, layers, options.head)) for file, pixels in images]
    write(explained, options.out)
    print(f"wrote {options.out}: {len(explained)} x {len(explained[0][1].maps)} maps")


if __name__ == "__main__":
    main(lambda: explain_images(sys.argv[1:]))
