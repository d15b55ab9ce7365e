"""A masked model leaves with its tokenizer, and transformers fills the same blanks with it, whatever the layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.config import PositionConfig, TransformerConfig
from tests.core.helpers import awake
from tests.text.processes import prose
from tests.text.tokens.test_framing import modernbert, roberta
from text.models.encoder import Classifier, ClassifierConfig, MaskedLM, MaskedLMConfig
from text.models.heads import HeadConfig
from text.pretrained.folders import export_pretrained, load_pretrained
from text.tokens.base import ByteTokenizer, Tokenizer
from text.tokens.load import load_tokenizer
from text.tokens.wordpiece import WordPieceTokenizer

TEXT = prose(40)
WORDPIECE = WordPieceTokenizer.train([TEXT], 200)
BERT = TransformerConfig(
    dim=32, depth=2, n_heads=4, ffn_dim=128, norm_placement="post", norm_eps=1e-12, embedding_norm="layernorm",
    position=PositionConfig("learned"),
)  # fmt: skip
MODERN = TransformerConfig(
    dim=32, depth=3, n_heads=4, feedforward="geglu", bias="none", embedding_norm="layernorm", first_norm="none",
    window=4, window_layers=(1, 2),
)  # fmt: skip
SHAPES = {
    "bert": MaskedLMConfig(0, 40, 2, BERT),
    "roberta": MaskedLMConfig(0, 40, 1, BERT),
    "distilbert": MaskedLMConfig(0, 40, 0, BERT),
    "modernbert": MaskedLMConfig(0, 40, 0, MODERN, HeadConfig("dense-norm", "gelu", "output")),
}


def tokenizer(kind: str, folder: Path) -> Tokenizer:
    if kind == "wordpiece":
        return WORDPIECE
    return load_tokenizer((roberta if kind == "roberta" else modernbert)(folder))


def filled(model: MaskedLM, tokenizer: Tokenizer, text: str) -> tuple[list[int], list[float]]:
    """The five most probable tokens in place of the mask, and their probabilities."""
    ids = torch.from_numpy(tokenizer.encode_marked(text).ids)[None]
    with torch.inference_mode():
        scores = model(ids, None, (ids[0] == tokenizer.mask).nonzero()[0])
    best = scores[0].softmax(-1).topk(5)
    return best.indices.tolist(), best.values.tolist()


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("kind", ["wordpiece", "roberta", "modernbert"])
def test_a_pipeline_fills_the_blank_with_the_same_tokens(family: str, kind: str, tmp_path: Path) -> None:
    from transformers import pipeline

    own = tokenizer(kind, tmp_path / "tokenizer")
    model = awake(MaskedLM(replace(SHAPES[family], vocab_size=own.vocab_size)))
    export_pretrained(model, tmp_path / "out", family, own)
    name = own.piece(own.mask or 0).decode().strip()
    text = f"the cats {name} on the rats"
    found = pipeline("fill-mask", model=str(tmp_path / "out"), device="cpu")(text)
    tokens, probabilities = filled(model, own, text)
    assert [each["token"] for each in found] == tokens
    assert [each["score"] for each in found] == pytest.approx(probabilities, abs=1e-5)
    again = load_pretrained(tmp_path / "out", MaskedLM)
    assert filled(again, load_tokenizer(tmp_path / "out"), text)[0] == tokens


def test_a_pipeline_gives_a_pair_of_texts_the_same_label(tmp_path: Path) -> None:
    from transformers import pipeline

    config = ClassifierConfig(WORDPIECE.vocab_size, 40, 2, BERT, ("no", "perhaps", "yes"))
    model = awake(Classifier(config))
    export_pretrained(model, tmp_path / "out", tokenizer=WORDPIECE)
    pair = {"text": "the cats sat", "text_pair": "the rats sat too"}
    found: Any = pipeline("text-classification", model=str(tmp_path / "out"), device="cpu", top_k=3)(pair)
    framed = WORDPIECE.encode_framed(*pair.values())
    with torch.inference_mode():
        ids, types = (torch.from_numpy(part)[None] for part in framed)
        scores = model(ids, types=types)[0].softmax(-1).tolist()
    assert {each["label"]: each["score"] for each in found} == pytest.approx(
        dict(zip(config.labels, scores, strict=True)), abs=1e-5
    )


def test_positions_of_a_roberta_are_counted_from_behind_its_tokenizers_padding(tmp_path: Path) -> None:
    from transformers import AutoConfig

    model = awake(MaskedLM(replace(SHAPES["roberta"], vocab_size=WORDPIECE.vocab_size)))
    export_pretrained(model, tmp_path / "out", "roberta", WORDPIECE)
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.pad_token_id, config.max_position_embeddings) == (WORDPIECE.pad, 40 + WORDPIECE.pad + 1)
    model = MaskedLM(replace(SHAPES["roberta"], vocab_size=256))
    with pytest.raises(ValueError, match="roberta layout counts positions from the padding token"):
        export_pretrained(model, tmp_path / "other", "roberta", ByteTokenizer())
    assert not (tmp_path / "other").exists()
