"""Checkpoints: whole or absent, verified, pruned, and never pickled."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch

from core.cli.exits import NotSaved
from core.files.serialize import to_dict
from core.files.tensors import read_tensors
from core.training.checkpoints import Checkpoints, load_weights, read_config, verify, write_config
from core.training.config import RunConfig
from tests.core.training.toy import Toy, ToyConfig

WEIGHTS = {"a": torch.arange(12.0).view(3, 4), "b": torch.ones(5, dtype=torch.bfloat16)}


@dataclass(frozen=True)
class Sourced:
    """A configuration with words that may be paths."""

    data: str
    weights: str
    pattern: str
    name: str
    missing: str
    empty: str
    here: str
    several: str | tuple[str, ...]
    kind: Literal["corpus/sub", "other"] = "corpus/sub"


def filled(run: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(run)
    for step in steps:
        weights = {name: tensor + step for name, tensor in WEIGHTS.items()}
        checkpoints.write(step, {"model": weights}, {"state": {"step": step}})
    return checkpoints


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "one bit":
        content[len(content) // 2] ^= 1
    if how == "cut":
        del content[-3:]
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(content)


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    model = Toy(ToyConfig(steps=1))
    path = Checkpoints(tmp_path).write(7, {"model": model.state_dict()}, {"state": {"x": 0.1}})
    verify(path)
    read = read_tensors(path / "model.safetensors")
    expected = model.state_dict()
    assert list(read.keys() ^ expected.keys()) == []  # tied names included
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())
    assert json.loads((path / "state.json").read_text()) == {"x": 0.1}
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("how", ["one bit", "cut", "removed"])
def test_any_damage_is_refused_naming_the_file(tmp_path: Path, name: str, how: str) -> None:
    path = filled(tmp_path, 1, 2).path(2)
    damage(path / name, how)
    with pytest.raises(ValueError, match=f"{name}.*--checkpoint last-good"):
        verify(path)
    with pytest.raises(ValueError, match=name):
        load_weights(tmp_path, "last")
    assert Checkpoints(tmp_path).find("last-good").name == "step-00000001"
    assert torch.equal(load_weights(tmp_path, "last-good")["a"], WEIGHTS["a"] + 1)


def test_a_checkpoint_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 1, 2)
    shutil.copytree(checkpoints.path(1), checkpoints.path(3))
    with pytest.raises(ValueError, match="step-00000003 holds the checkpoint of step 1; .*last-good"):
        load_weights(tmp_path, "last")


def test_when_all_are_damaged_the_last_is_named(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 1, 2)
    for step in (1, 2):
        damage(checkpoints.path(step) / "model.safetensors", "cut")
    with pytest.raises(ValueError, match=r"no undamaged checkpoint; the last: .*step-00000002.model"):
        checkpoints.find("last-good")


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    foreign = Checkpoints(tmp_path).path(3)
    foreign.mkdir(parents=True)
    (foreign / "pytorch_model.bin").write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match=r"step-00000003 is not a checkpoint: it has no manifest.json"):
        load_weights(tmp_path, "last")
    (foreign / "manifest.json").write_text('{"format": 99, "files": {}}')
    with pytest.raises(ValueError, match="manifest.json has format 99, not 2"):
        load_weights(tmp_path, 3)


def test_the_best_and_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 10, 20, 30, 40)
    checkpoints.prune(40, keep=2, best=10)
    assert checkpoints.steps() == [10, 30, 40]
    assert {which: checkpoints.find(which).name[-2:] for which in ("last", "best", "last-good", 30, "30")} == {
        "last": "40", "best": "40", "last-good": "40", 30: "30", "30": "30",
    }  # fmt: skip
    checkpoints.prune(30, keep=2, best=10)  # the run went on from an earlier one
    assert checkpoints.steps() == [10, 30]


def scored(run: Path, best: int, *steps: int) -> Checkpoints:
    """Checkpoints that know which of them was best."""
    checkpoints = Checkpoints(run)
    record = {"step": best, "metric": "val/loss", "value": 1.5}
    for step in steps:
        checkpoints.write(step, {"model": WEIGHTS}, {"state": {"step": step, "best": record}})
    checkpoints.point_at_best(record)
    return checkpoints


@pytest.mark.parametrize("edit", ["removed", "one digit", "nonsense"])
def test_what_was_best_is_known_to_the_checkpoints(tmp_path: Path, edit: str) -> None:
    """The file that says so is a copy."""
    checkpoints, copy = scored(tmp_path, 20, 10, 20, 30), tmp_path / "checkpoints" / "best.json"
    if edit == "removed":
        copy.unlink()
    else:
        copy.write_text(copy.read_text().replace("20", "10") if edit == "one digit" else "{")
    assert checkpoints.find("best").name == "step-00000020"


@pytest.mark.parametrize("name", ["state.json", "manifest.json"])
@pytest.mark.parametrize("how", ["one bit", "cut", "removed"])
def test_what_was_best_is_not_guessed(tmp_path: Path, name: str, how: str) -> None:
    checkpoints = scored(tmp_path, 20, 10, 20, 30)
    damage(checkpoints.path(30) / name, how)
    with pytest.raises(ValueError, match=f"step-00000030.*{name}.*--checkpoint last-good"):
        checkpoints.find("best")


def test_the_best_is_not_replaced_by_another(tmp_path: Path) -> None:
    checkpoints = scored(tmp_path, 20, 10, 20, 30)
    damage(checkpoints.path(30) / "model.safetensors", "one bit")
    assert checkpoints.find("best").name == "step-00000020"  # what is damaged is not asked for
    shutil.rmtree(checkpoints.path(20))
    with pytest.raises(ValueError, match=r"step-00000020, the best checkpoint, is gone; name another: 10, 30"):
        checkpoints.find("best")


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no checkpoint"):
        Checkpoints(tmp_path).find("last")
    with pytest.raises(ValueError, match="checkpoint = 'bst' is not one of: last, best, last-good, last-K, 10"):
        filled(tmp_path, 10).find("bst")


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    average = {"a": WEIGHTS["a"] * 0.5}
    Checkpoints(tmp_path).write(1, {"model": WEIGHTS, "ema": average}, {})
    loaded = load_weights(tmp_path)
    assert torch.equal(loaded["a"], average["a"])
    assert torch.equal(loaded["b"], WEIGHTS["b"])  # a buffer, which is not averaged


@pytest.mark.parametrize("kind", ["averaged", "raw"])
def test_several_checkpoints_are_their_mean_in_float32(tmp_path: Path, kind: Literal["averaged", "raw"]) -> None:
    """In the dtype that they have; what is counted is not averaged."""
    generator = torch.Generator().manual_seed(0)
    trained = [{"a": torch.randn(3, 4, generator=generator), "h": torch.randn(5).bfloat16()} for _ in range(4)]
    for step, own in enumerate(trained, start=1):
        buffers = {"counter": torch.tensor(step)}
        Checkpoints(tmp_path).write(step, {"model": own | buffers, "ema": {"a": own["a"] * 0.5}}, {})
    got, share = load_weights(tmp_path, "last-3", kind), 1.0 if kind == "raw" else 0.5
    for name, gain in (("a", share), ("h", 1.0)):
        expected = torch.stack([own[name].double() for own in trained[1:]]).mean(0) * gain
        assert got[name].dtype == trained[0][name].dtype
        torch.testing.assert_close(got[name], expected.to(got[name].dtype))
    assert got["counter"] == 4
    one, last = load_weights(tmp_path, "last-1", kind), load_weights(tmp_path, "last", kind)
    assert all(torch.equal(one[name], last[name]) for name in last)


@pytest.mark.parametrize("count", [1, 2])
def test_a_mean_is_refused_where_one_is_missing_or_damaged(tmp_path: Path, count: int) -> None:
    checkpoints = filled(tmp_path, 10, 20)
    with pytest.raises(ValueError, match=f"'last-3' averages 3, of which {tmp_path} holds 2: .* --keep 3"):
        load_weights(tmp_path, "last-3")
    with pytest.raises(ValueError, match="checkpoint = 'last-0' is not one of"):
        load_weights(tmp_path, "last-0")
    damage(checkpoints.path(10 * count) / "model.safetensors", "one bit")
    with pytest.raises(ValueError, match=f"step-000000{count}0.model.safetensors is damaged"):
        load_weights(tmp_path, "last-2")


def test_a_failed_write_leaves_the_earlier_ones(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 1)
    before = (checkpoints.path(1) / "manifest.json").read_text()
    shutil.rmtree(tmp_path / "gone", ignore_errors=True)
    with pytest.raises(ValueError, match="Out of range float"):
        checkpoints.write(2, {"model": WEIGHTS}, {"state": {"loss": float("nan")}})
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotSaved, match="no checkpoint of step 2: .*; the earlier ones are intact"):
        Checkpoints(tmp_path / "file").write(2, {"model": WEIGHTS}, {})
    assert checkpoints.steps() == [1]
    assert (checkpoints.path(1) / "manifest.json").read_text() == before
    assert not list(tmp_path.rglob("*.part"))


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 1)
    left = tmp_path / "checkpoints" / ".step-00000002.deadbeef.part"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    assert checkpoints.steps() == [1]
    checkpoints.clean()
    assert not left.exists()
    verify(checkpoints.path(1))


def test_the_configuration_of_a_run_survives_and_its_version_counts(tmp_path: Path) -> None:
    config = ToyConfig(steps=3, out=tmp_path, width=8)
    write_config(tmp_path, to_dict(config))
    assert read_config(tmp_path, ToyConfig) == config
    with pytest.raises(ValueError, match=r"config.json: unknown key 'width' of RunConfig"):
        read_config(tmp_path, RunConfig)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(record | {"format": 1}))
    with pytest.raises(ValueError, match=r"config.json has format 1, not 2: .*train it anew"):
        read_config(tmp_path, ToyConfig)
    with pytest.raises(ValueError, match="is not a run folder: it has no config.json"):
        read_config(tmp_path / "elsewhere", ToyConfig)


def test_relative_paths_of_a_run_hold_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found from where it was started; words that named no file there stay words."""
    start, elsewhere, run = tmp_path / "start", tmp_path / "elsewhere", tmp_path / "run"
    (start / "corpus" / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    monkeypatch.chdir(start)
    paths = {"data": "corpus", "weights": "corpus/sub", "pattern": "corpus/*.txt"}
    several = ("corpus/sub", "corpus/none")
    words = {"name": "corpus", "missing": "corpus/none", "empty": "", "here": "."}
    config = Sourced(**paths, **words, several=several)
    write_config(run, to_dict(config))
    assert read_config(run, Sourced) == config
    monkeypatch.chdir(elsewhere)
    moved = {field: str(start / value) for field, value in paths.items()}
    assert read_config(run, Sourced) == Sourced(**moved, **words, several=(str(start / several[0]), several[1]))
