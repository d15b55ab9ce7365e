"""Text on a terminal: pieces as they arrive, and what a user types in return."""

import contextlib
import sys
from collections.abc import Callable, Iterator


def print_pieces(pieces: Iterator[str]) -> None:
    """Prints pieces of text as they arrive."""
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def converse(invitation: str, answer: Callable[[str], Iterator[str]]) -> None:
    """Prints the answer, in pieces, to each line that is typed, until the end of input.

    An answer that raises ValueError is one sentence instead; Ctrl-C stops one.
    """
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history for `input`)
    print(f"{invitation} Ctrl-D quits.", file=sys.stderr)
    while True:
        try:
            words = input("> ")
        except EOFError:
            print()
            return
        try:
            print_pieces(answer(words))
        except KeyboardInterrupt:
            print()
        except ValueError as error:
            print(error, file=sys.stderr)
