"""Tag the words of sentences, or the residues of proteins, with a trained model.

python -m text.tag DIR ["a sentence" ...] [--file FILE] [--json]
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.checks import check_positive
from core.cli.arguments import parse_fields
from core.cli.exits import main
from core.devices import device_kind
from core.files.json_files import read_json
from core.training.trained import DATA
from text.tasks.labelling.configs import TaggingConfig
from text.trained import Trained, load_any
from text.using.given import UseOptions, given_words, split_words, texts_of
from text.using.translator import in_groups
from text.using.word_tagger import WordTagger

DESCRIPTION = (
    "Tags sentences, or proteins in letters of one residue each: those in the command, or one a line in --file or on "
    "standard input. Writes a word and its tag a line, an empty line between sentences; of a protein its residues in "
    "one line and their tags below. DIR is a run folder, or a public model: a folder in Hugging Face's layout, or "
    "hf:NAME."
)
CUT = "_"
"""In place of the tag of a word that was cut off."""


@dataclass(frozen=True)
class TagConfig(UseOptions):
    """Settings of `text.tag`."""

    file: Path | None = None
    """A file of sentences, one a line."""
    split: Literal["words", "spaces"] = "words"
    """Whether punctuation marks and English clitics (do n't, it 's) become words of their own, or words are what is
    between spaces."""
    json: bool = False
    """Write an object a line: the words of a sentence, and their tags."""
    too_long: Literal["refuse", "truncate"] = "refuse"
    """What is done with a sentence of more tokens than the model's context: words that are cut off get the tag _."""
    at_once: int = 64
    """Sentences tagged together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "at_once")


def unit_of(name: Path, trained: Trained) -> str:
    """What has a tag: words or characters. Raises ValueError for a model that does not tag."""
    if not isinstance(trained.config, TaggingConfig):
        raise ValueError(f"DIR holds a model for {trained.config.task}, not one that tags words")
    return str(read_json(name / DATA).get("unit", "words")) if trained.step else "words"


def words_of(text: str, unit: str, split: str) -> list[str]:
    """What has a tag in a text."""
    if unit == "characters":
        return [*"".join(text.split()).upper()]
    return text.split() if split == "spaces" else split_words(text)


def shown(words: Sequence[str], tags: Sequence[str], unit: str, as_json: bool) -> str:
    """What is written of a sentence."""
    if as_json:
        return json.dumps({"words": words, "tags": tags}, ensure_ascii=False)
    if unit == "characters":
        between = "" if all(len(tag) == 1 for tag in tags) else " "
        return f"{between.join(words)}\n{between.join(tags)}"
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))


def tag(argv: list[str]) -> None:
    """The command."""
    name, words, flags = given_words(argv, "text.tag")
    options = parse_fields(TagConfig(), flags, prog="python -m text.tag DIR", description=DESCRIPTION)
    texts = texts_of(words, options.file)
    trained = load_any(str(name), options.checkpoint, device_kind(options.device))
    unit = unit_of(name, trained)
    if unit == "characters" and options.split != "words":
        raise ValueError(f"--split has no effect: {name} tags single characters")
    settings = {"rows": options.at_once, "too_long": options.too_long}
    tagger = WordTagger(trained.model, trained.tokenizer, trained.device, **settings)  # type: ignore[arg-type]
    typed = not (words or options.file) and sys.stdin.isatty()
    for group in in_groups(texts, 1 if typed else options.at_once):
        sentences = [words_of(text, unit, options.split) for text in group]
        for sentence, tags in zip(sentences, tagger.tags(tagger.encode(sentences)), strict=True):
            rest = [CUT] * (len(sentence) - len(tags))
            print(shown(sentence, [*tags, *rest], unit, options.json), flush=True)


if __name__ == "__main__":
    main(lambda: tag(sys.argv[1:]))
