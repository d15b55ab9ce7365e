"""`text.evaluate`: all of the held-out text, each token once, the same figures every time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from core.config import PositionConfig, TransformerConfig
from core.training.metrics import read_metrics
from tests.processes import Command
from tests.text.processes import prose
from text.corpus.load import load_corpus
from text.models.gpt import GPT, GPTConfig
from text.pretrained.folders import export_pretrained
from text.tasks.language_modelling import default_rows
from text.tokens.bpe import BPETokenizer
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


def test_the_whole_of_another_text(command: Command, run_folder: Path, place: Path) -> None:
    text = prose(900)
    (place / "another.txt").write_text(text, encoding="utf-8")
    (place / "its end.txt").write_text(text[int(0.9 * len(text)) :], encoding="utf-8")
    (place / "another.csv").write_text(f'n,body\n1,"{text}"\n', encoding="utf-8")
    data = ("--data", place / "another.txt")
    part = evaluated(command, run_folder, *data)
    assert evaluated(command, run_folder, *data, "--part", "held-out") == part
    assert evaluated(command, run_folder, "--data", place / "its end.txt", "--part", "whole") == part
    whole = evaluated(command, run_folder, *data, "--part", "whole")
    assert whole != part
    table = ("--data", place / "another.csv", "--column", "body", "--part", "whole")
    assert evaluated(command, run_folder, *table) == whole
    _, out, _ = command("evaluate", run_folder, *data, "--part", "whole")
    assert f"{len(text):,} tokens, all of it" in out


def test_a_text_shorter_than_the_context_is_evaluated(command: Command, run_folder: Path, place: Path) -> None:
    (place / "short.txt").write_text("The king sees", encoding="utf-8")
    figures = evaluated(command, run_folder, "--data", place / "short.txt", "--part", "whole")
    assert figures["val/bits_per_byte"] == pytest.approx(figures["val/loss"] / math.log(2))


@pytest.fixture
def public(place: Path) -> Path:
    """A public model, random, whose tokens are bytes and pairs of them."""
    if not (place / "public").exists():
        tokenizer = BPETokenizer.train([prose()], 280)
        core = TransformerConfig(
            dim=16, depth=1, n_heads=2, feedforward="gelu-tanh", position=PositionConfig("learned")
        )
        config = GPTConfig(tokenizer.vocab_size, 32, "tied", core)
        export_pretrained(GPT(config), place / "public", "gpt2", tokenizer)
    return place / "public"


def test_a_public_model_is_evaluated_on_the_whole_of_a_text(command: Command, public: Path, place: Path) -> None:
    """Against transformers, in bits per byte, which do not depend on the tokenizer."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    text = prose(30)
    (place / "text to judge.txt").write_text(text, encoding="utf-8")
    figures = evaluated(command, public, "--data", place / "text to judge.txt", "--context", 8)
    assert figures["step"] == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(public).eval()
    ids = torch.tensor(transformers.AutoTokenizer.from_pretrained(public)(text)["input_ids"])
    losses: list[float] = []
    for start in range(0, len(ids) - 1, 8):
        window = ids[start : start + 9]
        with torch.no_grad():
            losses += F.cross_entropy(model(window[None, :-1]).logits[0], window[1:], reduction="none").tolist()
    nats = sum(losses) / len(losses)
    assert figures["val/loss"] == pytest.approx(nats, abs=1e-5)
    assert figures["val/bits_per_byte"] == pytest.approx(nats * len(ids) / math.log(2) / len(text), abs=1e-5)


def test_what_a_public_model_is_asked_for_in_vain(command: Command, public: Path) -> None:
    def refused(*arguments: object) -> str:
        code, _, [line] = command("evaluate", *arguments)
        assert code == 2
        return line

    assert "data is missing" in refused(public)
    assert "checkpoint = 'last' has no effect" in refused(public, "--data", "pydoc", "--checkpoint", "last")
    assert "context = 33 must be at most the model's 32" in refused(public, "--data", "pydoc", "--context", 33)


def test_evaluation_of_another_text(command: Command, run_folder: Path, place: Path) -> None:
    (place / "another.txt").write_text(prose(900), encoding="utf-8")
    code, out, _ = command("evaluate", run_folder, "--data", place / "another.txt")
    assert code == 0
    assert out.startswith(f"{place / 'another.txt'}: ")
    backwards = evaluated(command, run_folder)["val/loss"]  # 2.28 +- 0.13 more than forwards, over seeds 0-4
    assert evaluated(command, run_folder, "--data", place / "another.txt")["val/loss"] < backwards - 1
