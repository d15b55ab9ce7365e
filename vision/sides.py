"""Sizes of images and of grids: one number for a square, or rows and columns."""

from typing import Any

Sides = int | tuple[int, int]
"""A number stands for a square of that side; two are rows and columns."""


def rows_and_columns(sides: Sides) -> tuple[int, int]:
    """The two sides: (4, 4) of 4."""
    return (sides, sides) if isinstance(sides, int) else sides


def shortest(rows: int, columns: int) -> Sides:
    """The shortest way to say it: 4 of (4, 4)."""
    return rows if rows == columns else (rows, columns)


def in_words(sides: Sides) -> str:
    """As in "4 x 6"."""
    rows, columns = rows_and_columns(sides)
    return f"{rows} x {columns}"


def check_sides(config: Any, *names: str) -> None:
    """Raise ValueError when a named field is neither None, nor a number above 0, nor two of them."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, tuple) and len(value) != 2:
            raise ValueError(f"{name} = {value!r} must be one side, or rows and columns")
        if value is not None and not min(rows_and_columns(value)) > 0:
            raise ValueError(f"{name} = {value!r} must be above 0")
