"""Fill blanks in a text with a trained model.

python -m text.fill DIR "The [MASK] sat by the fire." [--top 5] [--json]
python -m text.fill DIR "The <extra_id_0> sat by <extra_id_1>."
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.checks import check_positive
from core.cli.arguments import parse_fields
from core.cli.exits import main
from core.devices import device_kind
from text.config import DenoisingConfig
from text.trained import Trained, load_any
from text.using.filler import MaskFiller, SpanFiller, build_filler
from text.using.given import UseOptions, given_words, texts_of

DESCRIPTION = (
    "Fills blanks in texts: those in the command, or one a line in --file or on standard input. A masked language "
    "model says what is likely in place of each [MASK] (or <mask>, or what else its tokenizer calls it), with "
    "probabilities. A model trained for denoising, T5 for example, writes what stands for <extra_id_0>, <extra_id_1> "
    "and so on. DIR is a run folder, or a public model: a folder in Hugging Face's layout, or hf:NAME."
)


@dataclass(frozen=True)
class FillConfig(UseOptions):
    """Settings of `text.fill`."""

    file: Path | None = None
    """A file of texts, one a line."""
    top: int = 5
    """How many tokens are shown for each mask."""
    json: bool = False
    """Write an object a line."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "top")


def open_filler(trained: Trained) -> MaskFiller | SpanFiller:
    """The filler for a trained model. Raises ValueError for one of another task."""
    config = trained.config
    sentinels = config.sentinels if isinstance(config, DenoisingConfig) else 0
    if trained.step and config.task == "translation":
        raise ValueError(f"DIR holds a model for {config.task}, not one that fills blanks")
    return build_filler(trained.model, trained.tokenizer, trained.device, sentinels)


def lines_of(filler: MaskFiller | SpanFiller, text: str, options: FillConfig) -> Iterator[str]:
    """What is written about a text."""
    if isinstance(filler, SpanFiller):
        spans = filler.fill(text)
        if options.json:
            yield json.dumps({"text": text, "spans": spans}, ensure_ascii=False)
        else:
            yield from (f"<extra_id_{number}>  {span}" for number, span in enumerate(spans))
        return
    masks = filler.fill(text, options.top)
    if options.json:
        yield json.dumps({"text": text, "masks": [[each._asdict() for each in mask] for mask in masks]})
        return
    for number, mask in enumerate(masks, 1):
        yield from (f"{number}  {each.probability:.4f}  {each.text.strip() or repr(each.text)}" for each in mask)


def fill(argv: list[str]) -> None:
    """The command."""
    name, words, flags = given_words(argv, "text.fill")
    options = parse_fields(FillConfig(), flags, prog="python -m text.fill DIR", description=DESCRIPTION)
    texts = texts_of(words, options.file)
    filler = open_filler(load_any(str(name), options.checkpoint, device_kind(options.device)))
    for text in texts:
        print(*lines_of(filler, text, options), sep="\n", flush=True)


if __name__ == "__main__":
    main(lambda: fill(sys.argv[1:]))
