"""What README and the pages of docs/ show: command lines, and snippets of Python."""

from __future__ import annotations

import re
import shlex

from benchmarks.measure.record import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in ("own-data.md", "after-training.md")),
]
"""All but those that are executed from their first line to their last (test_own_data.py)."""


def blocks(text: str, languages: str) -> list[str]:
    """The fenced blocks of some languages."""
    return re.findall(rf"^```(?:{languages})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def command_lines() -> list[list[str]]:
    """Every command of every page in words, README's first, each once."""
    text = "".join(block for page in PAGES for block in blocks(page.read_text("utf-8"), "bash|sh|console"))
    lines = dict.fromkeys(line.removeprefix("$ ") for line in text.replace("\\\n", " ").splitlines())
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def module_commands() -> list[list[str]]:
    """`["text.train", ...]` for each `python -m text.train ...` and each `triptych text train ...`."""
    commands = []
    for words in command_lines():
        if "-m" in words:
            commands.append(words[words.index("-m") + 1 :])
        elif words[0] == "triptych" and len(words) > 2:
            commands.append([".".join(words[1:3]), *words[3:]])
    return commands


def snippets() -> dict[str, list[str]]:
    """The Python of each page that is no doctest, by the page's name."""
    python = {str(page.relative_to(ROOT)): blocks(page.read_text("utf-8"), "python") for page in PAGES}
    plain = {name: [code for code in found if not code.startswith(">>>")] for name, found in python.items()}
    return {name: found for name, found in plain.items() if found}
