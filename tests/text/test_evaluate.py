"""`text.evaluate`: all of the held-out text, each token once, the same figures every time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from core.training.metrics import read_metrics
from tests.processes import Command
from tests.text.processes import prose
from text.corpus.load import load_corpus
from text.models.gpt import GPTConfig
from text.tasks.language_modelling import default_rows
from text.trained import Trained

KEYS = ["step", "val/loss", "val/perplexity", "val/bits_per_char", "val/bits_per_byte", "seconds"]


def evaluated(command: Command, *arguments: object) -> dict[str, float]:
    code, out, err = command("evaluate", *arguments, "--json")
    assert (code, err) == (0, [])
    figures = json.loads(out.splitlines()[-1])
    assert list(figures) == KEYS
    return {name: value for name, value in figures.items() if name != "seconds"}


def test_evaluation_repeats_what_training_measured(command: Command, run_folder: Path) -> None:
    measured = {line["step"]: line for line in read_metrics(run_folder) if "val/loss" in line}
    best = min(measured, key=lambda step: measured[step]["val/loss"])
    assert best < 40
    for which, step in ((None, best), ("best", best), ("last", 40), ("last-good", 40), (15, 15)):
        figures = evaluated(command, run_folder, *(("--checkpoint", which) if which else ()))
        assert figures["step"] == step
        for name in ("val/loss", "val/perplexity", "val/bits_per_char", "val/bits_per_byte"):
            assert figures[name] == pytest.approx(measured[step][name], abs=1e-6, rel=1e-6)


def test_evaluation_is_deterministic_and_independent_of_the_batch(command: Command, run_folder: Path) -> None:
    once = evaluated(command, run_folder)
    assert evaluated(command, run_folder) == once
    for size in (1, 7):
        assert evaluated(command, run_folder, "--batch-size", size) == pytest.approx(once, abs=1e-6, rel=1e-6)


def test_evaluation_counts_every_held_out_token_once(command: Command, trained: Trained, run_folder: Path) -> None:
    """Against a plain loop: windows one after the other, each predicting what its tokens are followed by."""
    corpus = load_corpus(trained.config.data, trained.tokenizer)
    tokens, context = torch.from_numpy(corpus.validation.astype("int64")), trained.config.model.context
    assert (len(tokens) - 1) % context  # the last window is not full
    losses = []
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, context):
            window, targets = tokens[start : start + context], tokens[start + 1 : start + context + 1]
            logits = trained.model(window[: len(targets)].unsqueeze(0))[0]  # (T, V)
            losses += F.cross_entropy(logits, targets, reduction="none").double().tolist()
    assert len(losses) == len(tokens) - 1
    mean, figures = math.fsum(losses) / len(losses), evaluated(command, run_folder)
    assert figures["val/loss"] == pytest.approx(mean, abs=1e-6)
    assert figures["val/perplexity"] == pytest.approx(math.exp(mean), rel=1e-6)
    assert figures["val/bits_per_char"] == pytest.approx(mean / math.log(2) * len(tokens) / corpus.val_size.chars)


def test_a_text_that_has_changed_since_training_is_reported(
    command: Command, run_folder: Path, trained: Trained
) -> None:
    text = Path(trained.config.data)
    before = text.read_text()
    text.write_text(before.replace("king", "gink"))
    code, _, [notice] = command("evaluate", run_folder)
    text.write_text(before)
    assert code == 0
    assert str(text) in notice


def test_by_default_the_batch_follows_the_size_of_the_logits() -> None:
    assert default_rows(GPTConfig(vocab_size=65, context=256)) == 64
    assert default_rows(GPTConfig(vocab_size=50_257, context=1024)) == 5
    assert default_rows(GPTConfig(vocab_size=200_000, context=8192)) == 1


def test_evaluation_of_another_text(command: Command, run_folder: Path, place: Path) -> None:
    (place / "another.txt").write_text(prose(900), encoding="utf-8")
    code, out, _ = command("evaluate", run_folder, "--data", place / "another.txt")
    assert code == 0
    assert out.startswith(f"{place / 'another.txt'}: ")
    backwards = evaluated(command, run_folder)["val/loss"]  # 2.28 +- 0.13 more than forwards, over seeds 0-4
    assert evaluated(command, run_folder, "--data", place / "another.txt")["val/loss"] < backwards - 1
