"""Writes one HTML file in which trained models run: their attention is seen, and its heads and edges are cut.

python -m benchmarks.explorer RUN... --out page.html
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from benchmarks.explorer.packing import FORMATS
from benchmarks.explorer.page import TOO_LARGE, assemble
from benchmarks.explorer.runs import Run, Wanted, read_runs
from benchmarks.measure.options import parser_of
from core.cli.exits import main
from core.files.atomic import write_text


def parse(argv: Sequence[str] | None = None) -> Namespace:
    """The options."""
    parser = parser_of("explorer", __doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder of any panel, or a public text model")
    parser.add_argument("--out", type=Path, required=True, help="the page to write; it replaces an earlier one")
    parser.add_argument("--checkpoint", default="best", help="best, last, last-good, a step, or last-5 (default: best)")
    parser.add_argument("--prompt", default="", help="the text that text models begin with")
    parser.add_argument(
        "--weights",
        choices=("auto", *FORMATS),
        default="auto",
        help="how weights are kept; auto takes what changes no logit by more than 1e-4, int6 makes the smallest page",
    )
    parser.add_argument("--most", type=float, default=TOO_LARGE, help=f"MB of the page (default: {TOO_LARGE:g})")
    return parser.parse_args(argv)


def check(options: Namespace) -> None:
    """Raise ValueError for options that make no page, before a model is read."""
    if options.out.suffix not in (".html", ".htm"):
        raise ValueError(f"out = {str(options.out)!r} must be a file that ends in .html")
    if options.out.is_dir():
        raise ValueError(f"out = {str(options.out)!r} is a folder: name a file")
    if not options.most > 0:
        raise ValueError(f"most = {options.most:g} must be above 0 MB")


def check_prompt(prompt: str, runs: Sequence[Run]) -> None:
    """Raise ValueError for a prompt that no run reads."""
    if prompt and not any(run.described.panel == "text" for run in runs):
        raise ValueError(f"prompt = {prompt!r} has no effect: none of the runs reads text")


def explore(argv: Sequence[str] | None = None) -> None:
    """Write the page. Raises ValueError for bad input, before anything is written."""
    options = parse(argv)
    check(options)
    runs = read_runs(options.runs, Wanted(options.checkpoint, options.prompt, options.weights))
    check_prompt(options.prompt, runs)
    page = assemble(runs, options.most)
    write_text(options.out, page)
    for run in runs:
        change = f", logits change by up to {run.change:.1g}" if run.change else ""
        print(f"{run.name}: {run.described.kind}, weights in {run.packed.format}{change}")
    print(f"wrote {options.out}: {len(page.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main(lambda: explore(sys.argv[1:]))
