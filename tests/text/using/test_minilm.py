"""all-MiniLM-L6-v2 by command: the similarities of its model card, and a search by meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.processes import Command
from tests.text.pretrained.test_minilm import CARD, FOLDER, TEXTS
from text.trained import load_any
from text.using.text_encoder import TextEncoder

pytestmark = pytest.mark.skipif(FOLDER is None, reason="the files of all-MiniLM-L6-v2 are not there: TRIPTYCH_MINILM")


def test_similarities_are_those_of_the_model_card(command: Command) -> None:
    code, out, err = command("embed", FOLDER, "That is a happy person", *CARD, "--similarity")
    assert (code, err) == (0, [])
    first = [round(float(word), 3) for word in out.splitlines()[0].split()]
    assert first == [1, *CARD.values()]


def test_a_file_is_searched_by_meaning(tmp_path: Path, command: Command) -> None:
    lines = ["A cat sleeps on the sofa.", "The stock market fell today.", "Rain is expected tomorrow."]
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    for query, found in (("weather forecast", lines[2]), ("a pet at home", lines[0]), ("shares lost value", lines[1])):
        code, out, _ = command("embed", FOLDER, "--search", query, tmp_path / "lines.txt", "--top", 1)
        assert code == 0
        assert out.splitlines()[0].endswith(found)


def test_a_vector_is_the_same_for_any_batch_and_order() -> None:
    trained = load_any(str(FOLDER))
    alone = np.concatenate([TextEncoder(trained.model, trained.tokenizer).encode([text]) for text in TEXTS])
    for rows in (2, 3, 64):
        encoder = TextEncoder(trained.model, trained.tokenizer, rows=rows)
        np.testing.assert_allclose(encoder.encode(TEXTS), alone, atol=1e-6)
        np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], alone, atol=1e-6)
