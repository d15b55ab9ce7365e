"""Blanks are filled as other tools fill them: by public models, and by ours once they have left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.optim.config import OptimizerConfig
from tests.core.helpers import awake
from tests.processes import Command
from tests.text.pretrained.test_masked import MODERN, SHAPES, tokenizer
from tests.text.processes import prose
from tests.text.tokens.test_unigram import pieces
from text.config import DenoisingConfig, MaskedConfig
from text.models.encoder import MaskedLM, MaskedLMConfig
from text.models.encoder_decoder import Seq2Seq, shape_modern
from text.models.heads import HeadConfig
from text.pretrained.folders import export_pretrained
from text.tokens.load import load_tokenizer
from text.train import train
from text.trained import load
from text.using.filler import MaskFiller, SpanFiller, build_filler

TEXT = "The king sees {} child, and 7 {} by."
SMALL: dict[str, Any] = {"bpe_size": 300, "batch_size": 16, "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("filler")
    (folder / "text.txt").write_text(prose(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_DATA", str(folder / "data"))
        yield folder


def assert_filled_alike(folder: Path, filler: MaskFiller) -> None:
    from transformers import pipeline

    theirs = pipeline("fill-mask", model=str(folder), top_k=4)
    expected = theirs(TEXT.format(*[theirs.tokenizer.mask_token] * 2))
    found = filler.fill(TEXT.format("[MASK]", "<mask>"), 4)
    assert len(found) == len(expected) == 2
    for ours, other in zip(found, expected, strict=True):
        assert [each.probability for each in ours] == pytest.approx([each["score"] for each in other], rel=1e-4)
        assert [each.text.strip() for each in ours] == [each["token_str"].strip().removeprefix("##") for each in other]


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_a_public_model_fills_blanks_as_transformers_does(family: str, tmp_path: Path) -> None:
    kind = "wordpiece" if family == "bert" else family
    own = tokenizer(kind, tmp_path / "tokenizer")
    model = awake(MaskedLM(replace(SHAPES[family], vocab_size=own.vocab_size))).float().eval()
    export_pretrained(model, tmp_path / "model", family, tokenizer=own)
    assert_filled_alike(tmp_path / "model", MaskFiller(model, load_tokenizer(tmp_path / "model")))


def test_a_run_that_has_left_fills_blanks_as_before(place: Path) -> None:
    shape = MaskedLMConfig(context=40, core=MODERN, head=HeadConfig("dense-norm", "gelu", "output"))
    words = MaskedConfig(data=str(place / "text.txt"), out=place / "run", steps=20, model=shape, **SMALL)
    train(replace(words, optimizer=OptimizerConfig("muon", lr=1e-2)))
    trained = load(place / "run")
    export_pretrained(trained.model, place / "left", tokenizer=trained.tokenizer)
    filler = build_filler(trained.model, trained.tokenizer)
    assert isinstance(filler, MaskFiller)
    assert_filled_alike(place / "left", filler)


def test_the_command_fills_with_a_public_model(tmp_path: Path, command: Command) -> None:
    own = tokenizer("wordpiece", tmp_path / "tokenizer")
    model = awake(MaskedLM(replace(SHAPES["bert"], vocab_size=own.vocab_size))).float().eval()
    export_pretrained(model, tmp_path / "model", "bert", tokenizer=own)
    code, out, err = command("fill", tmp_path / "model", "the [MASK] sees", "--top", 2)
    assert (code, err) == (0, [])
    [best, second] = MaskFiller(model, own).fill("the [MASK] sees", 2)[0]
    assert out.splitlines() == [f"1  {each.probability:.4f}  {each.text.strip()}" for each in (best, second)]
    code, out, [line] = command("fill", tmp_path / "model", "the sees")
    assert (code, out) == (2, "")
    assert "has no blank: write [MASK] or <mask>" in line


# T5


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as that of a T5 of random weights."""
    from transformers import T5Tokenizer

    folder = tmp_path_factory.mktemp("t5")
    T5Tokenizer(vocab=pieces(), extra_ids=10).save_pretrained(folder / "tokenizer")
    own = load_tokenizer(folder / "tokenizer")
    shape = shape_modern(dim=32, depth=2, n_heads=2, head_dim=16, ffn_dim=64, dropout=0.0, context=64)
    torch.manual_seed(1)
    model = awake(Seq2Seq(replace(shape, vocab_size=own.vocab_size + 4, start=0, eos=1, pad=0))).float().eval()
    export_pretrained(model, folder / "model", "t5", tokenizer=own)
    return folder / "model"


def test_spans_are_written_as_transformers_generates_them(t5: Path, command: Command) -> None:
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    from text.trained import load_any

    text = "The <extra_id_0> walks in <extra_id_1> park"
    theirs, names = T5ForConditionalGeneration.from_pretrained(t5).eval(), AutoTokenizer.from_pretrained(t5)
    trained = load_any(str(t5))
    filler = build_filler(trained.model, trained.tokenizer)
    assert isinstance(filler, SpanFiller)
    given = names(text, return_tensors="pt").input_ids
    ours = filler.write(given[0].tolist(), 2)
    expected = theirs.generate(given, max_new_tokens=len(ours), do_sample=False)[0, 1:].tolist()
    assert ours == expected[: len(ours)]
    assert len(ours) > 3
    code, out, err = command("fill", t5, text)
    assert (code, err) == (0, [])
    assert out.splitlines() == [f"<extra_id_{n}>  {span}" for n, span in enumerate(filler.fill(text))]


def test_a_model_of_another_kind_is_named(place: Path, command: Command) -> None:
    shape = shape_modern(dim=32, depth=1, n_heads=2, head_dim=16, ffn_dim=64, context=32)
    data, out = str(place / "text.txt"), place / "spans"
    train(DenoisingConfig(data=data, out=out, steps=1, sentinels=9, model=shape, **SMALL))
    code, _, [line] = command("embed", place / "spans", "a text")
    assert code == 2
    assert "a model that gives vectors is needed, and this one is no encoder: Seq2Seq" in line
    code, _, [line] = command("fill", place / "spans", "the [MASK] sees")
    assert code == 2
    assert "blanks must be <extra_id_0>" in line
