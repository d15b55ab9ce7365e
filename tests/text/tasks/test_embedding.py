"""Vectors of texts: the same whatever is read with them, and near to each other where texts belong together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig
from core.training.metrics import read_metrics
from core.training.order import Share
from tests.core.helpers import awake
from tests.processes import Command
from text.config import EvaluateConfig
from text.models.encoder import Embedder, EmbedderConfig, MaskedLM, MaskedLMConfig
from text.models.gpt import GPT, GPTConfig
from text.tasks.embedding import ContrastiveLoss, Embedding, evaluated, numbered, partner_ranks
from text.tasks.embedding_config import EmbeddingConfig
from text.tokens.base import ByteTokenizer
from text.train import train
from text.trained import load
from text.using.text_encoder import TextEncoder, nearest, normalised

CORE = TransformerConfig(dim=32, depth=2, n_heads=2)
WORDS = "zero one two three four five six", "null eins zwei drei vier fünf sechs"
TEXTS = ["a", "a house by the sea", "the sea " * 9, "", "one, two and three", "漢字", "a house"]


def pairs(folder: Path, count: int = 200) -> Path:
    """Numbers in words of two languages."""
    rows = [[int(digit) for digit in np.base_repr(row, 7)] for row in range(count)]
    lines = ["\t".join(" ".join(words.split()[digit] for digit in row) for words in WORDS) for row in rows]
    (folder / "pairs.tsv").write_text("\n".join(["source\ttarget", *lines, ""]), encoding="utf-8")
    return folder / "pairs.tsv"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("embedding")
    pairs(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_DATA", str(folder / "data"))
        yield folder


def config(place: Path, **changes: Any) -> EmbeddingConfig:
    settings: dict[str, Any] = {"data": str(place / "pairs.tsv"), "out": place / "run", "steps": 150, "batch_size": 32}
    settings |= {"group": 16, "bpe_size": 300, "validation": 0.2, "precision": "fp32", "device": "cpu"}
    settings |= {"optimizer": OptimizerConfig("muon", lr=5e-3), "model": EmbedderConfig(context=32, core=CORE)}
    return EmbeddingConfig(**settings | changes)


@pytest.fixture(scope="module")
def task(place: Path) -> Embedding:
    return Embedding.prepare(config(place))


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    train(config(place))
    return place / "run"


# Vectors


@pytest.mark.parametrize("pooling", ["mean", "class", "max"])
@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_a_vector_depends_on_neither_batch_nor_order_nor_padding(pooling: Any, position: Any) -> None:
    core = TransformerConfig(dim=32, depth=2, n_heads=2, position=PositionConfig(position))
    model = awake(Embedder(EmbedderConfig(260, 128, core=core, pooling=pooling))).eval().float()
    tokenizer = ByteTokenizer()
    alone = np.concatenate([TextEncoder(model, tokenizer).encode([text]) for text in TEXTS])
    assert alone.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-6)
    for rows in (1, 2, 3, 64):
        encoder = TextEncoder(model, tokenizer, rows=rows)
        np.testing.assert_allclose(encoder.encode(TEXTS), alone, atol=1e-6)
        np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], alone, atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 0.01  # they are not all the same


def test_texts_are_read_as_far_as_the_model_is_meant_to_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    model = awake(Embedder(EmbedderConfig(260, 64, core=CORE, max_tokens=10))).eval().float()
    encoder = TextEncoder(model, ByteTokenizer())
    np.testing.assert_array_equal(encoder.encode(["12345678, and more"]), encoder.encode(["12345678"]))
    assert "1 of 1 sequences (text) are cut to 8 tokens" in capsys.readouterr().err
    with pytest.raises(ValueError, match="text 1 has 18 tokens, 8 fit"):
        TextEncoder(model, ByteTokenizer(), too_long="refuse").encode(["12345678, and more"])
    assert encoder.encode([]).shape == (0, 32)


def test_of_another_encoder_the_mean_is_taken_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    masked = awake(MaskedLM(MaskedLMConfig(260, 64, core=CORE))).eval().float()
    [vector] = TextEncoder(masked, ByteTokenizer()).encode(["abc"])
    assert "was not trained to give vectors" in capsys.readouterr().err
    with torch.no_grad():
        mean = masked.features(torch.tensor([[257, *b"abc", 258]])).mean(1).numpy()
    np.testing.assert_allclose(vector, normalised(mean)[0], atol=1e-6)
    with pytest.raises(ValueError, match="this one generates text: GPT"):
        TextEncoder(GPT(GPTConfig(vocab_size=260, context=8, core=CORE)), ByteTokenizer())


def test_the_nearest_come_first() -> None:
    vectors = normalised(np.array([[1, 0], [1, 1], [0, 1], [-1, 0]], np.float32))
    found = nearest(vectors[1], vectors, 3)
    assert [place for place, _ in found] == [1, 0, 2]
    assert [cosine for _, cosine in found] == pytest.approx([1, 0.5**0.5, 0.5**0.5], abs=1e-6)


# The objective


def test_the_loss_is_that_of_each_partner_in_its_group(task: Embedding) -> None:
    torch.manual_seed(0)
    model = awake(Embedder(task.config.model)).eval().float()
    [batch] = task.order(0, Share(), 0.0)
    a, b = (torch.nn.functional.normalize(model(*batch[at : at + 2]), dim=-1) for at in (0, 2))
    by_hand = torch.zeros(())
    for start in (0, 16):
        scores = a[start : start + 16] @ b[start : start + 16].T / 0.05
        for row in range(16):
            by_hand -= (scores[row].log_softmax(0)[row] + scores[:, row].log_softmax(0)[row]) / 2
    torch.testing.assert_close(ContrastiveLoss(model, 16, 0.05)(*batch), by_hand, rtol=1e-4, atol=1e-4)
    halves = [task.objective(model)(*micro) for micro in task.order(0, Share(0, 1, 2), 0.0)]
    torch.testing.assert_close(sum(halves), by_hand, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_an_equal_partner_is_no_wrong_answer(task: Embedding) -> None:
    model = awake(Embedder(task.config.model)).eval().float()
    [batch] = task.order(0, Share(), 0.0)
    repeated = [part[torch.tensor([0, 1, 2, 2])] for part in batch]  # the last two are one pair
    a, b = (torch.nn.functional.normalize(model(*repeated[at : at + 2]), dim=-1) for at in (0, 2))
    shares = (a @ b.T / 0.05).exp()
    wrong = {row: [other for other in range(4) if other != row and {row, other} != {2, 3}] for row in range(4)}
    by_hand = 0.0
    for row, others in wrong.items():
        for way in (shares, shares.T):
            by_hand -= float(torch.log(way[row, row] / (way[row, row] + way[row, others].sum()))) / 2
    assert float(ContrastiveLoss(model, 4, 0.05)(*repeated)) == pytest.approx(by_hand, rel=1e-3)


def test_ranks_count_those_that_are_as_near() -> None:
    a = normalised(np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32))
    names = np.arange(50)
    assert (partner_ranks(a, a, names) == 1).all()
    assert (partner_ranks(a, np.ones_like(a) / 8**0.5, names) == 50).all()  # all alike: nothing is found
    assert (partner_ranks(a, np.ones_like(a) / 8**0.5, np.zeros_like(names)) == 1).all()  # but all are right
    b = normalised(a + np.random.default_rng(1).normal(size=a.shape).astype(np.float32))
    expected = [sum(a[row] @ other >= a[row] @ b[row] for other in b) for row in range(50)]  # itself among them
    assert partner_ranks(a, b, names).tolist() == expected


def test_equal_texts_have_equal_numbers() -> None:
    assert numbered(["a", "b", "a", "c"]).tolist() == [0, 1, 0, 2]


# Trained


def test_it_finds_the_translation_of_a_number(run: Path, task: Embedding) -> None:
    """40 held-out pairs: chance is 0.025."""
    last = read_metrics(run)[-1]
    assert last["val/accuracy"] > 0.5
    assert last["val/mrr"] >= last["val/accuracy"]
    trained = load(run)
    vectors, figures = evaluated(TextEncoder(trained.model, trained.tokenizer, rows=7), task.pairs.validation)
    assert [each.shape for each in vectors] == [(40, 32), (40, 32)]
    assert figures["mrr"] == pytest.approx(max(line.get("val/mrr", 0) for line in read_metrics(run)), abs=1e-6)
    _, again = Embedding.evaluate_trained(trained, run, EvaluateConfig())
    assert again == pytest.approx({f"val/{name}": value for name, value in figures.items()}, abs=1e-6)


def test_the_command_writes_vectors_cosines_and_what_is_found(run: Path, tmp_path: Path, command: Command) -> None:
    texts = ["one two", "eins zwei", "five"]
    trained = load(run)
    vectors = TextEncoder(trained.model, trained.tokenizer).encode(texts)
    code, out, err = command("embed", run, *texts)
    assert (code, err) == (0, [])
    np.testing.assert_allclose([json.loads(line)["vector"] for line in out.splitlines()], vectors, atol=1e-6)
    code, out, _ = command("embed", run, *texts, "--similarity", "--out", tmp_path / "v.npz")
    cosines = [[float(word) for word in line.split()] for line in out.splitlines()]
    np.testing.assert_allclose(cosines, vectors @ vectors.T, atol=1e-4)
    with np.load(tmp_path / "v.npz", allow_pickle=False) as saved:
        assert saved["texts"].tolist() == texts
        np.testing.assert_allclose(saved["vectors"], vectors, atol=1e-6)
    (tmp_path / "lines.txt").write_text("sechs\neins zwei\n\nvier vier\n", encoding="utf-8")
    code, out, _ = command("embed", run, "--search", "one two", tmp_path / "lines.txt", "--top", 2)
    assert out.splitlines()[0].endswith("  eins zwei")
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--search", "one"), "must be a query and a file"),
        (("--search", "one", "nowhere.txt"), "nowhere.txt' is not a file"),
        (("a", "--search", "one", "x"), "'a' is a text too many"),
        (("a", "--out", "x.json"), "out = 'x.json' must end in .npz"),
        (("a", "--top", 3), "--top has no effect"),
        (("a " * 99,), "text 1 has"),
        ((" ",), "a text in the command is empty"),
    ],
)
def test_a_mistake_is_one_line(run: Path, words: tuple[object, ...], told: str, command: Command) -> None:
    code, out, [line] = command("embed", run, *words)
    assert (code, out) == (2, "")
    assert told in line


def test_groups_that_do_not_divide_are_refused(place: Path) -> None:
    with pytest.raises(ValueError, match="group = 16 must divide the 24 pairs of a micro-batch"):
        config(place, batch_size=24)


def test_the_encoder_of_a_masked_model_is_a_start(place: Path) -> None:
    from text.config import MaskedConfig

    (place / "text.txt").write_text("".join(f"{words}\n" for words in WORDS) * 60, encoding="utf-8")
    shape = MaskedLMConfig(context=32, core=CORE)
    settings: dict[str, Any] = {"steps": 2, "bpe_size": 300, "batch_size": 4, "precision": "fp32", "device": "cpu"}
    train(MaskedConfig(data=str(place / "text.txt"), out=place / "masked", model=shape, **settings))
    start = config(place, init_from=str(place / "masked"), bpe_size=None, steps=1, out=place / "started").adapted({})
    train(start)
    first, then = load(place / "masked"), load(place / "started")
    assert then.tokenizer == first.tokenizer
    assert first.model.encoder.embed.weight.shape == then.model.encoder.embed.weight.shape
    moved = (first.model.encoder.embed.weight - then.model.encoder.embed.weight).abs().max()
    assert moved < 0.02  # one step away
