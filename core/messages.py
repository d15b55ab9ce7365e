"""Parts of the messages that users read."""

import difflib
import os
import sys
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence about an unknown word: what was probably meant, else `otherwise`, or all that is known."""
    known = list(known)
    if close := difflib.get_close_matches(word, known, n=1, cutoff=0.5):
        return f"did you mean '{close[0]}'?"
    return otherwise or f"known are: {', '.join(known)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type where it has none."""
    return (str(error).strip() or type(error).__name__).split("\n")[0]


def number(value: float) -> str:
    """A number for people to read: with one decimal from 100 on, else with four digits."""
    return f"{value:,.1f}".removesuffix(".0") if abs(value) >= 100 else f"{value:.4g}"


def notice(text: str) -> None:
    """Prints a notice on stderr, from the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"notice: {text}", file=sys.stderr, flush=True)
