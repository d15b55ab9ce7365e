"""Denoising: windows without padding, a loss over the target alone, and blanks that are filled by generating."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from core.optim.config import OptimizerConfig
from core.training.metrics import read_metrics
from core.training.order import Share
from tests.processes import Command
from tests.text.processes import prose
from text.config import DenoisingConfig, EvaluateConfig
from text.corpus.windows import IGNORED
from text.corruption.spans import fill_spans
from text.models.encoder_decoder import Seq2Seq, shape_modern
from text.tasks.denoising import Denoising, HeldOut, evaluate
from text.train import train
from text.trained import load
from text.using.filler import SpanFiller

SHAPE = shape_modern(dim=32, depth=2, n_heads=2, head_dim=16, ffn_dim=64, dropout=0.0, context=32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("denoising")
    (folder / "text.txt").write_text(prose(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_DATA", str(folder / "data"))
        yield folder


def config(place: Path, **changes: Any) -> DenoisingConfig:
    settings: dict[str, Any] = {"data": str(place / "text.txt"), "out": place / "run", "steps": 200, "batch_size": 16}
    settings |= {"bpe_size": 300, "sentinels": 12, "precision": "fp32", "device": "cpu", "eval_every": 200}
    settings |= {"optimizer": OptimizerConfig("muon", lr=1e-2), "model": SHAPE}
    return DenoisingConfig(**settings | changes)


@pytest.fixture(scope="module")
def task(place: Path) -> Denoising:
    return Denoising.prepare(config(place))


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    train(config(place))
    return place / "run"


def test_batches_are_full_and_give_back_the_text(task: Denoising) -> None:
    [(source, inputs, targets)] = task.order(2, Share(), 0.0)
    lengths = task.lengths
    assert (source.shape, targets.shape, inputs.shape) == ((16, 32), (16, lengths.target), (16, lengths.target))
    assert (inputs[:, 0] == task.config.model.start).all()
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert task.count(source, inputs, targets) == targets.numel()
    text = " ".join(map(str, task.corpus.train.tolist()))
    for row, target in zip(source.tolist(), targets.tolist(), strict=True):
        whole = fill_spans(row, target, task.corruption.sentinels, task.config.model.eos)
        assert len(whole) == lengths.tokens
        assert " ".join(map(str, whole)) in text


def test_the_loss_is_that_of_the_target_tokens(task: Denoising) -> None:
    torch.manual_seed(0)
    model = Seq2Seq(task.config.model).eval()
    [(source, inputs, targets)] = task.order(0, Share(), 0.0)
    losses = F.cross_entropy(model(source, None, inputs).mT, targets, reduction="none")
    torch.testing.assert_close(task.objective(model)(source, inputs, targets), losses.sum(), rtol=1e-5, atol=1e-3)


@torch.no_grad()
def test_the_whole_held_out_text_is_evaluated_however_it_is_divided(task: Denoising) -> None:
    torch.manual_seed(0)
    model, held_out = Seq2Seq(task.config.model).eval(), HeldOut(task.corpus, task.corruption, task.config.model)
    marks, eos = task.corruption.sentinels, task.config.model.eos
    rows = range(len(held_out.source))
    whole = [fill_spans(held_out.source[row].tolist(), held_out.target[row].tolist(), marks, eos) for row in rows]
    assert [token for row in whole for token in row] == task.corpus.validation.tolist()
    figures = evaluate(model, held_out, 64)
    assert evaluate(model, held_out, 5) == pytest.approx(figures, rel=1e-5)
    parts = torch.zeros(2, 3, dtype=torch.float64)
    for rank in (0, 1):
        evaluate(model, held_out, 5, share=(rank, 2), reduce=parts[rank].copy_)
    loss, correct, count = parts.sum(0).tolist()
    assert count == held_out.target.lengths.sum()
    assert (loss / count, correct / count) == pytest.approx((figures["val/loss"], figures["val/accuracy"]), rel=1e-5)
    by_hand = 0.0
    for row in rows:  # each by itself, without padding
        source, _, inputs, targets = held_out.batch(torch.tensor([row]).numpy())
        assert (targets != IGNORED).all()
        by_hand += float(F.cross_entropy(model(source, None, inputs)[0], targets[0], reduction="sum"))
    assert by_hand / count == pytest.approx(figures["val/loss"], rel=1e-5)


def test_it_learns_to_write_what_is_left_out(run: Path) -> None:
    """Guessing by frequency costs above 3 nats a token."""
    last = read_metrics(run)[-1]
    assert last["val/loss"] < 1.5
    assert last["val/accuracy"] > 0.55
    assert "<extra_id_1>" in (run / "samples" / "step-00000200.txt").read_text()
    _, figures = Denoising.evaluate_trained(load(run), run, EvaluateConfig())
    assert figures == pytest.approx({name: last[name] for name in figures}, rel=1e-4)


def test_blanks_are_filled_by_generating(run: Path, command: Command) -> None:
    trained = load(run)
    assert isinstance(trained.config, DenoisingConfig)
    text = "The king sees the sea, and 3 went<extra_id_0>The child holds<extra_id_1> lamp, and 7 went by."
    code, out, err = command("fill", run, text, "--json")
    assert (code, err) == (0, [])
    spans = json.loads(out)["spans"]
    assert spans == SpanFiller(trained.model, trained.tokenizer).fill(text)
    assert len(spans) == 2
    code, out, _ = command("fill", run, text)
    assert out.startswith("<extra_id_0>  ")
    assert all(span.strip() in out for span in spans)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no blank", "blanks must be <extra_id_0>, <extra_id_1> and so on, <extra_id_11> at most"),
        ("<extra_id_1> first", "blanks must be"),
        ("<extra_id_0> twice <extra_id_0>", "blanks must be"),
        ("<extra_id_0> went by." * 1 + " The king" * 40, "the model reads 32"),
    ],
)
def test_what_cannot_be_filled_is_one_line(run: Path, text: str, told: str, command: Command) -> None:
    code, out, [line] = command("fill", run, text)
    assert (code, out) == (2, "")
    assert told in line


def test_too_few_sentinels_are_refused_before_anything_is_written(place: Path) -> None:
    with pytest.raises(ValueError, match="there are only 1 sentinels"):
        train(config(place, sentinels=1, out=place / "never"))
    assert not (place / "never").exists()


def test_bytes_have_sentinels_behind_their_vocabulary(place: Path) -> None:
    out = place / "bytes"
    train(config(place, tokenizer="byte", bpe_size=None, steps=1, out=out))
    trained = load(out)
    assert trained.config.model.vocab_size == 256 + 3 + 12
    filler = SpanFiller(trained.model, trained.tokenizer, sentinels=12)
    assert filler.sentinels == [*range(270, 258, -1)]
    assert len(filler.fill("The k<extra_id_0>g")) == 1
