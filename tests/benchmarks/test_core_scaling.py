"""The core is measured as it is, in both of its ways, and a point that fails says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import core_scaling
from core.positions import index


@pytest.mark.parametrize("graph", core_scaling.GRAPHS)
def test_both_backends_of_a_measured_core_compute_the_same(graph: str) -> None:
    x, edges = torch.randn(3, 40, 64), core_scaling.build_graph(graph, 3, 40, "cpu")
    answers = []
    for backend in ("chosen", "explicit"):
        torch.manual_seed(1)
        answers.append(core_scaling.build_core(64, 2, backend, "cpu")(x, index(40), edges))
    torch.testing.assert_close(answers[0], answers[1])


def test_padding_differs_from_row_to_row_and_leaves_half_a_row() -> None:
    attended = core_scaling.build_graph("padding", 4, 64, "cpu").mask(4, 64, 64).any(1).sum(-1)
    assert attended.tolist() == [56, 48, 40, 32]


def test_a_point_measures_time_and_memory() -> None:
    common = {"device": "cpu", "precision": "fp32", "dim": 32, "depth": 1}
    found = core_scaling.measure(0, context=64, batch=2, graph="causal", backend="chosen", **common)
    assert found["step_seconds"] > 0
    assert found["growth_bytes"] >= 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_alone_is_measured_beside_the_rule(precision: str) -> None:
    found = core_scaling.measure_attention(0, 64, n_heads=1, head_dim=8, device="cpu", precision=precision)
    assert found["fused_over_explicit"] == pytest.approx(found["fused_seconds"] / found["explicit_seconds"])
    assert found["rule_says_explicit"] == float(
        core_scaling.explicit_is_faster(*[torch.ones(1, 1, 64, 8, dtype=core_scaling.DTYPES[precision])] * 2)
    )


def test_explicit_attention_stops_where_it_is_not_affordable() -> None:
    points = list(core_scaling.context_points(core_scaling.parse([])))
    longest = {
        backend: max(p["context"] for p in points if p["backend"] == backend) for backend in ("chosen", "explicit")
    }
    assert longest == {"chosen": 8192, "explicit": 2048}
    assert {p["graph"] for p in points} == set(core_scaling.GRAPHS)


def test_scaling_writes_every_point_and_the_reason_of_one_that_failed(tmp_path: Path) -> None:
    words = ["--dim", "32", "--depth", "1", "--results", str(tmp_path), "--threads", "1"]
    core_scaling.run(core_scaling.parse([*words, "--parts", "batch", "--batches", "2", "--context", "32"]))
    found = json.loads((tmp_path / "core_scaling.json").read_text())
    assert found["batch"]["settings"]["dim"] == 32
    assert [point["graph"] for point in found["batch"]["points"]] == ["causal", "padding"]
    assert all(point["step_core_seconds"] > 0 for point in found["batch"]["points"])
    point = {"context": -1, "batch": 1, "graph": "causal", "backend": "chosen"}
    [failed] = core_scaling.sweep_core(iter([point]), core_scaling.parse(words))
    assert failed == {**point, "failed": failed["failed"]}
    assert "negative dimension" in failed["failed"]
    assert failed["failed"][:60] in core_scaling.show("context", [failed])


@pytest.mark.parametrize(("words", "says"), [(["--parts", "sleep"], "parts = 'sleep'"), (["--dim", "40"], "dim = 40")])
def test_bad_options_are_refused_by_field_and_value(words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        core_scaling.parse(words)
