"""LSTM, LSTM with attention, the Transformer of 2017 and a modern one, at equal core-seconds on Multi30k.

python -m benchmarks.translation_ladder [--minutes 6] [--seeds 0,1,2] [--presets multi30k-lstm,multi30k,...]

For every preset and seed: text.train for so many minutes of processor time (`--clock cpu`), then text.evaluate of the
last weights on test_2016, greedily and with beams. A cell that is finished is kept in
benchmarks/results/translation_ladder.json and not run again. The table has the mean over the seeds and the standard
deviation; below it stands BLEU by the length of the source.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.measure.harness import last_json
from benchmarks.measure.options import add_results, check_known, integers, names, parser_of
from benchmarks.measure.record import ROOT, provenance, table, update
from benchmarks.peers.nanogpt import run_timed
from core.cli.exits import main
from core.files.json_files import read_json
from text.presets import PRESETS

NAME = "translation_ladder"
LADDER = ["multi30k-lstm", "multi30k-bahdanau", "multi30k-luong", "multi30k", "multi30k-modern"]
TEST = "test_2016_flickr/"
BEAMS = 5


def cell(preset: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains and evaluates: core-seconds, and the figures of `text.evaluate`, greedily and with beams."""
    folder = options.runs / preset / f"minutes-{options.minutes:g}" / f"seed-{seed}"
    budget = ["--minutes", str(options.minutes), "--clock", "cpu", "--seed", str(seed), "--device", "cpu"]
    words = [preset, *budget, "--out", str(folder), *shlex.split(options.train_options)]
    if (folder / "config.json").exists():
        words += ["--resume"]
    run_timed([sys.executable, "-m", "text.train", *words], ROOT)
    return {"greedy": evaluated(folder, 1), "beams": evaluated(folder, BEAMS), "provenance": provenance()}


def evaluated(folder: Path, beams: int) -> dict[str, float]:
    """BLEU of the test sentences in both conventions, and by length, without the part's name."""
    words = [str(folder), "--checkpoint", "last", "--beams", str(beams), "--json", "--device", "cpu"]
    _, printed = run_timed([sys.executable, "-m", "text.evaluate", *words], ROOT)
    found = last_json(printed)
    return {"step": found["step"]} | {
        key.removeprefix(TEST): value for key, value in found.items() if key.startswith(TEST)
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every cell, saved as soon as it is finished. Raises ValueError where the file has cells of another budget."""
    path = options.results / f"{NAME}.json"
    settings = {"minutes": options.minutes, "train_options": options.train_options}
    record: dict[str, Any] = read_json(path) if path.exists() else {"settings": settings, "cells": {}}
    if record["settings"] != settings:
        raise ValueError(f"{path} has cells of other settings: name another folder with --results")
    for seed in options.seeds:
        for preset in options.presets:
            key = f"{preset}, seed {seed}"
            if key not in record["cells"]:
                print(key, file=sys.stderr, flush=True)
                record["cells"][key] = cell(preset, seed, options)
                update(NAME, record, options.results)
    return record


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation, of a sample, over the seeds."""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def steps(cells: Sequence[Mapping[str, Any]]) -> str:
    """How many steps fitted into the time of each seed: other programs on the machine slow down core-seconds too."""
    return ", ".join(f"{one['beams']['step']:,}" for one in cells)


def cells_of(record: Mapping[str, Any], preset: str) -> list[Mapping[str, Any]]:
    """The seeds of a preset."""
    return [value for key, value in record["cells"].items() if key.rpartition(",")[0] == preset]


def shown(record: Mapping[str, Any], presets: Sequence[str]) -> str:
    """Presets from the oldest to the newest, and how their BLEU changes with the length of the source."""
    figures = {"lower-cased, beams": ("beams", "bleu_lower_cased"), "cased 13a, beams": ("beams", "bleu_cased")}
    figures |= {"lower-cased, greedy": ("greedy", "bleu_lower_cased")}
    found = {preset: cells for preset in presets if (cells := cells_of(record, preset))}
    rows = [
        [preset, steps(cells), *(spread([one[how][name] for one in cells]) for how, name in figures.values())]
        for preset, cells in found.items()
    ]
    lengths = [key for key in next(iter(found.values()))[0]["beams"] if key.startswith("bleu_cased_")]
    by_length = [
        [preset, *(spread([one["beams"][key] for one in cells if key in one["beams"]]) for key in lengths)]
        for preset, cells in found.items()
    ]
    headers = [key.removeprefix("bleu_cased_") for key in lengths]
    return f"{table(['', 'steps of each seed', *figures], rows)}\n\n{table(['cased, by length', *headers], by_length)}"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a preset that is none."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--minutes", type=float, default=6.0, help="of processor time of each training")
    parser.add_argument("--seeds", type=integers, default=[0, 1, 2], help="of the trainings")
    parser.add_argument("--presets", type=names, default=LADDER, help="rows of the table")
    parser.add_argument("--train-options", default="", help="more options of text.train, in one string")
    parser.add_argument("--runs", type=Path, default=Path("runs") / NAME, help="folder of the run folders")
    add_results(parser)
    options = parser.parse_args(argv)
    check_known(options, presets=PRESETS)
    options.runs = options.runs.absolute()
    return options


def run(options: argparse.Namespace) -> None:
    """Measures what is missing, and prints the tables."""
    print(shown(measure(options), options.presets))


if __name__ == "__main__":
    main(lambda: run(parse()))
