"""One HTML file: the page's style and scripts, what it is told of the models, and their weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.explorer.runs import Run

FOLDER = Path(__file__).with_name("page")
SCRIPTS = (
    "arrays weights positions cuts states transformer models vision_model decision_model tokenizers sampling "
    "colours elements maps token_view head_grid edge_graph chances layers walk session "
    "text_panel masked_panel translation_panel picture_view picture_panel cartpole agent_panel saving app"
).split()
"""In the order in which they are read."""
TOO_LARGE = 24.0
"""MB of a page from which a browser would be slow to open it."""


def assemble(runs: Sequence[Run], most: float = TOO_LARGE) -> str:
    """The page. most: MB. Raises ValueError where the weights make it larger, saying which and what to do."""
    page = fill((FOLDER / "page.html").read_text("utf-8"), runs)
    size = len(page.encode()) / 1e6
    if size > most:
        largest = max(runs, key=lambda run: len(run.packed.text))
        share = len(largest.packed.text) / 1e6
        raise ValueError(
            f"the page would be {size:.1f} MB, {share:.1f} MB of them the weights of {largest.name} in "
            f"{largest.packed.format}, and at most {most:g} are allowed: use --weights int6, fewer runs, a smaller "
            f"model, or a larger --most"
        )
    return page


def fill(template: str, runs: Sequence[Run]) -> str:
    """The template with everything in its place."""
    script = "\n".join((FOLDER / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    parts = {
        "STYLE": (FOLDER / "style.css").read_text("utf-8"),
        "RUNS": as_script(json.dumps([run.header() for run in runs], allow_nan=False, separators=(",", ":"))),
        "WEIGHTS": "\n".join(
            f'<script type="text/plain" id="weights-{n}">{run.packed.text}</script>' for n, run in enumerate(runs)
        ),
        "SCRIPT": as_script(f'"use strict";\n(() => {{\n{script}\n}})();'),
    }
    for name, text in parts.items():
        template = template.replace(f"<!--{name}-->", text, 1)
    return template


def as_script(text: str) -> str:
    """Text that may stand in a script element: nothing in it ends the element."""
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")
