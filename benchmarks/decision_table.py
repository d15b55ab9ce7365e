"""A Decision Transformer, behaviour cloning, and behaviour cloning of the best tenth, on data recorded here.

python -m benchmarks.decision_table --data local/hopper-medium-replay=FILE ... [--seeds 0,1,2] [--steps N]

For every data set, method and seed: decision.train, then decision.evaluate of its last and of its best checkpoint, in
episodes that are not those by which the best was chosen. A Decision Transformer has a row for every return that it is
asked for, those of the data by default, so that none is picked afterwards. Columns are the mean of the seeds' mean
returns ± their standard deviation, and the same normalised where the environment has references; beside them stand the
returns in the data.

Data recorded here is not D4RL's, which comes from another simulator: names begin with local/, and no row is to be set
beside a published one. A cell that is finished is kept in benchmarks/results/decision_table.json and not run again,
and a training that was interrupted goes on. To try it in small: --tiny.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from benchmarks.measure.harness import last_json
from benchmarks.measure.options import add_results, check_known, integers, parser_of
from benchmarks.measure.record import ROOT, number, provenance, table, update
from benchmarks.peers.nanogpt import run_timed
from core.cli.exits import main
from core.files.json_files import read_json
from core.files.serialize import to_dict
from decision.data.sources import load_data
from decision.data.store import Trajectories
from decision.data.summary import normalised, reference_scores
from decision.presets import PRESETS

NAME = "decision_table"
LOCAL = "local/"
CLONING = ("--model.returns", "none")
METHODS = {"DT": (), "BC": CLONING, "10 % BC": (*CLONING, "--top-percent", "10")}
CHECKPOINTS = ("last", "best")
TINY = "--model.core.dim 16 --model.core.depth 1 --model.context 4 --batch-size 8 --eval-episodes 2"


# ---------------------------------------------------------------------------------------------- a cell


def cell(method: str, seed: int, file: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Trains and evaluates: core-seconds, and `decision.evaluate`'s figures of each checkpoint.

    A training that goes on after an interruption has no core-seconds: those of its earlier lives are not known.
    """
    budget = [] if options.steps is None else ["--steps", str(options.steps)]
    extra = [*METHODS[method], *budget, *shlex.split(TINY if options.tiny else options.train_options)]
    command = [options.preset, "--data", str(file), "--out", str(folder), "--seed", str(seed), *extra]
    resumed = (folder / "config.json").exists()
    command += ["--device", "cpu", *["--resume"] * resumed]
    spent, _ = run_timed([sys.executable, "-m", "decision.train", *command], ROOT)
    return {"train_core_seconds": None if resumed else spent["train_core_seconds"]} | {
        which: evaluated(folder, which, options) for which in CHECKPOINTS
    }


def evaluated(folder: Path, which: str, options: argparse.Namespace) -> dict[str, Any]:
    """What a checkpoint reaches: its step, and an outcome for each return that is asked for."""
    words = [str(folder), "--checkpoint", which, "--episodes", str(options.episodes), "--json", "--device", "cpu"]
    _, printed = run_timed([sys.executable, "-m", "decision.evaluate", *words], ROOT)
    found = last_json(printed)
    parts = [key.removesuffix("/length_mean") for key in found if key.endswith("/length_mean")]
    targets = [row(found, f"{part}/") for part in parts]
    return {"step": found["step"], "targets": targets, "rank_correlation": found["rank_correlation"]}


def row(found: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The figures of one target."""
    named = {"target": found.get(f"{part}target"), "name": found.get(f"{part}name", "")}
    spreads = {
        name: {statistic: found[f"{part}{name}_{statistic}"] for statistic in ("mean", "std", "min", "max")}
        for name in ("return", "score")
        if f"{part}{name}_mean" in found
    }
    return named | spreads | {"length": found[f"{part}length_mean"], "above": found[f"{part}data_below"]}


# ---------------------------------------------------------------------------------------------- a data set


def describe_data(data: Trajectories) -> dict[str, Any]:
    """What is in a data set, and where it comes from."""
    returns, reference = data.returns(), reference_scores(data.environment) or data.reference
    statistics = {"mean": returns.mean(), "95 %": np.percentile(returns, 95), "max": returns.max()}
    scores = {name: normalised(value, reference) for name, value in statistics.items()} if reference else {}
    return {
        "environment": data.environment,
        "episodes": len(data),
        "steps": data.steps,
        "returns": {name: float(value) for name, value in statistics.items()},
        "scores": {name: float(value) for name, value in scores.items()},
        "reference": reference and list(reference),
        "origin": dict(data.provenance),
        "fingerprint": data.fingerprint(),
    }


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What cells of one table have in common."""
    own = {name: getattr(options, name) for name in ("preset", "steps", "episodes", "tiny", "train_options")}
    recipe = json.dumps(to_dict(replace(PRESETS[options.preset], data="", out=Path())), sort_keys=True)
    return {**own, "recipe_sha256": sha256(recipe.encode()).hexdigest()[:16]}


def measure(name: str, file: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The record of a data set after each of its cells; those that are there already are not run again.

    Raises ValueError where the file of results has cells of other settings or data.
    """
    data, path = describe_data(load_data(file)), options.results / f"{NAME}.json"
    before = read_json(path).get(name) if path.exists() else None
    record = before or {"data": data, "settings": settings(options), "cells": {}}
    for part, now in (("data", data["fingerprint"]), ("settings", settings(options))):
        was = record[part]["fingerprint"] if part == "data" else record[part]
        if was != now:
            raise ValueError(f"{path} has cells of {name} with other {part}: name another folder with --results")
    yield record
    for seed in options.seeds:
        for method in METHODS:
            key = f"{method}, seed {seed}"
            if key in record["cells"]:
                continue
            print(f"{name}: {key}", file=sys.stderr, flush=True)
            run = f"seed-{seed}" + ("" if options.steps is None else f"-steps-{options.steps}")
            folder = options.runs / name / method.replace(" % ", "-percent-").lower() / run
            found = cell(method, seed, file, folder, options)
            record["cells"][key] = found | {"provenance": provenance()}
            yield record


# ---------------------------------------------------------------------------------------------- the table


def rows(record: Mapping[str, Any]) -> list[list[str]]:
    """Method and what it was asked for, seeds, and mean ± deviation over them, last and best, returns and scores."""
    found = []
    for method in METHODS:
        cells = [value for key, value in record["cells"].items() if key.rpartition(",")[0] == method]
        for place, asked in enumerate(cells[0]["last"]["targets"] if cells else []):
            words = "" if asked["target"] is None else f", asked for {number(asked['target'])} ({asked['name']})"
            columns = [
                spread([one[which]["targets"][place].get(figure) for one in cells])
                for figure in ("return", "score")
                for which in CHECKPOINTS
            ]
            found.append([method + words.replace(" ()", ""), str(len(cells)), *columns])
    return found


def spread(means: Sequence[Mapping[str, float] | None]) -> str:
    """Mean ± standard deviation, of a sample, over the seeds of what each has on average; "-" for nothing."""
    values = [each["mean"] for each in means if each is not None]
    deviation = f" ± {stdev(values):,.1f}" if len(values) > 1 else ""
    return f"{mean(values):,.1f}{deviation}" if values else "-"


def shown(name: str, record: Mapping[str, Any]) -> str:
    """The table of a data set, below it the returns in the data."""
    header = ["", "seeds", "return, last", "return, best", "score, last", "score, best"]
    data = record["data"]
    known = [f"{what} {value:,.1f}" for what, value in data["returns"].items()]
    scores = [f"{value:.1f}" for value in data["scores"].values()]
    scored = f"; scores {', '.join(scores)}" * bool(scores)
    inside = f"{data['episodes']:,} episodes, {data['steps']:,} steps; returns: {', '.join(known)}{scored}"
    return f"\n## {name}, {data['environment']}\n\n{table(header, rows(record))}\n\nthe data: {inside}"


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a data set that is not named local/..., or a preset that is none."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--data", nargs="+", required=True, help=f"{LOCAL}NAME=FILE of each data set")
    parser.add_argument("--seeds", type=integers, default=[0, 1, 2], help="of the trainings")
    parser.add_argument("--steps", type=int, help="of each training; default its preset's")
    parser.add_argument("--preset", default="hopper-medium", help="settings of all methods; its own data is not read")
    parser.add_argument("--episodes", type=int, default=100, help="of each evaluation, for each target")
    parser.add_argument("--train-options", default="", help="more options of decision.train, in one string")
    add_results(parser)
    parser.add_argument("--runs", type=Path, default=Path("runs") / NAME, help="folder of the run folders")
    parser.add_argument("--tiny", action="store_true", help="a model of 16 channels, to try")
    options = parser.parse_args(argv)
    check_known(options, preset=PRESETS)
    options.data = [named(word) for word in options.data]
    options.runs = options.runs.absolute()
    return options


def named(word: str) -> tuple[str, Path]:
    """A data set's name and its file. Raises ValueError for a name that does not say where it comes from."""
    name, _, file = word.partition("=")
    if not name.removeprefix(LOCAL) or not name.startswith(LOCAL) or not file:
        raise ValueError(f"data = {word!r} must be {LOCAL}NAME=FILE: what is recorded here is not D4RL's")
    return name, Path(file).expanduser().absolute()


def run(options: argparse.Namespace) -> None:
    """Every cell, saved as soon as it is finished; a table for each data set."""
    for name, file in options.data:
        for record in measure(name, file, options):
            update(NAME, {name: record}, options.results)
        print(shown(name, record), flush=True)
    print(f"\nsaved to {options.results / NAME}.json")


if __name__ == "__main__":
    main(lambda: run(parse()))
