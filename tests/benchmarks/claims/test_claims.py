"""What surrounds a claim: verdicts by a test, results that are kept, runs that go on, and what is refused."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from benchmarks.claims import __main__ as command
from benchmarks.claims.common import Claim, Lab, fit, generator, seeded
from benchmarks.claims.verdict import Condition, judge
from benchmarks.measure.record import ROOT, committed
from core.cli.exits import Interrupted
from core.files.downloads import data_root
from core.files.json_files import read_json
from core.optim.config import OptimizerConfig
from tests.benchmarks.claims import toy_claim

# ---------------------------------------------------------------------------------------------- verdicts


def condition(*values: float, side: str = "at least", bar: float = 1.0, noise: float = 1e-3) -> Condition:
    return Condition("it", values, side, bar, noise)  # type: ignore[arg-type]


def test_the_statistic_is_students():
    values = (1.2, 1.4, 0.9, 1.6)
    for side, alternative in (("at least", "greater"), ("at most", "less")):
        ours, theirs = condition(*values, side=side), stats.ttest_1samp(values, 1.0, alternative=alternative)
        assert ours.p == pytest.approx(theirs.pvalue)
        assert abs(ours.t) == pytest.approx(abs(theirs.statistic))


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ([condition(1.2, 1.25, 1.22)], "held"),
        ([condition(0.8, 0.75, 0.82)], "did not hold"),
        ([condition(0.8, 1.4, 1.1)], "not shown"),
        ([condition(1.2, 1.25, 1.22), condition(0.8, 0.75, 0.82)], "did not hold"),
        ([condition(1.2, 1.25, 1.22), condition(0.8, 1.4, 1.1)], "not shown"),
        ([condition(1.2, 1.25)], "not shown"),
        ([condition(1.001, 1.001, 1.001, noise=0.1)], "not shown"),
        ([condition(0.1, 0.12, 0.1, side="at most")], "held"),
    ],
)
def test_a_verdict_needs_every_condition_and_seeds_that_agree(given, word):
    assert judge(given, minutes=5, least=5).word == word


def test_too_small_a_budget_gives_no_verdict_whatever_was_measured():
    verdict = judge([condition(9.0, 9.0, 9.0)], minutes=1, least=5)
    assert (verdict.word, "1 core-minutes are too few" in verdict.because) == ("not shown", True)


@pytest.mark.parametrize("values", [(), (1.0, math.nan)])
def test_what_is_no_number_has_no_verdict(values):
    with pytest.raises(ValueError, match="must be numbers"):
        condition(*values)


def test_chance_alone_rarely_makes_a_claim_hold():
    generators = (generator(seed, "chance") for seed in range(400))
    values = [tuple((1 + torch.randn(3, generator=g, dtype=torch.float64)).tolist()) for g in generators]
    held = sum(judge([condition(*three, noise=1e-9)], 1, 1).word == "held" for three in values)
    assert held / 400 < 0.1  # 0.05 expected, with a deviation of 0.011


# ---------------------------------------------------------------------------------------------- the command


def add(monkeypatch: pytest.MonkeyPatch, name: str, claim: Claim) -> None:
    module = f"{__name__}.{name}"
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(CLAIM=claim))
    monkeypatch.setitem(command.CLAIMS, name, module)


@pytest.fixture
def toys(monkeypatch, tmp_path) -> Path:
    """Two claims: one that is a toy, and one whose data is missing."""
    monkeypatch.setattr(command, "CLAIMS", {"toy": toy_claim.__name__})
    add(monkeypatch, "missing", toy_claim.MISSING)
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "data"))
    toy_claim.measured.clear()
    toy_claim.interrupted.clear()
    return tmp_path / "results"


def run(results: Path, *words: str) -> None:
    command.run(command.parse([*words, "--results", str(results)]))


def test_a_claim_leaves_its_figures_their_origin_a_picture_and_the_page(toys, capsys):
    run(toys, "toy")
    kept = json.loads((toys / "toy.json").read_text())
    assert kept["verdict"] == "held"
    assert kept["settings"] == {"minutes": 2, "seeds": 3}
    assert {"commit", "machine", "versions", "date"} <= kept["provenance"].keys()
    [tested] = kept["conditions"]
    assert (tested["values"], tested["p"] < 0.05) == ([1.0, 1.01, 1.02], True)
    assert (toys / "toy.png").read_bytes().startswith(b"\x89PNG")
    page = (toys / "claims.md").read_text()
    for part in ("Seeds are numbers.", "Their mean is at least 0.5.", "**Held**", "toy.png", "| numbers", "1.010"):
        assert part in page
    assert "held: every p is below 0.05" in capsys.readouterr().out
    assert [path.name for path in toys.glob("*.part.json")] == []


def test_an_interrupted_run_goes_on_where_it_stopped(toys):
    toy_claim.interrupted.append(1)
    with pytest.raises(Interrupted, match="1 measurements of toy are kept; the same command goes on"):
        run(toys, "toy")
    assert not (toys / "toy.json").exists()
    run(toys, "toy")
    assert toy_claim.measured == [0, 1, 2]
    run(toys, "toy", "--seeds", "4")
    assert toy_claim.measured == [0, 1, 2, 0, 1, 2, 3], "another budget is measured anew"


def test_all_does_what_is_not_done_and_names_what_is_missing(toys, capsys):
    run(toys, "--all")
    run(toys, "--all")
    assert toy_claim.measured == [0, 1, 2]
    said = capsys.readouterr().out
    assert "toy: done already" in said
    assert "claim 'missing' needs no/such.file, which belongs in" in said
    assert "0.0 core-minutes in all" in said
    run(toys, "--all", "--minutes", "3")
    assert toy_claim.measured == [0, 1, 2] * 2


def test_quick_concludes_nothing_and_leaves_real_results_alone(toys):
    run(toys, "toy", "--quick")
    assert read_json(toys / "toy.json")["verdict"] == "not shown"
    assert command.parse(["toy", "--quick"]).results != command.FOLDER


def test_what_is_predicted_is_written_down_first_and_the_page_says_so(toys, monkeypatch):
    add(monkeypatch, "told", toy_claim.PREDICTED)
    run(toys, "told", "--predict")
    kept = read_json(toys / "predictions" / "told.json")
    assert (kept["predictions"], kept["settings"]) == ({"number": 1.01}, {"minutes": 2, "seeds": 3})
    assert (toy_claim.measured, (toys / "told.json").exists()) == ([], False)
    run(toys, "told")
    [note] = read_json(toys / "told.json")["notes"]
    assert note.startswith(
        f"1.01 predicted. They were written to predictions/told.json on {kept['provenance']['date']}"
    )
    assert "not committed before this run" in note
    with pytest.raises(ValueError, match="told has a result of this budget: it is too late to predict"):
        run(toys, "told", "--predict")
    run(toys, "told", "--seeds", "4")
    assert read_json(toys / "told.json")["notes"][0].startswith("0.0 predicted. They were not written to a file before")


def test_a_claim_that_lacks_the_run_of_another_command_names_it_and_is_not_done(toys, monkeypatch, capsys):
    add(monkeypatch, "lacking", toy_claim.LACKING)
    run(toys, "lacking")
    run(toys, "--all")
    assert "lacking: done already" not in capsys.readouterr().out
    kept = read_json(toys / "lacking.json")
    assert (kept["verdict"], kept["because"]) == ("not shown", "nothing to judge yet; run python -m something.else")
    assert kept["because"] in (toys / "claims.md").read_text()


def test_a_file_is_committed_as_its_last_commit_left_it(tmp_path):
    def git(*words: str) -> None:
        author = ("-c", "user.name=A", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *author, *words], check=True, capture_output=True)

    file = tmp_path / "one.json"
    git("init")
    assert committed(file) is None
    file.write_text("1")
    assert committed(file) is None
    git("add", "one.json"), git("commit", "-m", "one")
    assert re.fullmatch(r"[0-9a-f]{7,} of \d{4}-\d\d-\d\dT.*", str(committed(file)))
    file.write_text("2")
    assert committed(file) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["toy", "--predict"], "--predict has no effect on 'toy'"),
        (["--predict"], "--predict needs the NAME of a claim"),
        (["tiy"], "unknown claim 'tiy'; did you mean 'toy'?"),
        (["toy", "--minutes", "0"], "minutes = 0.0 must be above 0"),
        (["toy", "--seeds", "-1"], "seeds = -1 must be above 0"),
        (["toy", "--all"], "exactly one must be given"),
        (["missing"], "claim 'missing' needs no/such.file, which belongs in"),
    ],
)
def test_bad_input_is_named(toys, words, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        run(toys, *words)
    assert not (toys / "toy.json").exists()


# ---------------------------------------------------------------------------------------------- the claims


def test_every_claim_says_what_would_refute_it_and_all_fit_an_evening(capsys):
    claims = {name: command.load(name) for name in command.CLAIMS}
    for claim in claims.values():
        assert isinstance(claim, Claim)
        assert claim.sentence.endswith(".")
        assert claim.hypothesis.endswith(".")
        assert 0 < claim.least <= claim.minutes
        assert claim.seeds >= 3
    assert sum(claim.minutes for claim in claims.values()) <= 2 * 5 * 60  # 2 cores, 5 hours
    command.run(command.parse([]))
    listed = capsys.readouterr().out
    assert all(name in listed for name in claims)


SHORT = ("bottleneck", "few-shot")  # a few core-seconds each, without data


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in command.CLAIMS]
)
def test_every_claim_can_be_tried(name, tmp_path):
    if any(not (data_root() / path).exists() for path in command.load(name).needs):
        pytest.skip("its data is not here")
    run(tmp_path, name, "--quick")
    kept = read_json(tmp_path / f"{name}.json")
    assert kept["verdict"] == "not shown"
    assert len(kept["header"]) == len(kept["rows"][0])
    assert all(one["what"] for one in kept["conditions"])


def test_what_is_committed_is_of_claims_that_exist_and_is_shown():
    names = {path.stem for path in command.FOLDER.glob("*.json")}
    assert names <= set(command.CLAIMS)
    page = (ROOT / "docs" / "claims.md").read_text("utf-8")
    for name in names:
        kept = read_json(command.FOLDER / f"{name}.json")
        assert f"## {name}\n" in page
        assert kept["because"] in page
        assert kept["verdict"] in ("held", "did not hold", "not shown")


def test_a_training_takes_its_budget_and_the_same_seed_learns_the_same():
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(16, 3, generator=g)
        return x, x.sum(-1, keepdim=True)

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return (model(x) - y).square().sum()

    models = [seeded(1, lambda: nn.Linear(3, 1)) for _ in range(2)]
    quick = OptimizerConfig(lr=0.1)
    taken = [fit(model, loss, draw, seconds=0, seed=1, steps=100, optimizer=quick) for model in models]
    assert taken == [100, 100]
    assert torch.equal(models[0].weight, models[1].weight)
    assert (models[0].weight - 1).abs().max() < 0.2
    assert not models[0].training


def test_measurements_are_shared_by_nothing_but_the_same_budget(tmp_path):
    kept = tmp_path / "one.part.json"
    assert Lab(1, 3, kept).cell("a", lambda: 1) == 1
    assert Lab(1, 3, kept).cell("a", lambda: 2) == 1
    assert Lab(2, 3, kept).cell("a", lambda: 3) == 3
