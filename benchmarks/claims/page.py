"""docs/claims.md, made of what was measured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.claims.common import Claim
from benchmarks.measure.record import number, table
from core.files.atomic import write_text
from core.files.json_files import read_json

INTRODUCTION = """# The lecture, run

What lectures say about Transformers, each sentence as one command on the code that trains this project's models. Every
claim names beforehand what would have to be measured; several seeds are run; a one-sided t-test over the seeds decides
(held: every p below 0.05; did not hold: a condition is missed as surely; not shown: neither, or the budget was too
small). Claims that did not hold stay here.

```bash
python -m benchmarks.claims
python -m benchmarks.claims heads --minutes 5 --seeds 3
python -m benchmarks.claims --all
python -m benchmarks.claims scaling --predict
```

The last writes what a claim predicts to a file, to be committed before the run that tests it.

This page is written by those commands, from the files in `benchmarks/results/claims`; don't edit it.
"""


def write_page(results: Path, page: Path, claims: Mapping[str, Claim]) -> None:
    """Writes the page of all claims, in this order, with what a folder of results holds of them."""
    found = {name: read_json(path) for name in claims if (path := results / f"{name}.json").exists()}
    rows = [
        [f"[{name}](#{name})", found[name]["sentence"], found[name]["verdict"]]
        if name in found
        else [name, claim.sentence, "not run yet"]
        for name, claim in claims.items()
    ]
    sections = [
        _section(name, one, os.path.relpath(results / f"{name}.png", page.parent)) for name, one in found.items()
    ]
    write_text(page, "\n".join([INTRODUCTION, table(["claim", "", "verdict"], rows), "", *sections]))


def _section(name: str, one: Mapping[str, Any], picture: str) -> str:
    tests = [
        [each["what"], number(each["mean"]), f"{each['side']} {each['bar']:g}", f"{each['t']:.2f}", f"{each['p']:.2g}"]
        for each in one["conditions"]
    ]
    parts = [
        f"## {name}",
        f"*{one['sentence']}*",
        f"**Hypothesis.** {one['hypothesis']} Equal: {one['equal']}.",
        f"**{one['verdict'].capitalize()}**: {one['because']}.",
        *([table(["condition", "mean", "bar", "t", "p"], tests)] if tests else []),
        f"![{one['sentence']}]({picture})",
        table(one["header"], one["rows"]),
        *one["notes"],
        _origin(one),
    ]
    return "\n\n".join(parts) + "\n"


def _origin(one: Mapping[str, Any]) -> str:
    about, asked = one["provenance"], one["settings"]
    cpu, torch = about["machine"]["cpu"], about["versions"]["torch"]
    return (
        f"Seeds 0 to {asked['seeds'] - 1}, {asked['minutes']:g} core-minutes of training asked for, "
        f"{one['core_seconds']:.0f} core-seconds in all on {cpu}, torch {torch}, commit {about['commit']}, "
        f"{about['date'][:10]}."
    )
