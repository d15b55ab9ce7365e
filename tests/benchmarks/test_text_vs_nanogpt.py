"""Both sides of the comparison with nanoGPT are one model, doing the same work; ours runs in small.

What needs nanoGPT itself takes the clone that TRIPTYCH_NANOGPT names.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from benchmarks import text_vs_nanogpt
from benchmarks.peers import nanogpt
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from text.corpus.load import load_corpus
from text.models.gpt import GPT
from text.tasks.language_modelling import NextTokenLoss, evaluate

SMALL = "--eval-every 2 --model.core.dim 32 --model.core.depth 1 --model.core.n_heads 2 --sample 0"


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
    result = text_vs_nanogpt.alternate(theirs, options)
    whole, half = "ours, 1 x its time", "ours, 0.5 x its time"
    assert calls == [
        *[("nanoGPT", 0, 0), (whole, 0, 60.0), (half, 0, 30.0)],
        *[(half, 1, 30.0), (whole, 1, 60.0), ("nanoGPT", 1, 0)],
        *[("nanoGPT", 2, 0), (whole, 2, 62.0), (half, 2, 31.0)],
    ]
    assert result.contestants[0].arguments["options"] == ["--ema", "0.9"]
    assert "val_loss" in result.table(*text_vs_nanogpt.PARTS["loss"].shown)


@pytest.mark.slow
def test_our_run_is_trained_and_evaluated_by_its_commands(shakespeare: Path) -> None:
    found = text_vs_nanogpt.train(0, "char-cpu", seconds=1.0, target=9.0, options=SMALL.split(), steps=4)
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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--nanogpt", ".", "--parts", "sleep"], "parts = 'sleep'"),
        (["--nanogpt", ".", "--preset", "none"], "preset = 'none'"),
        (["--nanogpt", ".", "--parts", "step"], "nanogpt = '.'"),
    ],
)
def test_bad_options_are_refused_by_field_and_value(words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        text_vs_nanogpt.run(text_vs_nanogpt.parse(words))
