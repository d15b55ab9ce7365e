"""The harness is fair: fresh processes that take turns, the threads it says, and nothing half-written."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.measure import timing
from benchmarks.measure.harness import Comparison, Contestant, Spread, compare, run_command, run_once, time_steps
from benchmarks.measure.record import commit, machine, number, provenance, save, table, versions
from core.memory import peak_memory

CONTESTANTS = """
import os, sys, time
from pathlib import Path

CALLS = []

def log(seed, path, name):
    CALLS.append(name)
    with open(path, "a") as file:
        file.write(f"{name} {seed}\\n")
    return {"calls": len(CALLS), "pid": os.getpid()}

def threads(seed):
    print("noise on standard output")
    return {"threads": int(os.environ["OMP_NUM_THREADS"]), "own": int(os.environ.get("OWN", 0))}

def doze(seed, seconds):
    time.sleep(seconds)

def memory(seed, megabytes):
    len(bytearray(os.urandom(1)) * (megabytes << 20))

def fail(seed):
    raise ValueError("the cause, by name")

def libraries(seed):
    return {"torch": "torch" in sys.modules}

def nan(seed):
    return {"loss": float("nan")}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "contestants_of_test.py").write_text(CONTESTANTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "contestants_of_test"


def test_contestants_alternate_in_fresh_processes_with_one_seed_a_round(module: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    sides = [Contestant(name, f"{module}:log", {"path": str(log), "name": name}) for name in ("a", "b")]
    result = compare("turns", sides, rounds=3, seed=7)
    assert log.read_text().split("\n")[:-1] == ["a 7", "b 7", "a 8", "b 8", "a 9", "b 9"]
    every = [measured for rounds in result.rounds.values() for measured in rounds]
    assert {measured["calls"] for measured in every} == {1}, "state was carried from one call to the next"
    assert len({measured["pid"] for measured in every} | {os.getpid()}) == 7
    assert result.seeds == (7, 8, 9)


def test_threads_and_environment_reach_the_contestant_alone(module: str) -> None:
    one = run_once(Contestant("one", f"{module}:threads"), seed=0)
    own = run_once(Contestant("own", f"{module}:threads", environment={"OWN": "5"}), seed=0, threads=3)
    assert (one["threads"], one["own"]) == (1, 0)
    assert (own["threads"], own["own"]) == (3, 5)


def test_peak_memory_is_the_contestants_own_not_the_parents(module: str) -> None:
    ballast = torch.ones(100 << 18)  # 100 MiB in this process
    small = run_once(Contestant("small", f"{module}:memory", {"megabytes": 1}), seed=0)
    large = run_once(Contestant("large", f"{module}:memory", {"megabytes": 80}), seed=0)
    assert peak_memory() > ballast.nbytes > small["peak_bytes"]
    assert large["peak_bytes"] - small["peak_bytes"] == pytest.approx(79 << 20, rel=0.1)


def test_a_command_is_measured_as_a_child() -> None:
    code = "import json; print('text'); print(json.dumps({'loss': {seed}, 'kind': 'x'}))"
    found = run_command([sys.executable, "-c", code], seed=4)
    assert found["loss"] == 4
    assert "kind" not in found
    assert found["peak_bytes"] > 1 << 20


@pytest.mark.parametrize(("function", "says"), [("fail", "the cause, by name"), ("nan", "loss = nan")])
def test_a_run_that_fails_says_who_and_why(module: str, function: str, says: str) -> None:
    with pytest.raises(RuntimeError, match=f"culprit failed(.|\n)*{says}"):
        run_once(Contestant("culprit", f"{module}:{function}"), seed=0)


def test_a_run_that_hangs_is_cut_off(module: str) -> None:
    with pytest.raises(RuntimeError, match="sleeper did not finish within 1 s"):
        run_once(Contestant("sleeper", f"{module}:doze", {"seconds": 60}), seed=0, timeout=1)


def test_the_worker_brings_no_library_of_its_own(module: str) -> None:
    assert run_once(Contestant("light", f"{module}:libraries"), seed=0)["torch"] == 0


@pytest.mark.parametrize("function", ["spin", "a.b", "a:b:c", "a:"])
def test_a_function_without_an_import_path_is_refused(function: str) -> None:
    with pytest.raises(ValueError, match="package.module:name"):
        Contestant("x", function)


def test_equal_names_and_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="distinct"):
        compare("x", [Contestant("x", "m:f"), Contestant("x", "m:g")])
    with pytest.raises(ValueError, match="0 rounds"):
        compare("x", [Contestant("x", "m:f")], rounds=0)


def example() -> Comparison:
    ours = [{"seconds": 1.0, "errors": 0}, {"seconds": 2.0, "errors": 0}, {"seconds": 12.0, "errors": 0}]
    theirs = [{"seconds": 2.0, "errors": 0}, {"seconds": 6.0, "errors": 1}, {"seconds": 16.0, "errors": 0}]
    sides = (Contestant("ours", "m:f", {"batch": 12}), Contestant("theirs", "m:g"))
    return Comparison("example", sides, {"ours": ours, "theirs": theirs}, (0, 1, 2), 1, {"commit": "abc"})


def test_ratios_are_taken_within_a_round() -> None:
    result = example()
    assert result.ratio("ours", "theirs", "seconds") == Spread(0.5, pytest.approx(1 / 3), 0.75)
    assert result.spread("ours", "seconds") == Spread(2.0, 1.0, 12.0)
    assert result.ratio("ours", "theirs", "errors") is None, "a ratio to zero is no number"


def test_the_table_holds_every_median_and_ratio_and_is_aligned() -> None:
    lines = example().table("seconds", "errors").splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "2 (1..12)" in lines[2]
    assert "0.5 (0.3333..0.75)" in lines[2]
    assert lines[1].startswith("|---") or lines[1].startswith("| ---")


def test_saved_json_repeats_the_comparison(tmp_path: Path) -> None:
    path = example().save(tmp_path)
    found = json.loads(path.read_text())
    assert path == tmp_path / "example.json"
    assert found["measured"]["theirs"]["seconds"] == {"median": 6.0, "low": 2.0, "high": 16.0}
    assert found["rounds"] == 3
    assert found["ratio to theirs"]["ours"]["seconds"]["median"] == 0.5
    assert found["contestants"][0]["arguments"] == {"batch": 12}
    assert found["seeds"] == [0, 1, 2]


def test_what_cannot_be_written_leaves_the_older_result(tmp_path: Path) -> None:
    save("figures", {"loss": 1.5}, tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        save("figures", {"loss": float("nan")}, tmp_path)
    with pytest.raises(TypeError, match="serializable"):
        save("figures", {"loss": 1.2, "model": object()}, tmp_path)
    assert json.loads((tmp_path / "figures.json").read_text()) == {"loss": 1.5}
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


@pytest.mark.parametrize("name", ["", "../up", "Upper", "a b"])
def test_a_result_name_is_a_plain_file_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name must be"):
        save(name, {}, tmp_path)


class Clocks:
    """Clocks that a test moves on: `step` takes the next of some pauses, and works for none of them."""

    def __init__(self, *pauses: float) -> None:
        self.now, self.pauses = 0.0, iter(pauses)

    def step(self) -> None:
        self.now += next(self.pauses)

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return 0.0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks(3.0, 0.25, 0.25, 2.0, 0.25, 0.25)
    monkeypatch.setattr(timing, "time", made)
    return made


def test_steps_are_timed_by_the_median_without_the_warm_up(clocks: Clocks) -> None:
    timed = time_steps(clocks.step, warmup=1, rounds=5)
    assert (timed["steps"], timed["step_seconds"], timed["step_core_seconds"]) == (5, 0.25, 0)


@pytest.mark.parametrize(("seconds", "steps"), [(0, 1), (3.2, 2), (3.6, 4)])
def test_steps_stop_at_the_time_budget_but_not_before_one(clocks: Clocks, seconds: float, steps: int) -> None:
    assert time_steps(clocks.step, warmup=0, rounds=1000, seconds=seconds)["steps"] == steps


@pytest.mark.gpu
def test_gpu_steps_are_measured_with_their_memory() -> None:
    a = torch.randn(4096, 4096, device="cuda")
    timed = time_steps(lambda: a @ a, rounds=10, device="cuda")
    assert timed["steps"] == 10
    assert timed["device_peak_bytes"] >= 2 * a.nbytes


def test_provenance_names_machine_versions_and_commit() -> None:
    found = provenance()
    json.dumps(found)
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["memory_bytes"] > 1 << 28
    assert machine()["cpu"]
    assert versions()["torch"] == torch.__version__.partition("+")[0] or versions()["torch"] == torch.__version__
    assert commit() is None or len(commit().rstrip("+")) == 12


def test_numbers_keep_four_digits() -> None:
    written = [number(value) for value in (0, 0.012345, 3.14159, 999.96, 12345.6, 1e-7)]
    assert written == ["0", "0.01235", "3.142", "1000", "12,346", "1.00e-07"]


def test_table_pads_every_row_alike() -> None:
    lines = table(["", "seconds"], [["a", "1"], ["a longer name", "12.5"]]).splitlines()
    assert lines == [
        "|               | seconds |",
        "| ------------- | ------: |",
        "| a             |       1 |",
        "| a longer name |    12.5 |",
    ]


def test_results_keep_no_folders_of_the_machine(tmp_path: Path) -> None:
    path = save("paths", {"clone": str(tmp_path / "nanoGPT"), "nested": [{"at": "/a/b"}], "rate": 1.5}, tmp_path)
    assert json.loads(path.read_text()) == {"clone": "nanoGPT", "nested": [{"at": "b"}], "rate": 1.5}


def test_results_are_short_to_read(tmp_path: Path) -> None:
    path = save("short", {"ours": {"seconds": {"median": 1 / 3, "low": 0.1}}, "seeds": [*range(99)]}, tmp_path)
    assert '{ "median": 0.333333, "low": 0.1 }' in path.read_text()
    assert max(map(len, path.read_text().splitlines())) <= 120
    assert json.loads(path.read_text())["seeds"] == [*range(99)]
