"""The demo: every panel trained small on real data by its own public commands, and shown on one page.

A panel is one function here, listed in PANELS: it runs the panel's commands in a folder of its own, each in a
process of its own, and says how to show what came out. `make demo` writes runs/demo/report.html.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks.demo.chart import Chart
from benchmarks.demo.decision import decision
from benchmarks.demo.panels import ask, parameters, run
from benchmarks.demo.report import Panel, Text, curve, duration, size, write
from benchmarks.demo.vision import vision
from benchmarks.measure.harness import last_json
from benchmarks.measure.options import parser_of
from benchmarks.measure.record import provenance
from core.files.json_files import read_json
from core.training.metrics import read_metrics
from text.corpus.sources import Source, find_source

OUT = Path("runs/demo")


# ---------------------------------------------------------------------------------------------- text

MINUTES = "1.2"  # of training, where nothing else is said
SHOWN = 1500  # characters of the source on the page
WRITTEN = 900  # tokens generated


def text(folder: Path, budget: Sequence[str]) -> Panel:
    """A character GPT on tiny Shakespeare, or on Python's documentation where that cannot be loaded."""
    start = time.perf_counter()
    source, name, prompt = text_source()
    run("text.train", "char-cpu", "--data", source.name, "--out", str(folder), *(budget or ["--minutes", MINUTES]))
    figures = last_json(ask("text.evaluate", str(folder), "--json"))
    sample = ask("text.sample", str(folder), "--prompt", prompt, "--tokens", str(WRITTEN), "--seed", "1")
    written = sample.removeprefix(prompt).rstrip()
    records = read_metrics(folder)
    face: Literal["prose", "code"] = "code" if source.name == "pydoc" else "prose"
    corpus = b"".join(block for each in source.documents() for block in each.read()).decode()
    return Panel(
        name="text",
        title="Text: a character GPT",
        summary="A decoder-only Transformer reads one character after another and learns to say which one comes"
        " next. Words, verses and names are for it to find out.",
        figures=text_figures(figures, records),
        facts=text_facts(folder, figures, f"{name}: {len(corpus):,} characters, {len(set(corpus))} different"),
        chart=text_chart(records),
        specimens=[
            Text(f"What it learned from: {name}", corpus[:SHOWN].rpartition("\n")[0], face=face),
            Text("What it writes, going on from the prompt", written, prompt, "written", face),
        ],
        commands=[
            f'python -m text.sample {folder} --prompt "{prompt.strip()}"',
            f"python -m text.evaluate {folder}",
        ],
        seconds=time.perf_counter() - start,
    )


def text_source() -> tuple[Source, str, str]:
    """The text that can be loaded, what to call it, and a prompt that suits it."""
    try:
        return find_source("shakespeare"), "tiny Shakespeare", "ROMEO:\n"
    except (ValueError, OSError) as reason:
        print(f"demo: {reason}\ndemo: taking pydoc, Python's own documentation, in its place", flush=True)
        return find_source("pydoc"), "Python's own documentation (tiny Shakespeare could not be loaded)", "The "


def text_figures(figures: Mapping[str, float], records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [
        ("validation loss, nats per character", f"{figures['val/loss']:.3f}"),
        ("perplexity per character", f"{figures['val/perplexity']:.2f}"),
        ("bits per character", f"{figures['val/bits_per_char']:.3f}"),
        ("training time", duration(records[-1]["seconds"])),
    ]


def text_facts(folder: Path, figures: Mapping[str, float], data: str) -> list[tuple[str, str]]:
    config = read_json(folder / "config.json")["config"]
    model, core = config["model"], config["model"]["core"]
    shape = f"{core['depth']} blocks, {core['dim']} wide, {core['n_heads']} heads, context {model['context']}"
    last = read_metrics(folder)[-1]["step"]
    return [
        ("Data", data),
        ("Held out", f"the last {config['validation']:.0%}, evaluated whole"),
        ("Model", f"{shape}; {size(parameters(folder), 'parameters')}"),
        ("Choices", f"{core['position']['kind']} positions, {core['norm']}, {core['feedforward']}"),
        ("Training", f"{last:,} steps of {config['batch_size']} windows, {config['optimizer']['kind']}"),
        ("Shown", f"checkpoint of step {figures['step']:,}, the best on the held-out text"),
        ("Run folder", str(folder)),
    ]


def text_chart(records: Sequence[Mapping[str, Any]]) -> Chart:
    curves = (
        curve(records, "train/loss", "training batches", "faint"),
        curve(records, "val/loss", "validation, whole"),
    )
    return Chart("optimiser steps", "loss, nats per character (log scale)", curves, "log")


# ---------------------------------------------------------------------------------------------- the demo

PANELS: dict[str, Callable[[Path, Sequence[str]], Panel]] = {"text": text, "vision": vision, "decision": decision}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = parser_of("demo", __doc__)
    parser.add_argument("--minutes", type=float, help="training time of each panel (default: its preset's)")
    return parser.parse_args(argv)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every panel and write the page; returns the exit code."""
    options = parse(arguments)
    budget = [] if options.minutes is None else ["--minutes", str(options.minutes)]
    try:
        panels = [fresh(name, panel, budget) for name, panel in PANELS.items()]
        explorer = explored(OUT / "explorer.html")
    except subprocess.CalledProcessError as failure:
        command = " ".join(failure.cmd[1:])
        print(f"error: python {command} ended with exit code {failure.returncode}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `make demo` starts over", file=sys.stderr)
        return 130
    conclude(panels, write(panels, provenance(), OUT / "report.html"), explorer)
    return 0


def explored(file: Path) -> Path:
    """A page in which the three models run, see `benchmarks.explorer`."""
    runs = ("text", "vision", "decision/run")
    run("benchmarks.explorer", *(str(OUT / name) for name in runs), "--weights", "int6", "--out", str(file))
    return file


def fresh(name: str, panel: Callable[[Path, Sequence[str]], Panel], budget: Sequence[str]) -> Panel:
    """The panel, run into an empty folder: what an earlier demo left there goes first."""
    folder = OUT / name
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return panel(folder, budget)


def conclude(panels: Sequence[Panel], report: Path, explorer: Path) -> None:
    """Print what was reached, and where to look."""
    for panel in panels:
        print(f"\n{panel.title}")
        for what, value in panel.figures:
            print(f"  {value:>12}  {what}")
        print(f"  go on: {panel.commands[0]}")
    print(f"\nreport: {report}\nthe models, to look into: {explorer}")
