"""Turn texts into vectors with a trained model, compare them, or search a file by meaning.

python -m text.embed DIR "a text" ... [--file FILE] [--out FILE.npz] [--similarity]
python -m text.embed DIR --search "a query" FILE [--top 5]
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from core.checks import check_positive
from core.cli.arguments import parse_fields
from core.cli.exits import main
from core.devices import device_kind
from core.files.atomic import atomic_write
from text.trained import load_any
from text.using.given import Precision, UseOptions, given_words, ready_model, texts_of
from text.using.text_encoder import TextEncoder, Vectors, nearest

DESCRIPTION = (
    "Gives each text a vector of length 1: those in the command, or one a line in --file or on standard input. Written "
    "is a JSON object a line; with --out arrays to a file, with --similarity the cosines of all pairs. --search prints "
    "the lines of a file that are nearest to a query. DIR is a run folder, or a public model: a folder in Hugging "
    "Face's layout, or hf:NAME."
)


@dataclass(frozen=True)
class EmbedConfig(UseOptions):
    """Settings of `text.embed`."""

    file: Path | None = None
    """A file of texts, one a line."""
    out: Path | None = None
    """Where the vectors are written, as an .npz file with the arrays texts and vectors."""
    similarity: bool = False
    """Write the cosines of all pairs of texts, a row a line."""
    search: tuple[str, ...] = ()
    """A query, and a file whose lines are searched for what is nearest to it."""
    top: int = 5
    """How many lines a search prints."""
    too_long: Literal["refuse", "truncate"] = "refuse"
    """What is done with a text of more tokens than the model reads."""
    at_once: int = 64
    """The most texts read together; the vectors do not depend on it."""
    precision: Precision = "fp32"
    """Of the weights; auto = bf16 where the device multiplies it in hardware. Vectors of bf16 depend on what is read
    together, by thousandths."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "top", "at_once")
        if self.search and len(self.search) != 2:
            raise ValueError(f"search = {self.search!r} must be a query and a file: --search QUERY FILE")
        if self.out is not None and self.out.suffix != ".npz":
            raise ValueError(f"out = {str(self.out)!r} must end in .npz")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        if self.search:
            return dict.fromkeys(("file", "out", "similarity"), "--search prints lines of the file that it names")
        return {"top": "only --search prints the nearest lines"}


def found_lines(encoder: TextEncoder, query: str, file: Path, count: int) -> list[str]:
    """The lines of a file nearest to a query, each with its number and cosine. Raises ValueError for an empty file."""
    lines = [*texts_of((), file)]
    if not lines:
        raise ValueError(f"{file} holds no lines to search")
    [vector] = encoder.encode([query])
    places = nearest(vector, encoder.encode(lines, progress=True), count)
    return [f"{cosine:.4f}  {lines[place]}" for place, cosine in places]


def written(texts: Sequence[str], vectors: Vectors, options: EmbedConfig) -> list[str]:
    """What is printed about texts and their vectors, (n, D); or they are saved."""
    if options.out is not None:
        with atomic_write(options.out) as aside, aside.open("wb") as file:
            np.savez(file, texts=np.array(texts), vectors=vectors)
    if options.similarity:
        return ["  ".join(f"{cosine:7.4f}" for cosine in row) for row in vectors @ vectors.T]
    if options.out is not None:
        return [f"{len(texts):,} vectors of {vectors.shape[1]} numbers are in {options.out}"]
    pairs = zip(texts, vectors.tolist(), strict=True)
    return [json.dumps({"text": text, "vector": vector}, ensure_ascii=False) for text, vector in pairs]


def embed(argv: list[str]) -> None:
    """The command."""
    name, words, flags = given_words(argv, "text.embed")
    options = parse_fields(EmbedConfig(), flags, prog="python -m text.embed DIR", description=DESCRIPTION)
    if options.search and words:
        raise ValueError(f"{words[0]!r:.60} is a text too many: --search takes a query and a file")
    texts = [] if options.search else [*texts_of(words, options.file)]
    if not (texts or options.search):
        raise ValueError("there are no texts: give some in the command, in --file or on standard input")
    trained = load_any(str(name), options.checkpoint, device_kind(options.device))
    model = ready_model(trained, options.precision)
    encoder = TextEncoder(model, trained.tokenizer, trained.device, rows=options.at_once, too_long=options.too_long)
    if options.search:
        query, file = options.search
        print(*found_lines(encoder, query, Path(file), options.top), sep="\n")
    else:
        print(*written(texts, encoder.encode(texts, progress=True), options), sep="\n")


if __name__ == "__main__":
    main(lambda: embed(sys.argv[1:]))
