"""Classify texts with a trained model.

python -m text.classify DIR ["a text" ...] [--file FILE] [--json]
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.checks import check_positive
from core.cli.arguments import parse_fields
from core.cli.exits import main
from core.devices import device_kind
from core.files.json_files import read_json
from core.training.trained import DATA
from text.tasks.labelling.configs import ClassificationConfig
from text.trained import Trained, load_any
from text.using.given import UseOptions, given_words, texts_of
from text.using.text_classifier import TextClassifier
from text.using.translator import in_groups

DESCRIPTION = (
    "Gives each text a label and the probability of it: texts in the command, or one a line in --file or on standard "
    "input. Where the model reads two texts, a tab separates them. DIR is a run folder, or a public model: a folder in "
    "Hugging Face's layout, or hf:NAME."
)


@dataclass(frozen=True)
class ClassifyConfig(UseOptions):
    """Settings of `text.classify`."""

    file: Path | None = None
    """A file of texts, one a line."""
    json: bool = False
    """Write an object a line: the text, its label, and the probabilities of all labels."""
    too_long: Literal["refuse", "truncate"] = "refuse"
    """What is done with a text of more tokens than the model's context."""
    at_once: int = 64
    """Texts classified together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "at_once")


def is_paired(name: Path, trained: Trained) -> bool:
    """Whether the model reads two texts. Raises ValueError for one that does not classify."""
    if not isinstance(trained.config, ClassificationConfig):
        raise ValueError(f"DIR holds a model for {trained.config.task}, not one that classifies texts")
    return bool(trained.step and read_json(name / DATA).get("paired"))


def sides(texts: Sequence[str], paired: bool) -> tuple[list[str], list[str]]:
    """The texts, and the second ones where a tab must separate two. Raises ValueError for a line without two."""
    if not paired:
        return [*texts], []
    pairs = [[side.strip() for side in text.split("\t")] for text in texts]
    if wrong := [text for text, pair in zip(texts, pairs, strict=True) if len(pair) != 2 or not all(pair)]:
        raise ValueError(f"{wrong[0]!r:.60} is not two texts: this model reads two, separated by a tab")
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def lines_of(
    texts: Sequence[str], probabilities: Sequence[Sequence[float]], labels: Sequence[str], as_json: bool
) -> Iterator[str]:
    """What is written of each text."""
    width = max(map(len, labels))
    for text, shares in zip(texts, probabilities, strict=True):
        best = max(range(len(labels)), key=shares.__getitem__)
        if as_json:
            named = dict(zip(labels, shares, strict=True))
            yield json.dumps({"text": text, "label": labels[best], "probabilities": named}, ensure_ascii=False)
        else:
            yield f"{labels[best]:<{width}}  {shares[best]:.4f}  {text}"


def classify(argv: list[str]) -> None:
    """The command."""
    name, words, flags = given_words(argv, "text.classify")
    options = parse_fields(ClassifyConfig(), flags, prog="python -m text.classify DIR", description=DESCRIPTION)
    texts = texts_of(words, options.file)
    trained = load_any(str(name), options.checkpoint, device_kind(options.device))
    paired = is_paired(name, trained)
    classifier = TextClassifier(
        trained.model, trained.tokenizer, trained.device, rows=options.at_once, too_long=options.too_long
    )
    typed = not (words or options.file) and sys.stdin.isatty()
    for group in in_groups(texts, 1 if typed else options.at_once):
        encoded = classifier.encode(*sides(group, paired))
        found = classifier.probabilities(encoded).tolist()
        print(*lines_of(group, found, trained.config.model.labels, options.json), sep="\n", flush=True)


if __name__ == "__main__":
    main(lambda: classify(sys.argv[1:]))
