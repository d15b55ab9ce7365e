"""Masked language models: no hidden token shows, the loss is a mean over them, and blanks are filled by a command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from core.config import TransformerConfig
from core.optim.config import OptimizerConfig
from core.training.metrics import read_metrics
from core.training.order import Share
from tests.processes import Command
from tests.text.processes import prose
from text.config import EvaluateConfig, MaskedConfig
from text.models.encoder import MaskedLM, MaskedLMConfig
from text.tasks.masked import HeldOut, MaskedLanguageModelling, evaluate
from text.train import train
from text.trained import load
from text.using.filler import MaskFiller, build_filler

SHAPE = MaskedLMConfig(context=32, core=TransformerConfig(dim=32, depth=2, n_heads=2))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("masked")
    (folder / "text.txt").write_text(prose(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_DATA", str(folder / "data"))
        yield folder


def config(place: Path, **changes: Any) -> MaskedConfig:
    settings: dict[str, Any] = {"data": str(place / "text.txt"), "out": place / "run", "steps": 150, "batch_size": 16}
    settings |= {"bpe_size": 300, "masked": 0.2, "precision": "fp32"}
    settings |= {"eval_every": 150, "optimizer": OptimizerConfig("muon", lr=1e-2), "model": SHAPE, "device": "cpu"}
    return MaskedConfig(**settings | changes)


@pytest.fixture(scope="module")
def task(place: Path) -> MaskedLanguageModelling:
    return MaskedLanguageModelling.prepare(config(place))


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    train(config(place))
    return place / "run"


def test_it_learns_what_is_hidden(run: Path) -> None:
    """The sentences are made by a rule: 5 things, 4 deeds; the loss of always guessing by frequency is above 3."""
    last = read_metrics(run)[-1]
    assert last["val/loss"] < 1.5
    assert last["val/accuracy"] > 0.5
    assert last["val/pseudo_perplexity"] == pytest.approx(np.exp(last["val/loss"]))
    sample = (run / "samples" / "step-00000150.txt").read_text()
    assert sample.count("|") >= 3


def test_a_batch_shows_windows_of_the_text_between_their_ends_with_tokens_hidden(task: MaskedLanguageModelling) -> None:
    [(ids, places, targets)] = task.order(3, Share(), 0.0)
    assert ids.shape == (16, 32)
    assert len(places) == len(targets) == task.count(ids, places, targets) == 16 * 6  # 0.2 of 30
    assert (ids[:, 0] == task.ids.bos).all()
    assert (ids[:, -1] == task.ids.eos).all()
    whole = ids.clone()
    whole.view(-1)[places] = targets
    tokens = task.corpus.train.tolist()
    text = " ".join(map(str, tokens))
    assert all(" ".join(map(str, row)) in text for row in whole[:, 1:-1].tolist())


def test_the_loss_is_that_of_the_hidden_tokens_alone(task: MaskedLanguageModelling) -> None:
    torch.manual_seed(0)
    model = MaskedLM(task.config.model).eval()
    [(ids, places, targets)] = task.order(0, Share(), 0.0)
    logits = model(ids).flatten(0, 1)  # at every place
    by_hand = sum(-F.log_softmax(logits[place], -1)[target] for place, target in zip(places, targets, strict=True))
    torch.testing.assert_close(task.objective(model)(ids, places, targets), by_hand, rtol=1e-5, atol=1e-4)


def test_what_is_behind_a_mask_is_not_seen(place: Path) -> None:
    """Two texts that differ in a hidden token alone are the same to the model."""
    hidden = MaskedLanguageModelling.prepare(config(place, replacement="mask"))
    [(ids, places, targets)] = hidden.order(0, Share(), 0.0)
    assert (ids.view(-1)[places] == hidden.ids.mask).all()
    rows = ids.clone()
    rows.view(-1)[places] = targets
    rows[0, places[0]] = 60 if targets[0] != 60 else 61
    again = hidden.masking.hide(rows[:1].numpy(), hidden.config.seed, "masking", [0])
    assert torch.equal(again.ids[0], ids[0])


def test_the_evaluation_hides_the_same_whatever_training_hides_and_however_it_is_divided(
    task: MaskedLanguageModelling, place: Path
) -> None:
    torch.manual_seed(0)
    model, corpus = MaskedLM(task.config.model).eval(), task.corpus
    whole = evaluate(model, corpus, 32, 64)
    assert evaluate(model, corpus, 32, 5) == pytest.approx(whole, rel=1e-5)
    parts = torch.zeros(2, 3, dtype=torch.float64)
    for rank in (0, 1):
        evaluate(model, corpus, 32, 5, share=(rank, 2), reduce=parts[rank].copy_)
    loss, correct, count = parts.sum(0).tolist()
    assert (loss / count, correct / count) == pytest.approx((whole["val/loss"], whole["val/accuracy"]), abs=1e-6)
    held_out = HeldOut(corpus, 32)
    tokens = [token for row in range(len(held_out.rows)) for token in held_out.rows[row].tolist()[1:-1]]
    assert tokens == corpus.validation.tolist()  # the whole of it, once
    assert count == pytest.approx(0.15 * len(tokens), rel=0.1)


def test_the_command_evaluates_as_training_did(run: Path) -> None:
    trained = load(run)
    _, figures = MaskedLanguageModelling.evaluate_trained(trained, run, EvaluateConfig())
    assert figures == pytest.approx({name: read_metrics(run)[-1][name] for name in figures}, abs=1e-5)


@pytest.mark.parametrize("mask", ["[MASK]", "<mask>"])
def test_blanks_are_filled_with_what_is_likely(run: Path, mask: str, command: Command) -> None:
    text = f"The king sees {mask} child, and 7{mask} by."
    code, out, err = command("fill", run, text, "--top", 3, "--json")
    assert (code, err) == (0, [])
    the, went = json.loads(out)["masks"]
    assert [the[0]["text"], went[0]["text"]] == [" the", " went"]
    assert 0.5 < the[0]["probability"] <= 1
    assert len(the) == len(went) == 3
    assert [each["probability"] for each in the] == sorted((each["probability"] for each in the), reverse=True)
    code, out, _ = command("fill", run, text, "--top", 1)
    assert [line.split()[::2] for line in out.splitlines()] == [["1", "the"], ["2", "went"]]


def test_the_probabilities_are_those_of_all_tokens(run: Path) -> None:
    trained = load(run)
    filler = build_filler(trained.model, trained.tokenizer)
    assert isinstance(filler, MaskFiller)
    [mask] = filler.fill("The king sees <mask>", 10**6)
    assert len(mask) == trained.tokenizer.vocab_size
    assert sum(each.probability for each in mask) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("no blank",), "'no blank' has no blank: write <mask> or [MASK]"),
        (("a <mask> " * 40,), "the model reads 32"),
        (("a <mask>", "--top", 0), "top = 0 must be above 0"),
        (("a <mask>", "--file", "x"), "texts are in the command already"),
    ],
)
def test_what_cannot_be_filled_is_one_line(run: Path, words: tuple[object, ...], told: str, command: Command) -> None:
    code, out, [line] = command("fill", run, *words)
    assert (code, out) == (2, "")
    assert told in line


def test_a_tokenizer_without_a_mask_is_refused_and_so_is_a_model_that_fills_nothing(run: Path) -> None:
    trained = load(run)
    shape = replace(trained.config.model, vocab_size=256)
    from text.models.gpt import GPT, GPTConfig
    from text.tokens.base import ByteTokenizer

    with pytest.raises(ValueError, match="no mask token among the model's 256: it cannot fill blanks"):
        build_filler(MaskedLM(shape), ByteTokenizer())
    with pytest.raises(ValueError, match="fills blanks, not a GPT"):
        build_filler(GPT(GPTConfig(vocab_size=9, context=8, core=SHAPE.core)), ByteTokenizer())


def test_characters_get_a_mask_of_their_own(place: Path, command: Command) -> None:
    words = config(place, tokenizer="char", bpe_size=None, steps=1, out=place / "characters")
    train(words)
    assert load(place / "characters").config.model.vocab_size == load(place / "characters").tokenizer.vocab_size + 4
    code, out, _ = command("fill", place / "characters", "The k[MASK]ng", "--top", 2, "--json")
    assert code == 0
    assert [len(each["text"]) for each in json.loads(out)["masks"][0]] == [1, 1]
