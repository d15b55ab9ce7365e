"""Show what the tokens of a text attend to: a map for every layer and head.

python -m text.explain DIR --prompt "a text" --out FILE.png [--target TEXT]
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from core.cli.arguments import REQUIRED, TEXT, parse_fields, run_folder
from core.cli.exits import main
from core.devices import device_kind
from text.reports.attention_maps import attention_of, draw_attention
from text.trained import load_any
from text.using.given import UseOptions

DESCRIPTION = (
    "Draws what the tokens of a text attend to, a map for every layer and head; of a model that translates, what the "
    "tokens it writes attend to in the source. DIR is a run folder, or a public model: a folder in Hugging Face's "
    "layout, or hf:NAME."
)


@dataclass(frozen=True)
class ExplainConfig(UseOptions):
    """Settings of `text.explain`."""

    prompt: str = field(default="", metadata={REQUIRED: True, TEXT: True})
    """The text that is read."""
    out: Path = field(default=Path(), metadata={REQUIRED: True})
    """The picture to write, a .png; it replaces an earlier one."""
    target: str = field(default="", metadata={TEXT: True})
    """Of a model that translates: the translation whose tokens are shown; default its own."""


def explain(argv: list[str]) -> None:
    """The command. Raises ValueError for bad input, before the picture is touched."""
    name, rest = run_folder(argv, "text.explain")
    options = parse_fields(ExplainConfig(), rest, prog="python -m text.explain DIR", description=DESCRIPTION)
    if not options.prompt:
        raise ValueError('prompt is missing: give the text with --prompt "..."')
    if options.out.suffix.lower() != ".png":
        raise ValueError(f"out = {str(options.out)!r} must be a file that ends in .png: name it with --out FILE.png")
    trained = load_any(str(name), options.checkpoint, device_kind(options.device))
    attention = attention_of(trained, options.prompt, options.target)
    draw_attention(attention, options.out)
    print(f"wrote {options.out}: {len(attention.maps)} layers x {len(attention.maps[0])} heads")


if __name__ == "__main__":
    main(lambda: explain(sys.argv[1:]))
