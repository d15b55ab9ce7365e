"""The benchmarks run in small on a CPU, their arithmetic is right, and both sides of a comparison are one model.

What needs nanoGPT itself takes the clone that TRIPTYCH_NANOGPT names.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import core_scaling, text_vs_nanogpt
from benchmarks.gpu import figures as gpu
from benchmarks.gpu.decision import sides
from benchmarks.measure.peaks import device_peak
from benchmarks.measure.record import ROOT, update
from benchmarks.measure.timing import time_to_loss, time_tokens
from benchmarks.peers import nanogpt
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.positions import index
from text.corpus.load import load_corpus
from text.models.gpt import GPT, GPTConfig
from text.presets import gpt2_core
from text.tasks.language_modelling import NextTokenLoss, evaluate

SMALL = "--steps 4 --eval-every 2 --model.core.dim 32 --model.core.depth 1 --model.core.n_heads 2 --sample 0"


@pytest.fixture(scope="session")
def clone() -> Path:
    path = os.environ.get("TRIPTYCH_NANOGPT")
    if path is None:
        pytest.skip("no nanoGPT: TRIPTYCH_NANOGPT names no clone")
    return nanogpt.find_clone(Path(path))


@pytest.fixture
def shakespeare(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The text in a data folder of its own, so that nothing is written beside the real one."""
    text = data_root / "shakespeare" / "input.txt"
    if not text.exists():
        pytest.skip("no real data: shakespeare/input.txt is missing")
    (tmp_path / "data" / "shakespeare").mkdir(parents=True)
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "data"))
    return Path(shutil.copyfile(text, tmp_path / "data" / "shakespeare" / "input.txt"))


# ---------------------------------------------------------------------------------------------- timing, records


def test_time_to_a_loss_is_the_first_evaluation_at_or_below_it() -> None:
    records = [
        {"step": 10, "seconds": 1.0, "train/loss": 0.1},
        {"step": 20, "seconds": 2.0, "val/loss": 1.6},
        {"step": 30, "seconds": 3.0, "val/loss": 1.5},
        {"step": 40, "seconds": 4.0, "val/loss": 1.4},
    ]
    assert time_to_loss(records, 1.5) == {"seconds_to_target": 3.0, "steps_to_target": 30}
    assert time_to_loss(records, 1.3) == {}


def test_tokens_per_second_counts_the_measured_call_alone() -> None:
    calls: list[int] = []
    found = time_tokens(calls.append, 40)
    assert calls == [8, 40]
    assert found["tokens"] == 40
    assert found["tokens_per_second"] > 0


def test_a_part_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    update("parts", {"a": {"x": 1}, "b": {"x": 2}}, tmp_path)
    path = update("parts", {"b": {"y": 3}}, tmp_path)
    assert json.loads(path.read_text()) == {"a": {"x": 1}, "b": {"y": 3}}


# ---------------------------------------------------------------------------------------------- gpu


def meta(config: GPTConfig) -> GPT:
    with torch.device("meta"):
        return GPT(config)


def test_mfu_of_gpt2_agrees_with_the_sum_by_hand() -> None:
    model = meta(gpu.SHAPES["gpt2-124m"])
    blocks = 12 * (12 * 768**2 + 2 * 768)  # 4 D^2 of attention, 8 D^2 of feed-forward, two norms
    n = 50304 * 768 + blocks + 768
    assert gpu.counted_parameters(model) == n == 123_587_328
    assert gpu.flops_per_token(model) == 6 * n + 12 * 12 * 768 * 1024 == 854_770_176
    found = gpu.utilisation(model, 578_550.0, "NVIDIA H200")
    assert found["tflops"] == pytest.approx(494.527, abs=0.001)
    assert found["mfu"] == pytest.approx(0.50003, abs=1e-5)
    assert "mfu" not in gpu.utilisation(model, 578_550.0, "an unknown device")


def test_an_untied_embedding_is_looked_up_not_multiplied() -> None:
    tied = gpu.counted_parameters(meta(GPTConfig(100, 32, "tied", gpt2_core(32, 2, 2))))
    untied = gpu.counted_parameters(meta(GPTConfig(100, 32, "untied", gpt2_core(32, 2, 2))))
    assert tied == untied == 100 * 32 + 2 * (12 * 32**2 + 2 * 32) + 32


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA A1000", None),
        ("", None),
    ],
)
def test_the_peak_is_that_of_the_device_named(name: str, peak: float | None) -> None:
    assert device_peak(name) == peak


@pytest.mark.parametrize("shape", gpu.SHAPES)
def test_a_step_on_the_cpu_reports_consistent_figures(shape: str) -> None:
    found = gpu.measure_step(0, shape, "tiny", batch=2, device="cpu", compiled="off")
    model = meta(gpu.TINY[shape])
    assert found["tokens_per_second"] * found["step_seconds"] == pytest.approx(2 * 32)
    assert found["tflops"] == pytest.approx(gpu.flops_per_token(model) * found["tokens_per_second"] / 1e12)
    assert (found["steps"], found["compiled"]) == (2, 0)
    assert "mfu" not in found


def test_every_kind_of_attention_is_measured_at_every_length() -> None:
    found = gpu.measure_attention(0, [32, 48], "cpu")
    assert set(found) == {f"{kind}, {n}" for kind in ("causal", "window", "window, dense") for n in (32, 48)}
    assert all(seconds > 0 for seconds in found.values())


def test_the_plan_holds_every_part_the_most_telling_first() -> None:
    options = gpu.parse(["--device", "cpu", "--micro-batches", "8,32,16"])
    names = [job.name for job in gpu.plan(options)]
    assert names[:2] == ["gpt2-124m, batch 32", "char-gpu-modern"]
    assert {job.part for job in gpu.plan(options)} == set(gpu.PARTS)
    assert len(set(names)) == len(names) == 3 + 1 + 1 + 6 + 1 + 2 + 4 * len(sides()) + 3


def test_a_job_without_time_or_that_fails_says_so_and_is_not_fatal() -> None:
    assert gpu.perform(gpu.Job("step", "late", "measure_step"), 3.0, 1) == {"failed": "only 3 s were left"}
    wrong = gpu.Job("sampling", "wrong", "measure_sampling", {"shape": "no such shape"})
    found = gpu.perform(wrong, 60.0, 1)
    assert list(found) == ["failed"]
    assert "missing" in gpu.show("wrong", found)


RUN = """
import json, sys, time
from pathlib import Path
folder = Path(sys.argv[1]); folder.mkdir()
with (folder / "metrics.jsonl").open("w") as file:
    for step in range(1, 1000):
        file.write(json.dumps({"step": step, "seconds": step / 10, "val/loss": 3 - step}) + chr(10)); file.flush()
        time.sleep(0.2)
        if step == int(sys.argv[2]):
            break
"""


@pytest.mark.parametrize(("steps", "limit", "by_itself"), [(3, 30.0, 1.0), (1000, 1.0, 0.0)])
def test_a_run_is_watched_from_its_start_to_its_end_or_the_limit(tmp_path, steps, limit, by_itself) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "run"), str(steps)])
    try:
        seen = gpu.watch(process, tmp_path / "run", target=1.0, limit=limit)
    finally:
        process.kill()
        process.wait()
    assert seen["ended_by_itself"] == by_itself
    assert 0.2 <= seen["process_seconds_to_target"] <= seen["train_process_seconds"]
    assert "process_seconds_to_target" not in gpu.watch(process, tmp_path / "run", target=-1e9, limit=0.1)


def test_the_gpu_benchmark_needs_nothing_that_a_bare_machine_lacks() -> None:
    absent = "accelerate tyro safetensors tokenizers tqdm timm einops gymnasium torchvision transformers matplotlib"
    code = f"""
import sys
for name in {absent.split()!r}:
    sys.modules[name] = None
from benchmarks.gpu import figures as gpu
found = gpu.measure_step(0, "gpt2-124m", "tiny", 1, "cpu", "off") | gpu.measure_sampling(
    0, "gpt2-124m", "tiny", 4, "cpu", "float32"
)
print(found["tokens"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip().endswith("4"), done.stderr[-2000:]


@pytest.mark.slow
def test_the_gpu_benchmark_runs_in_small_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question.\n" * 60)
    loss = ["--preset", "char-cpu", "--data", str(tmp_path / "text.txt"), "--train-options", SMALL, "--target", "9"]
    words = ["--device", "cpu", "--tiny", "--parts", "loss,sampling", "--results", str(tmp_path), "--threads", "1"]
    gpu.run(gpu.parse([*words, *loss]))
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found) == {"loss", "sampling"}
    trained, sampled = found["loss"]["measured"]["char-cpu"], found["sampling"]["measured"]
    assert 0 < trained["seconds_to_target"] < trained["process_seconds_to_target"] <= trained["train_process_seconds"]
    assert (trained["steps"], trained["steps_to_target"]) == (4, 2)
    assert {f"nanogpt-gpu, 40 tokens, {dtype}" for dtype in ("float32", "bfloat16")} == set(sampled)
    assert found["loss"]["provenance"]["versions"]["torch"]


@pytest.mark.parametrize(
    ("module", "words", "says"),
    [
        (gpu, ["--device", "cpu", "--parts", "step,sleep"], "'sleep' is not one of: step, loss"),
        (core_scaling, ["--parts", "sleep"], "'sleep' is not one of: context"),
        (core_scaling, ["--dim", "40"], "dim = 40"),
        (text_vs_nanogpt, ["--nanogpt", ".", "--parts", "sleep"], "'sleep' is not one of: step, loss"),
        (text_vs_nanogpt, ["--nanogpt", ".", "--preset", "none"], "preset = 'none'"),
        (text_vs_nanogpt, ["--nanogpt", ".", "--parts", "step"], "no model.py"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(module, words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        module.parse(words)


# ---------------------------------------------------------------------------------------------- core_scaling


@pytest.mark.parametrize("graph", core_scaling.GRAPHS)
def test_both_backends_of_a_measured_core_compute_the_same(graph: str) -> None:
    x, edges = torch.randn(3, 40, 64), core_scaling.build_graph(graph, 3, 40, "cpu")
    answers = []
    for backend in ("chosen", "explicit"):
        torch.manual_seed(1)
        answers.append(core_scaling.build_core(64, 2, backend, "cpu")(x, index(40), edges))
    torch.testing.assert_close(answers[0], answers[1])


def test_padding_differs_from_row_to_row_and_leaves_half_a_row() -> None:
    heard = core_scaling.build_graph("padding", 4, 64, "cpu").mask(4, 64, 64).any(1).sum(-1)
    assert heard.tolist() == [56, 48, 40, 32]


def test_a_point_measures_time_and_memory() -> None:
    common = {"device": "cpu", "precision": "fp32", "dim": 32, "depth": 1}
    found = core_scaling.measure(0, context=64, batch=2, graph="causal", backend="chosen", **common)
    assert found["step_seconds"] > 0
    assert found["growth_bytes"] >= 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_alone_is_measured_beside_the_rule(precision: str) -> None:
    found = core_scaling.measure_attention(0, 64, n_heads=1, head_dim=8, device="cpu", precision=precision)
    assert found["fused_over_explicit"] == pytest.approx(found["fused_seconds"] / found["explicit_seconds"])
    assert found["rule_says_slow"] == (precision == "bf16")


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


# ---------------------------------------------------------------------------------------------- against nanoGPT


def test_every_weight_has_one_name_on_the_other_side() -> None:
    ours = GPT(nanogpt.SHAPES["cpu"]).state_dict()
    theirs = [nanogpt.nanogpt_name(name) for name in ours]
    assert len(set(theirs)) == len(ours) == 4 + 4 * 6
    assert nanogpt.nanogpt_name("core.blocks.3.feedforward.branch.out.weight") == "transformer.h.3.mlp.c_proj.weight"


def test_the_loop_time_leaves_the_evaluations_out() -> None:
    spent = [1100.0, *[20.0] * 249, 1020.0, *[20.0] * 249, 1020.0]  # an evaluation before steps 0, 250 and 500
    lines = [f"iter {i}: loss 1.2345, time {ms:.2f}ms, mfu 0.01%" for i, ms in enumerate(spent)]
    printed = "\n".join(["step 0: train loss 4.1, val loss 4.2", *lines])
    found = nanogpt.loop_seconds(printed)
    assert found["loop_seconds"] == pytest.approx(0.02 * 498 + 3.14)
    assert found["loop_seconds_without_evaluation"] == pytest.approx(0.02 * 501)


def test_the_options_are_those_of_the_readme() -> None:
    options = nanogpt.readme_options(2000)
    readme = "--device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 --batch_size=12 --n_layer=4"
    readme += " --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
    assert set(options) - set(readme.split()) == {"--always_save_checkpoint=True", "--eval_interval=250"}
    assert set(readme.split()) <= set(options)


def test_the_step_is_that_of_the_preset_and_learns_nothing_from_the_harness() -> None:
    found = text_vs_nanogpt.train_step(0, "cpu", batch=2, compiled="off", steps=2)
    model = nanogpt.initial_model("cpu", 0)
    ids, targets = nanogpt.random_batch("cpu", 2, 0)
    with torch.no_grad():
        expected = NextTokenLoss(model)(ids, targets) / targets.numel()
    assert found["first_loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert expected.item() == pytest.approx(math.log(65), abs=0.3)
    assert found["steps"] == 2


def test_budgets_follow_the_run_before_and_the_order_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int, float]] = []

    def measured(side, *, seed: int, threads: int) -> dict[str, float]:
        calls.append((side.name, seed, side.arguments.get("seconds", 0)))
        both = {"val_loss": 1.9, "steps": 2, "train_seconds": 5.0, "train_core_seconds": 4.0, "loop_seconds": 3.0}
        return {**both, "loop_seconds_without_evaluation": 60.0 + seed} if side.name == "nanoGPT" else both

    monkeypatch.setattr(text_vs_nanogpt, "run_once", measured)
    options = argparse.Namespace(
        fractions=[1.0, 0.5], rounds=3, threads=1, preset="char-cpu", our_steps=0, train_options="--ema 0.9"
    )
    theirs = text_vs_nanogpt.Contestant("nanoGPT", "benchmarks.peers.nanogpt:train")
    result = text_vs_nanogpt._alternate(theirs, options)
    whole, half = "ours, 1 x its time", "ours, 0.5 x its time"
    assert calls == [
        *[("nanoGPT", 0, 0), (whole, 0, 60.0), (half, 0, 30.0)],
        *[(half, 1, 30.0), (whole, 1, 60.0), ("nanoGPT", 1, 0)],
        *[("nanoGPT", 2, 0), (whole, 2, 62.0), (half, 2, 31.0)],
    ]
    assert result.contestants[0].arguments["options"] == ["--ema", "0.9"]
    assert "val_loss" in result.table(*text_vs_nanogpt.SHOWN["loss"])


@pytest.mark.slow
def test_our_run_is_trained_and_evaluated_by_its_commands(shakespeare: Path) -> None:
    found = text_vs_nanogpt.train(0, "char-cpu", seconds=1.0, target=9.0, options=SMALL.split()[2:], steps=4)
    assert (found["steps"], found["steps_to_target"]) == (4, 2)
    assert 1 < found["val_loss"] < 4.5
    assert found["loop_seconds"] < found["train_seconds"]


def test_with_the_same_weights_both_sides_say_the_same(clone: Path) -> None:
    ours = nanogpt.initial_model("cpu", 3).eval()
    with torch.no_grad():
        for weight in ours.core.blocks.parameters():  # otherwise every token is followed by itself
            weight.normal_(std=0.2)
    theirs = nanogpt.nanogpt_model(clone, ours).eval()
    ids, _ = nanogpt.random_batch("cpu", 3, 0)
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids, ids)[0], ours(ids), atol=2e-4, rtol=1e-4)
    [written] = complete(ours, [[0]], 60, Sampling(temperature=0))
    assert theirs.generate(torch.zeros(1, 1, dtype=torch.long), 60, top_k=1)[0, 1:].tolist() == written
    assert len(set(written)) > 1


def test_both_sides_start_their_steps_at_one_loss(clone: Path) -> None:
    work = {"shape": "cpu", "batch": 2, "compiled": "off", "steps": 1}
    ours, theirs = text_vs_nanogpt.train_step(0, **work), nanogpt.train_step(0, str(clone), **work)
    assert ours["first_loss"] == pytest.approx(theirs["first_loss"], abs=1e-5)


def test_its_validation_text_and_ours_are_evaluated_alike(clone: Path, shakespeare: Path, tmp_path: Path) -> None:
    nanogpt.prepare(clone, shakespeare, tmp_path / "copy")
    ours, corpus = nanogpt.initial_model("cpu", 0).eval(), load_corpus("shakespeare")
    expected = evaluate(NextTokenLoss(ours), corpus, 64, 64)["val/loss"]
    found = nanogpt.whole_split_loss(nanogpt.nanogpt_model(clone, ours), tmp_path / "copy", 64)
    assert found == pytest.approx(expected, abs=1e-6)
