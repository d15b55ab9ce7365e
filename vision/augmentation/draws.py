"""What is drawn for every image of a step: pure functions of (seed, step, place in the global batch).

Everything is drawn for the images of all processes together, as a few NumPy numbers each, from streams that outlive
releases (see `core.training.order`); each purpose has a stream of its own, so that one may be switched on without
changing what the others draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.training.order import epochs, shuffled, stream
from vision.augmentation.config import AugmentConfig
from vision.sides import Sides, rows_and_columns

Array = NDArray[Any]

OPERATIONS: dict[str, tuple[float, float]] = {
    "identity": (0, 0),
    "rotate": (0, math.radians(30)),
    "shear_x": (0, 0.3),
    "shear_y": (0, 0.3),
    "translate_x": (0, 150 / 331),
    "translate_y": (0, 150 / 331),
    "brightness": (1, 1.9),
    "saturation": (1, 1.9),
    "contrast": (1, 1.9),
    "sharpness": (1, 1.9),
    "posterize": (8, 4),
    "solarize": (256, 0),
    "autocontrast": (0, 0),
    "equalize": (0, 0),
}
"""RandAugment's operations (Cubuk 2020, section 3.1), and their amounts at strength 0 and 10, as torchvision has them:
radians, slopes, fractions of the side, factors, bits kept, the value from which on to invert."""
NAMES = tuple(OPERATIONS)
GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
ONE_SIDED = ("posterize", "solarize")
"""The others go in either direction from strength 0, with equal probability."""

TRIES = 10
OFFSETS = 2**16
"""How many places of the noise table an image's noise may begin at."""


@dataclass(frozen=True)
class UniformNumbers:
    """Random numbers of a step, uniform and independent, for each image of its global batch."""

    seed: int
    step: int
    images: int

    def __call__(self, purpose: str, numbers: int = 1) -> Array:
        """float64 (images, numbers) in [0, 1)."""
        raw = stream(self.seed, f"augment {purpose}", self.step).random_raw(self.images * numbers)
        return (raw >> np.uint64(11)).reshape(self.images, numbers) * 2.0**-53


@dataclass(frozen=True)
class Draws:
    """What was drawn for each of B images."""

    offset: Array
    """int64 (B, 2): how many rows and columns away from a place its pixel comes from."""
    box: Array
    """int64 (B, 4): top, left, height and width of the part that becomes the whole."""
    flip: Array
    """bool (B,): whether it is mirrored."""
    kinds: Array
    """int64 (B, operations): which operations, as indices into NAMES."""
    amounts: Array
    """float32 (B, operations): the amount of each."""
    erased: Array
    """int64 (B, 4): top, left, height and width of what is erased; all 0 = nothing."""
    noise: Array
    """int64 (B,): where in the noise table the image's noise begins."""
    sound: Array
    """float64 (B, numbers) in [0, 1): what the changes of a spectrogram are made of."""

    def subset(self, rows: Array) -> Draws:
        """Those of some of the images."""
        return Draws(*(getattr(self, f.name)[rows] for f in fields(self)))


def draw(config: AugmentConfig, random: UniformNumbers, items: int, sides: Sequence[int], size: Sides) -> Draws:
    """What is drawn for the images of a step, out of `items`; stored with sides (H, W), augmented at `size`."""
    operations = config.operations if config.strength else 0
    kinds = (random("operations", operations) * len(NAMES)).astype(np.int64)
    signs = np.where(random("signs", operations) < 0.5, -1, 1)
    return Draws(
        offset=offsets(config, random),
        box=boxes(config, random, sides, size),
        flip=flips(config, random, items),
        kinds=kinds,
        amounts=amounts(kinds, signs, config.strength),
        erased=erasures(config, random, size),
        noise=(random("noise")[:, 0] * OFFSETS).astype(np.int64),
        sound=random("sound", config.sound.numbers),
    )


def flips(config: AugmentConfig, random: UniformNumbers, items: int) -> Array:
    """bool (B,). Alternating: an image's first orientation is random, and every epoch changes it."""
    if config.flip == "none":
        return np.zeros(random.images, bool)
    if config.flip == "random":
        return random("flip")[:, 0] < 0.5
    place = random.seed, random.step, random.images, items
    return (first_orientations(random.seed, items)[shuffled(*place)] + epochs(*place[1:])) % 2 == 1


@lru_cache(maxsize=1)
def first_orientations(seed: int, items: int) -> Array:
    """0 or 1 for each image of a data set, int64 (items,)."""
    return (stream(seed, "augment orientation").random_raw(items) & np.uint64(1)).astype(np.int64)


def offsets(config: AugmentConfig, random: UniformNumbers) -> Array:
    """int64 (B, 2) in -shift..shift."""
    if config.crop != "shift":
        return np.zeros((random.images, 2), np.int64)
    return (random("shift", 2) * (2 * config.shift + 1)).astype(np.int64) - config.shift


def boxes(config: AugmentConfig, random: UniformNumbers, sides: Sequence[int], size: Sides) -> Array:
    """Parts to be resized to `size`, int64 (B, 4), as torchvision's RandomResizedCrop draws them."""
    if config.crop != "resized":
        return np.tile(np.array((0, 0, *sides)), (random.images, 1))
    rows, columns = rows_and_columns(size)
    own = columns / rows
    return rectangles(random("box", 2 * TRIES + 2), sides, (config.min_area, 1), (3 / 4 * own, 4 / 3 * own))


def erasures(config: AugmentConfig, random: UniformNumbers, size: Sides) -> Array:
    """What is erased of images of `size`, int64 (B, 4)."""
    if config.erase == "none":
        return np.zeros((random.images, 4), np.int64)
    if config.erase == "cutout":
        corner = (random("erase", 2) * rows_and_columns(size)).astype(np.int64) - config.erase_size // 2
        box = np.concatenate((corner, np.full_like(corner, config.erase_size)), 1)
    else:
        box = rectangles(random("erase", 2 * TRIES + 2), rows_and_columns(size), (0.02, 1 / 3), (0.3, 1 / 0.3))
    return np.where(random("erased") < config.erase_probability, box, 0)


def rectangles(numbers: Array, sides: Sequence[int], areas: tuple[float, float], aspects: tuple[float, float]) -> Array:
    """Rectangles inside an image, int64 (B, 4): top, left, height, width, from uniform numbers (B, 2 TRIES + 2).

    Their area is uniform in `areas`, as a fraction of the image's, width / height log-uniform in `aspects`: of
    TRIES rectangles the first that fits, else the whole image; then every place is equally likely.
    """
    height, width = sides
    area = height * width * (areas[0] + (areas[1] - areas[0]) * numbers[:, :TRIES])  # (B, TRIES)
    aspect = aspects[0] * (aspects[1] / aspects[0]) ** numbers[:, TRIES : 2 * TRIES]
    tall = np.maximum(1, np.sqrt(area / aspect).round())
    wide = np.maximum(1, np.sqrt(area * aspect).round())
    fits = (tall <= height) & (wide <= width)
    first = np.arange(len(numbers)), fits.argmax(1)
    tall = np.where(fits.any(1), tall[first], height)  # (B,)
    wide = np.where(fits.any(1), wide[first], width)
    top = np.floor(numbers[:, -2] * (height - tall + 1))
    left = np.floor(numbers[:, -1] * (width - wide + 1))
    return np.stack((top, left, tall, wide), 1).astype(np.int64)


def amounts(kinds: Array, signs: Array, strength: float) -> Array:
    """How much of each operation at a strength of 0..10: int64 (B, operations), -1 or 1 -> float32 (B, operations)."""
    start, end = np.array(list(OPERATIONS.values())).T
    one_sided = np.array([name in ONE_SIDED for name in NAMES])
    change = (end - start) * strength / 10
    return (start[kinds] + np.where(one_sided[kinds], 1, signs) * change[kinds]).astype(np.float32)


def affine(kinds: Array, amounts: Array, size: Sides) -> Array:
    """The geometric operations of each image in one matrix, about its centre: float32 (B, 2, 3).

    It maps a place (x, y, 1) of the result, in pixels from the centre, to where its colour comes from. Rotation is
    clockwise, translation by whole pixels.
    """
    rows, columns = rows_and_columns(size)
    whole = np.tile(np.eye(3), (len(kinds), 1, 1))  # (B, 3, 3)
    for kind, amount in zip(kinds.T, amounts.T, strict=True):
        of = {name: np.where(kind == NAMES.index(name), amount, 0) for name in GEOMETRY}
        back = np.tile(np.eye(3), (len(kinds), 1, 1))
        back[:, 0, 0] = back[:, 1, 1] = np.cos(of["rotate"])
        back[:, 0, 1] = np.sin(of["rotate"]) - of["shear_x"]
        back[:, 1, 0] = -np.sin(of["rotate"]) - of["shear_y"]
        back[:, 0, 2] = -np.trunc(of["translate_x"] * columns)
        back[:, 1, 2] = -np.trunc(of["translate_y"] * rows)
        whole = whole @ back
    return whole[:, :2].astype(np.float32)
