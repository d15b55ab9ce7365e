"""The text benchmarks run in small, and their sides do the same work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks import text_encoders, text_translation
from benchmarks.measure import harness
from benchmarks.measure.harness import Contestant
from benchmarks.measure.parts import run_parts
from benchmarks.peers.sentence_encoding import its_loop
from benchmarks.steps.encoding import our_encoder, random_model, texts_of, words_of
from benchmarks.steps.text_models import SHAPES, train_step


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contestants run in this process, one after the other, which saves starting one for each."""

    def run_here(side: Contestant, *, seed: int, threads: int, timeout: float | None = None) -> Mapping[str, float]:
        return harness.work(side.function, {**side.arguments, "seed": seed})

    monkeypatch.setattr(harness, "run_once", run_here)


@pytest.mark.parametrize("family", SHAPES)
def test_both_sides_of_a_step_begin_with_the_same_loss(family: str) -> None:
    work = {"family": family, "rows": 4, "precision": "fp32", "steps": 1, "tiny": True, "dropout": 0.0}
    ours, theirs = (train_step(0, side, **work) for side in ("ours", "transformers"))
    assert ours["first_loss"] == pytest.approx(theirs["first_loss"], abs=1e-4)
    assert ours["tokens_per_core_second"] * ours["step_core_seconds"] == pytest.approx(
        theirs["tokens_per_core_second"] * theirs["step_core_seconds"]
    )


def test_translations_run_in_small_and_are_those_of_transformers(tmp_path: Path, here: None) -> None:
    words = ["--tiny", "--rounds", "1", "--steps", "1", "--batch", "4", "--sentences", "12", "--beams", "3"]
    run_parts("text_translation", text_translation.PARTS, text_translation.parse([*words, "--results", str(tmp_path)]))
    found = json.loads((tmp_path / "text_translation.json").read_text())
    assert set(found) == {"decode", "step fp32", "step bf16"}
    assert found["decode"]["same_hypotheses"]["fp32"] == 1
    assert found["decode"]["times_as_fast"]["bf16"] > 0
    assert list(found["decode"]["measured"]) == [
        f"{side}, {precision}" for precision in ("bf16", "fp32") for side in ("ours", "transformers")
    ]


def test_vectors_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    random_model(tmp_path / "model", tiny=True, seed=0)
    texts = texts_of(words_of(tmp_path / "model"), 40, seed=0)
    assert len({len(text.split()) for text in texts}) > 20
    ours, theirs = our_encoder(str(tmp_path / "model"), "fp32"), its_loop(str(tmp_path / "model"))
    np.testing.assert_allclose(ours(texts), theirs(texts), atol=1e-5)
    half = our_encoder(str(tmp_path / "model"), "bf16")(texts)
    np.testing.assert_allclose((half * ours(texts)).sum(1), 1, atol=0.01)


def test_the_comparisons_of_encoders_run_in_small(tmp_path: Path, here: None) -> None:
    words = ["--tiny", "--rounds", "1", "--steps", "1", "--batch", "2", "--texts", "9", "--precisions", "fp32"]
    run_parts("text_encoders", text_encoders.PARTS, text_encoders.parse([*words, "--results", str(tmp_path)]))
    found = json.loads((tmp_path / "text_encoders.json").read_text())
    assert set(found) == {"encode", "step bert fp32", "step modernbert fp32"}
    assert found["encode"]["difference"] < 1e-5


@pytest.mark.parametrize(
    ("module", "words", "sentence"),
    [
        (text_translation, ["--parts", "decoding"], "parts = 'decoding' is not one of: decode, step"),
        (text_encoders, ["--model", "nowhere"], "model = 'nowhere' holds no vocab.txt"),
    ],
)
def test_what_is_not_there_is_named(module: object, words: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        module.parse(words)  # type: ignore[attr-defined]
