"""The GPU benchmark's text part and its plan run in small on a CPU, and its arithmetic is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import command, text
from benchmarks.gpu.attention import measure_attention
from benchmarks.gpu.command import parse
from benchmarks.gpu.decision import sides
from benchmarks.gpu.plan import PARTS, Job, plan
from benchmarks.gpu.quality import follow
from benchmarks.measure.record import ROOT
from text.models.gpt import GPT, GPTConfig
from text.presets import PRESETS, gpt2_core

SMALL = "--steps 4 --eval-every 2 --model.core.dim 32 --model.core.depth 1 --model.core.n_heads 2 --sample 0"


def meta(config: GPTConfig) -> GPT:
    with torch.device("meta"):
        return GPT(config)


def test_mfu_of_the_preset_agrees_with_the_sum_by_hand() -> None:
    model = meta(text.shape_of("gpt2-124m", "full"))
    maps, biases, norms = (
        12 * 768**2,
        (4 + 5) * 768,
        2 * 2 * 768,
    )  # of a block: 4 D^2 of attention, 8 D^2 of feed-forward
    n = 50304 * 768 + 12 * (maps + biases + norms) + 2 * 768
    assert text.multiplied_parameters(model) == n == 123_689_472
    assert text.flops_per_token(model) == 6 * n + 12 * 12 * 768 * 1024 == 855_383_040
    used = text.utilisation(model, 578_136.0, "NVIDIA H200")
    assert used["tflops"] == pytest.approx(494.528, abs=0.001)
    assert used["mfu"] == pytest.approx(0.50003, abs=1e-5)
    assert "mfu" not in text.utilisation(model, 578_136.0, "an unknown device")


def test_an_untied_embedding_is_looked_up_not_multiplied() -> None:
    tied = text.multiplied_parameters(meta(GPTConfig(100, 32, "tied", gpt2_core(32, 2, 2))))
    untied = text.multiplied_parameters(meta(GPTConfig(100, 32, "untied", gpt2_core(32, 2, 2))))
    assert tied == untied == 100 * 32 + 2 * (12 * 32**2 + 2 * 32) + 32


@pytest.mark.parametrize("preset", ["gpt2-124m", "nanogpt-gpu"])
def test_a_step_on_the_cpu_reports_consistent_figures(preset: str) -> None:
    found = text.measure_step(0, preset, "tiny", batch=2, device="cpu", compiled="off")
    model = meta(text.shape_of(preset, "tiny"))
    assert found["tokens_per_second"] * found["step_seconds"] == pytest.approx(2 * 32)
    assert found["tflops"] == pytest.approx(text.flops_per_token(model) * found["tokens_per_second"] / 1e12)
    assert (found["steps"], found["compiled"]) == (2, 0)
    assert "mfu" not in found


def test_every_kind_of_attention_is_measured_at_every_length() -> None:
    found = measure_attention(0, [32, 48], "cpu")
    assert set(found) == {f"{kind}, {n}" for kind in ("causal", "window", "window, dense") for n in (32, 48)}
    assert all(seconds > 0 for seconds in found.values())


def test_the_plan_holds_every_part_the_most_telling_first() -> None:
    options = parse(["--device", "cpu", "--micro-batches", "8,32,16"])
    names = [job.name for job in plan(options)]
    assert names[:2] == ["gpt2-124m, batch 32", "char-gpu-modern"]
    assert {job.part for job in plan(options)} == set(PARTS)
    assert len(set(names)) == len(names) == 3 + 1 + 1 + 6 + 1 + 2 + 4 * len(sides()) + 3


def test_a_job_without_time_or_that_fails_says_so_and_is_not_fatal() -> None:
    assert command.perform(Job("step", "late", "m:f"), 3.0, 1) == {"failed": "only 3 s were left"}
    wrong = Job("sampling", "wrong", "benchmarks.gpu.text:measure_sampling", {"preset": "none"})
    found = command.perform(wrong, 60.0, 1)
    assert list(found) == ["failed"]
    assert "missing" in command.show("wrong", found)


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
def test_a_run_is_followed_from_its_start_to_its_end_or_the_limit(tmp_path, steps, limit, by_itself) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "run"), str(steps)])
    try:
        followed = follow(process, tmp_path / "run", target=1.0, limit=limit)
    finally:
        process.kill()
        process.wait()
    assert followed["ended_by_itself"] == by_itself
    assert followed["process_seconds_to_target"] <= followed["train_process_seconds"]
    assert "process_seconds_to_target" not in follow(process, tmp_path / "run", target=-1e9, limit=0.1)


def test_the_gpu_benchmark_needs_nothing_that_a_bare_machine_lacks() -> None:
    absent = "accelerate tyro safetensors tokenizers tqdm timm einops gymnasium torchvision transformers matplotlib"
    code = f"""
import sys
for name in {absent.split()!r}:
    sys.modules[name] = None
from benchmarks.gpu import command, text
measured = text.measure_step(0, "gpt2-124m", "tiny", 1, "cpu", "off")
measured |= text.measure_sampling(0, "gpt2-124m", "tiny", 4, "cpu", "float32")
print(measured["tokens"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip().endswith("4"), done.stderr[-2000:]


@pytest.mark.slow
def test_the_gpu_benchmark_runs_in_small_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question.\n" * 60)
    loss = ["--preset", "char-cpu", "--data", str(tmp_path / "text.txt"), "--train-options", SMALL, "--target", "9"]
    words = ["--device", "cpu", "--tiny", "--parts", "loss,sampling", "--results", str(tmp_path), "--threads", "1"]
    command.run(parse([*words, *loss]))
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert set(found) == {"loss", "sampling"}
    trained, sampled = found["loss"]["measured"]["char-cpu"], found["sampling"]["measured"]
    assert 0 < trained["seconds_to_target"] < trained["process_seconds_to_target"] <= trained["train_process_seconds"]
    assert (trained["steps"], trained["steps_to_target"]) == (4, 2)
    assert {f"nanogpt-gpu, 40 tokens, {dtype}" for dtype in ("float32", "bfloat16")} == set(sampled)
    assert found["loss"]["provenance"]["versions"]["torch"]


def test_the_model_that_is_measured_is_the_presets() -> None:
    model = text.shape_of("gpt2-124m", "full")
    assert model == PRESETS["gpt2-124m"].model
    assert (model.core.bias, model.core.feedforward) == ("all", "gelu-tanh")


def test_a_missing_gpu_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match="device = 'cuda'"):
        command.run(parse(["--results", str(tmp_path)]))


def test_an_unknown_part_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="parts = 'sleep'"):
        parse(["--parts", "step,sleep"])
