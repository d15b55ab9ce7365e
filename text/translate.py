"""Translate with a trained model.

python -m text.translate DIR ["a sentence" ...] [--file FILE] [--beams 5] [--best 3] [--alignment FILE.png]
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.checks import check_at_least, check_positive
from core.cli.arguments import parse_fields
from core.cli.exits import main
from core.devices import device_kind
from text.config import TranslationConfig
from text.corpus.sequences import encode_all
from text.reports.alignment import draw_alignments
from text.trained import Trained, load_any
from text.using.given import Precision, UseOptions, given_words, ready_model, texts_of
from text.using.translator import Translation, Translator, in_groups

DESCRIPTION = (
    "Translates sentences, one a line: those in the command, in --file, or from standard input. DIR is a run folder, "
    "or a public model: a folder in Hugging Face's layout, or hf:NAME."
)


MOST_DRAWN = 6  # sentences in a picture of alignments


@dataclass(frozen=True)
class TranslateConfig(UseOptions):
    """Settings of `text.translate`."""

    file: Path | None = None
    """A file of sentences, one a line."""
    source: str = ""
    """Language of the sentences, also as --from; a run translates from one only, and others are refused."""
    beams: int = 5
    """Translations kept while searching; 1 takes the most probable token."""
    best: int = 1
    """How many translations of each sentence to show; with more than one, each with its score."""
    length_penalty: float = 0.6
    """Exponent of the length by which log-probabilities are divided (Wu 2016); larger favours longer translations."""
    too_long: Literal["refuse", "truncate"] = "refuse"
    """What is done with a sentence of more tokens than the model's context."""
    alignment: Path | None = None
    """Draw which words of the sentence each word of its translation attends to, as a picture."""
    at_once: int = 100
    """Sentences translated together."""
    precision: Precision = "fp32"
    """Of the weights; auto = bf16 where the device multiplies it in hardware. Translations may then differ in words."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "beams", "best", "at_once")
        check_at_least(self, 0, "length_penalty")
        if self.best > self.beams:
            raise ValueError(f"best = {self.best} must be at most beams = {self.beams}")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return {"length_penalty": "beams = 1 searches for nothing"} if self.beams == 1 else {}


def check_direction(trained: Trained, source: str) -> None:
    """Raises ValueError for a model that does not translate, or not from that language."""
    config = trained.config
    if not isinstance(config, TranslationConfig):
        raise ValueError(f"DIR holds a model for {config.task}, not one that translates")
    if source and config.source and source != config.source:
        raise ValueError(f"source = {source!r}: this model translates from {config.source!r}")


def lines_of(found: Sequence[Translation], best: int) -> Iterator[str]:
    """The best translations; with their scores where there are several."""
    for each in found[:best]:
        yield each.text if best == 1 else f"{each.score:8.4f}  {each.text}"


def translated(translator: Translator, group: Sequence[str], options: TranslateConfig) -> list[list[Translation]]:
    """The translations of some sentences. Raises ValueError for one that is too long."""
    longest, after = translator.model.config.context, [translator.ids.eos]
    limits = {"longest": longest, "too_long": options.too_long, "name": "sentence"}
    return translator.translate(encode_all(translator.tokenizer, group, after=after, **limits))


def translate(argv: list[str]) -> None:
    """The command."""
    name, words, flags = given_words(argv, "text.translate")
    flags = ["--source" if word == "--from" else word for word in flags]
    options = parse_fields(TranslateConfig(), flags, prog="python -m text.translate DIR", description=DESCRIPTION)
    sentences = texts_of(words, options.file)
    trained = load_any(str(name), options.checkpoint, device_kind(options.device))
    check_direction(trained, options.source)
    search = {name: getattr(options, name) for name in ("beams", "best", "length_penalty")} | {"rows": options.at_once}
    model = ready_model(trained, options.precision)
    translator = Translator(model, trained.tokenizer, trained.device, **search)
    pairs: list[tuple[str, str]] = []
    typed = not (words or options.file) and sys.stdin.isatty()
    for group in in_groups(sentences, 1 if typed else options.at_once):
        for sentence, found in zip(group, translated(translator, group, options), strict=True):
            print(*lines_of(found, options.best), sep="\n", flush=True)
            pairs.append((sentence, found[0].text))
    if options.alignment:
        draw_alignments(translator, pairs[:MOST_DRAWN], options.alignment)


if __name__ == "__main__":
    main(lambda: translate(sys.argv[1:]))
