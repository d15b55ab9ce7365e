"""Starting from trained weights: what comes with them, what may be asked for, and which tokenizer is theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from core.training.checkpoints import read_config
from core.training.metrics import read_metrics
from tests.core.helpers import awake
from tests.processes import Command
from tests.text.processes import prose
from text.config import LanguageModellingConfig
from text.models.gpt import GPT, GPTConfig
from text.pretrained.folders import export_pretrained
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer
from text.trained import Trained, load, load_start

QUICK = (
    "--steps",
    2,
    "--validation",
    0.1,
    "--batch-size",
    2,
    "--accumulate",
    1,
    "--device",
    "cpu",
    "--sample",
    0,
    "--compile",
    "off",
)


@pytest.fixture(scope="module")
def public(place: Path) -> Path:
    """A small GPT-2 with a byte-pair encoding of its own, in Hugging Face's layout."""
    tokenizer = BPETokenizer.train([prose(20)], 280)
    core = TransformerConfig(16, 1, 2, position=PositionConfig("learned"))
    model = awake(GPT(GPTConfig(tokenizer.vocab_size, 24, "tied", core)))
    export_pretrained(model, place / "public", tokenizer=tokenizer)
    return place / "public"


def test_a_run_goes_on_with_new_data(command: Command, run_folder: Path, trained: Trained, place: Path) -> None:
    (place / "new.txt").write_text(prose(60))
    arguments = ("nanogpt-cpu", *QUICK, "--init-from", run_folder, "--data", place / "new.txt", "--out", place / "on")
    code, _, err = command("train", *arguments, "--model.core.dropout", 0.3)
    assert (code, err[-1][:4]) == (0, "done"), err
    on = load(place / "on")
    assert on.tokenizer == trained.tokenizer
    assert on.config.model.core.dropout == 0.3
    assert (on.config.model.core.dim, on.config.model.head) == (
        trained.config.model.core.dim,
        trained.config.model.head,
    )
    assert read_metrics(place / "on")[0]["train/loss"] < 3.2, "it was not started anew: ln 35 is 3.6"


def test_a_start_is_the_best_checkpoint_of_a_run(run_folder: Path, trained: Trained) -> None:
    started = load_start(str(run_folder), trained.config.model)
    assert started.training
    assert all(torch.equal(a, b) for a, b in zip(started.parameters(), trained.model.parameters(), strict=True))


def test_a_shorter_context_and_dropout_may_be_asked_for(command: Command, public: Path, place: Path) -> None:
    arguments = ("gpt2-124m", *QUICK, "--init-from", public, "--data", place / "text.txt", "--out", place / "short")
    code, _, err = command("train", *arguments, "--model.context", 10, "--model.core.attention-dropout", 0.2)
    assert (code, err[-1][:4]) == (0, "done"), err
    model = read_config(place / "short", LanguageModellingConfig).model
    assert (model.context, model.core.attention_dropout, model.core.dim, model.core.depth) == (10, 0.2, 16, 1)
    assert load(place / "short").tokenizer == load_tokenizer(public)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model.context", 25), "model.context = 25 must be at most 24"),
        (("--model.core.dim", 100), "--model.core.dim has no effect"),  # 12 heads do not divide it
        (("--model.core.position.base", 5), "--model.core.position.base has no effect"),
        (("--model.vocab-size", 300), "--model.vocab-size has no effect"),
        (("--tokenizer", "byte"), "tokenizer = 'byte'"),
        (("--tokenizer", "char"), "tokenizer = 'char'"),
        (("--tokenizer", "{other}"), "tokenizer = '{other}'"),
    ],
)
def test_what_comes_with_the_weights_is_not_asked_for(
    command: Command, public: Path, place: Path, arguments: tuple[object, ...], message: str
) -> None:
    other = place / "other"
    other.mkdir(exist_ok=True)
    BPETokenizer.train([prose(20)[::-1]], 280).save(other)
    words = (str(word).format(other=other) for word in arguments)
    data = ("--data", place / "text.txt", "--out", place / "never")
    code, _, [line] = command("train", "gpt2-124m", *QUICK, "--init-from", public, *data, *words)
    assert code == 2
    assert message.format(other=other) in line
    assert not (place / "never").exists()


def test_a_tokenizer_that_gives_the_same_ids_may_be_named(command: Command, public: Path, place: Path) -> None:
    data = ("--data", place / "text.txt", "--out", place / "same", "--tokenizer", public / "tokenizer.json")
    assert command("train", "gpt2-124m", *QUICK, "--init-from", public, *data)[0] == 0
