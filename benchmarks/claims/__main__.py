"""What lectures say about Transformers, each claim an experiment with a verdict.

python -m benchmarks.claims                                   lists them
python -m benchmarks.claims NAME [--minutes M] [--seeds N]    runs one
python -m benchmarks.claims --all                             runs all that have no result of this budget yet
python -m benchmarks.claims scaling --predict                 writes what it predicts to a file, and tests nothing

Minutes are of processor time, of all trainings of a claim together. With --quick everything is tried in seconds, and
nothing is concluded. A run that is interrupted goes on with what it had measured. Each claim leaves a JSON file and a
picture in benchmarks/results/claims, and docs/claims.md is written anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.claims.common import Claim, Finding, Lab, warm_up
from benchmarks.claims.page import write_page
from benchmarks.claims.picture import save_panels
from benchmarks.claims.verdict import judge
from benchmarks.measure.options import parser_of
from benchmarks.measure.record import RESULTS, ROOT, committed, provenance, save, table
from core.checks import check_positive
from core.cli.exits import Interrupted, main
from core.files.downloads import data_root
from core.files.json_files import read_json
from core.messages import nearest

FOLDER, PAGE, TRIED = RESULTS / "claims", ROOT / "docs" / "claims.md", Path("runs") / "claims"
QUICK = 0.03  # core-minutes
ARCHITECTURE = ("order", "heads", "quadratic", "residual", "phases", "parallel", "bottleneck", "memory")
LEARNING = (
    "in-context",
    "scratch-pad",
    "length",
    "scaling",
    "repetition",
    "transfer",
    "few-shot",
    "shortest-walks",
    "alignment",
    "one-architecture",
    "proteins",
)
CLAIMS = {
    name: f"benchmarks.claims.{folder}.{name.replace('-', '_')}"
    for folder, names in (("architecture", ARCHITECTURE), ("learning", LEARNING))
    for name in names
}
"""The module of every claim, in the order in which they are shown."""


def load(name: str) -> Claim:
    """A claim by its name. Raises ValueError for an unknown one, naming the nearest."""
    if name not in CLAIMS:
        raise ValueError(f"unknown claim {name!r}; {nearest(name, CLAIMS)}")
    claim: Claim = import_module(CLAIMS[name]).CLAIM
    return claim


def check_data(name: str, claim: Claim) -> None:
    """Raises ValueError naming the first file that is missing, and where it belongs."""
    for path in claim.needs:
        if not (data_root() / path).exists():
            raise ValueError(f"claim {name!r} needs {path}, which belongs in {data_root()}")


def run_claim(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure, judge and keep a claim; what is kept. Raises Interrupted, saying how to go on."""
    claim = load(name)
    lab = opened(name, claim, options)
    with going_on(name, lab):
        found = claim.measure(lab)
    record = described(name, claim, lab, found)
    save_panels(found.panels, options.results / f"{name}.png")
    save(name, record, options.results)
    lab.forget()
    print(f"\n{table(found.header, found.rows)}\n\n{record['verdict']}: {record['because']}\n", flush=True)
    return record


def run_prediction(name: str, options: argparse.Namespace) -> None:
    """Write down what a claim predicts. Raises ValueError for a claim that does not, and where it is too late."""
    claim = load(name)
    if claim.predict is None:
        raise ValueError(f"--predict has no effect on {name!r}, which predicts nothing; scaling does")
    if is_done(name, options):
        raise ValueError(f"{name} has a result of this budget: it is too late to predict; predict with another budget")
    lab = opened(name, claim, options)
    with going_on(name, lab):
        said = claim.predict(lab)
    record = {"claim": name, "settings": lab.settings, "provenance": provenance(), "predictions": said}
    print(f"saved to {save(name, record, predictions(name, options).parent)}: commit it, then run the claim")


def opened(name: str, claim: Claim, options: argparse.Namespace) -> Lab:
    """The budget of a run, with what was measured and predicted at that budget. Raises ValueError for missing data."""
    check_data(name, claim)
    settings, path = budget(claim, options), predictions(name, options)
    lab = Lab(**settings, kept=options.results / f"{name}.part.json", quick=options.quick)
    if path.exists() and (before := read_json(path))["settings"] == settings:
        lab.predicted = before["predictions"]
        kept = committed(path)
        lab.foretold = f"They were written to {path.parent.name}/{path.name} on {before['provenance']['date']}, " + (
            f"commit {kept}, before the run that tests them." if kept else "but not committed before this run."
        )
    print(f"{name}: {claim.hypothesis}", flush=True)
    warm_up()
    return lab


def predictions(name: str, options: argparse.Namespace) -> Path:
    """The file of what a claim predicts."""
    path: Path = options.results / "predictions" / f"{name}.json"
    return path


@contextmanager
def going_on(name: str, lab: Lab) -> Iterator[None]:
    """Inside, an interruption is raised as Interrupted, saying how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted(f"{len(lab.found)} measurements of {name} are kept; the same command goes on") from stop


def described(name: str, claim: Claim, lab: Lab, found: Finding) -> dict[str, Any]:
    """All that is known of a claim, the verdict included, JSON-ready."""
    verdict = judge(found.conditions, lab.minutes, claim.least, found.missing)
    said = {"claim": name, "sentence": claim.sentence, "hypothesis": claim.hypothesis, "equal": claim.equal}
    tested = [condition.as_dict() for condition in found.conditions]
    judged = {"verdict": verdict.word, "because": verdict.because, "conditions": tested, "missing": found.missing}
    about = {"settings": lab.settings, "core_seconds": lab.core_seconds, "provenance": provenance()}
    shown = {"header": found.header, "rows": found.rows, "notes": found.notes}
    return {**said, **judged, **about, **shown, "panels": [asdict(panel) for panel in found.panels]}


def budget(claim: Claim, options: argparse.Namespace) -> dict[str, Any]:
    """Minutes and seeds of a run."""
    minutes, seeds = (QUICK, 1) if options.quick else (claim.minutes, claim.seeds)
    return {"minutes": options.minutes or minutes, "seeds": options.seeds or seeds}


def is_done(name: str, options: argparse.Namespace) -> bool:
    """Whether there is a result of this budget, to which nothing is missing."""
    path = options.results / f"{name}.json"
    if not path.exists():
        return False
    kept = read_json(path)
    return bool(kept["settings"] == budget(load(name), options) and not kept.get("missing"))


def listed() -> str:
    """Every claim, what it says, and its budget."""
    claims = {name: load(name) for name in CLAIMS}
    rows = [[name, claim.sentence, f"{claim.minutes:g} min", str(claim.seeds)] for name, claim in claims.items()]
    total = sum(claim.minutes for claim in claims.values())
    return f"{table(['claim', '', 'budget', 'seeds'], rows)}\n\nall together: {total:g} core-minutes"


def run_all(options: argparse.Namespace) -> None:
    """All claims that are not done yet; those whose data is missing are named, at the end as well."""
    spent, missing = 0.0, []
    for name in CLAIMS:
        if is_done(name, options):
            print(f"{name}: done already")
            continue
        try:
            check_data(name, load(name))
        except ValueError as error:
            missing.append(str(error))
            continue
        spent += run_claim(name, options)["core_seconds"]
    print(f"{spent / 60:.1f} core-minutes in all", *missing, sep="\n")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options. Raises ValueError for an unknown claim or a budget that is none."""
    parser = parser_of("claims", __doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a claim; without one they are listed")
    parser.add_argument("--all", action="store_true", help="every claim that has no result of this budget yet")
    parser.add_argument("--predict", action="store_true", help="write what NAME predicts to a file, and test nothing")
    parser.add_argument("--minutes", type=float, help="of processor time, of all trainings of a claim together")
    parser.add_argument("--seeds", type=int, help="a verdict needs 3")
    parser.add_argument("--quick", action="store_true", help="seconds of training; concludes nothing")
    parser.add_argument("--results", type=Path, help=f"folder; default benchmarks/results/claims, or {TRIED} if quick")
    options = parser.parse_args(argv)
    check_positive(options, "minutes", "seeds")
    if options.name is not None and options.all:
        raise ValueError(f"name = {options.name!r} and --all: exactly one must be given")
    if options.predict and options.name is None:
        raise ValueError("--predict needs the NAME of a claim")
    if options.name is not None:
        load(options.name)
    options.results = options.results or (TRIED if options.quick else FOLDER)
    return options


def run(options: argparse.Namespace) -> None:
    """What is asked for; the page is written after every claim."""
    if options.name is None and not options.all:
        print(listed())
        return
    if options.predict:
        run_prediction(options.name, options)
        return
    try:
        run_all(options) if options.all else run_claim(options.name, options)
    finally:
        page = PAGE if options.results == FOLDER else options.results / "claims.md"
        write_page(options.results, page, {name: load(name) for name in CLAIMS})


if __name__ == "__main__":
    main(lambda: run(parse()))
