"""Equal runs are found equal, one bit is found, and a name that moved on purpose is followed."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks import compare_commits
from benchmarks.compare_commits import Case, Row, cases, chosen, parse, renaming, run, why
from benchmarks.measure.differences import Difference, compare, evaluations, losses, weights
from benchmarks.measure.record import ROOT
from core.cli.exits import RunFailure

LINES = [
    {"step": 1, "seconds": 0.5, "train/loss": 2.5, "train/lr": 0.1, "train/grad_norm": 1.25},
    {"step": 2, "seconds": 0.9, "train/loss": None, "train/lr": 0.1, "train/grad_norm": 1.5},
    {"step": 2, "seconds": 1.2, "val/loss": 2.25, "val/seconds": 0.1},
]


def folder(path: Path, tensors: Mapping[str, Tensor], lines: list[dict] = LINES) -> Path:
    """A run folder of two checkpoints, of which the last holds `tensors`."""
    for step, held in ((8, {"old": torch.zeros(1)}), (16, tensors)):
        (path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
        save_file(dict(held), path / "checkpoints" / f"step-{step:08d}" / "model.safetensors", {"tied": '{"b": "a"}'})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def tensor() -> Tensor:
    return torch.randn(3, 4)


# ---------------------------------------------------------------------------------------------- run folders


def test_a_run_is_read_by_its_names(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", {"a": tensor()})
    (run / "samples").mkdir()
    (run / "samples" / "step-2.txt").write_text("so")
    names = [f"{name} at step {step}" for step in (1, 2) for name in ("train/loss", "train/grad_norm")]
    assert list(losses(run)) == names
    assert losses(run)["train/loss at step 2"].isnan()
    assert list(evaluations(run)) == ["val/loss at step 2", "samples/step-2.txt"]
    assert list(weights(run)) == ["model: a", "model: b"]


def test_one_flipped_bit_of_a_weight_is_found(tmp_path: Path) -> None:
    weight = tensor()
    flipped = weight.clone()
    flipped.view(torch.int32)[1, 2] ^= 1
    a, b = folder(tmp_path / "a", {"a": weight}), folder(tmp_path / "b", {"a": flipped})
    assert compare(losses(a), losses(b)).equal
    found = compare(weights(a), weights(b))
    assert not found.equal
    assert found.largest == (weight - flipped).abs().max().item() > 0
    assert found.first == "model: a: 1 of 12 numbers differ"


def test_a_renamed_tensor_is_followed_where_told(tmp_path: Path) -> None:
    weight = tensor()
    a = folder(tmp_path / "a", {"a": weight, "blocks.0.q": weight + 1})
    b = folder(tmp_path / "b", {"a": weight, "layers.0.query": weight + 1})
    assert compare(weights(a), weights(b)).largest == math.inf
    assert compare(weights(a), weights(b)).first == "model: blocks.0.q: only in A"
    renamed = [renaming(r"^blocks\.(\d+)=layers.\1"), renaming(r"q$=query")]
    assert compare(weights(a, renamed), weights(b)).equal
    with pytest.raises(ValueError, match="two tensors the name 'a'"):
        weights(a, [renaming("^.*$=a")])


@pytest.mark.parametrize(
    ("a", "b", "largest", "equal"),
    [
        (math.nan, math.nan, 0.0, True),
        (math.inf, math.inf, 0.0, True),
        (math.nan, 1.0, math.inf, False),
        (math.inf, 1.0, math.inf, False),
        (0.0, -0.0, 0.0, False),
        (1.0, 1.5, 0.5, False),
    ],
)
def test_numbers_are_compared_by_their_bits(a: float, b: float, largest: float, equal: bool) -> None:
    found = compare({"x": torch.tensor(a)}, {"x": torch.tensor(b)})
    assert (found.largest, found.equal) == (largest, equal)


def test_types_and_shapes_differ_without_a_number_that_does() -> None:
    ones = torch.ones(2)
    assert compare({"x": ones}, {"x": ones.double()}) == Difference(0.0, 1, "x: float32 (2,) and float64 (2,)")
    assert compare({"x": ones}, {"x": ones[None]}).largest == math.inf


def test_nothing_to_compare_is_not_equal(tmp_path: Path) -> None:
    assert not compare(losses(tmp_path), losses(tmp_path)).equal
    assert not compare(weights(tmp_path), weights(tmp_path)).equal


# ---------------------------------------------------------------------------------------------- rows


def test_what_one_side_alone_cannot_do_is_a_difference() -> None:
    assert Row("x", 2, {}, why("refused: no", "refused: no")).verdict == "skipped"
    assert Row("x", 2, {}, why("", "refused: unknown option --x")).verdict == "no"
    assert why("", "refused: unknown option --x") == "B refused: unknown option --x"


def test_a_preset_of_one_side_says_so() -> None:
    a, b = ({"text": text, "vision": [], "decision": []} for text in (["both", "old"], ["both", "new"]))
    found = cases(a, b)
    assert isinstance(found["text/both"], Case)
    assert [found[name].reason for name in ("text/old", "text/new")] == [
        "only A has this preset",
        "only B has this preset",
    ]
    assert [case.name for case in chosen(found, ["text/[on]*"])] == ["text/old", "text/new"]
    with pytest.raises(ValueError, match="fits none of: text/both"):
        chosen(found, ["text/neither"])


@pytest.mark.parametrize("words", [["--steps", "0"], ["--renamed", "a"], ["--renamed", "(=b"], ["--renamed", r"a=\1"]])
def test_a_wrong_command_line_is_one_sentence(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^(steps|renamed) = "):
        parse([".", ".", *words])


# ---------------------------------------------------------------------------------------------- the real thing


@pytest.fixture
def checkout() -> None:
    """Skips outside of a git checkout, as in an unpacked archive."""
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("this is no git checkout")


def worktrees() -> str:
    return subprocess.run(["git", "-C", str(ROOT), "worktree", "list"], capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.usefixtures("checkout")
def test_a_commit_is_compared_with_the_working_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Case("text/+refused", "char-cpu", ("--no-such-flag 1", "--neither 2"))
    monkeypatch.setattr(compare_commits, "VARIANTS", (refused,))
    before = worktrees()
    words = ["HEAD", ".", "--presets", "text/char-cpu", "text/+refused", "--steps", "2"]
    run(parse([*words, "--json", str(tmp_path / "found.json")]))
    rows = {row["name"]: row for row in json.loads((tmp_path / "found.json").read_text())["rows"]}
    assert rows["text/char-cpu"]["reason"] == ""
    assert set(rows["text/char-cpu"]) >= {"losses", "evaluations", "tensors"}
    assert rows["text/+refused"]["equal"] == "skipped"
    assert "unknown option --no-such-flag" in capsys.readouterr().out
    assert worktrees() == before


def test_a_commit_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'no-such-commit'"):
        run(parse([".", "no-such-commit"]))


def test_equality_is_asserted(monkeypatch: pytest.MonkeyPatch) -> None:
    apart, same = Difference(1.0, 1, "x"), Difference(0.0, 0, "")
    for rows, sentence in (
        ([Row("a", 2, {"losses": same}), Row("b", 2, {"losses": apart})], "1 of 2 rows differ, 1 are equal"),
        ([Row("a", 2, {}, "skipped, no data")], "0 of 1 rows differ, 0 are equal"),
    ):
        monkeypatch.setattr(compare_commits, "measure", lambda options, rows=rows: rows)
        run(parse([".", "."]))
        with pytest.raises(RunFailure, match=sentence):
            run(parse([".", ".", "--assert-equal"]))
