"""How the vectors of tokens become that of a text is read and written where sentence-transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.config import PositionConfig, TransformerConfig
from tests.core.helpers import awake
from text.models.encoder import Embedder, EmbedderConfig, MaskedLM, MaskedLMConfig
from text.pretrained.folders import export_pretrained, load_pretrained

CORE = TransformerConfig(
    dim=32, depth=2, n_heads=4, ffn_dim=128, norm_placement="post", norm_eps=1e-12, embedding_norm="layernorm",
    position=PositionConfig("learned"),
)  # fmt: skip
IDS = torch.randint(5, 61, (3, 20), generator=torch.Generator().manual_seed(3))
LENGTHS = torch.tensor([20, 13, 4])
KIND = "sentence_transformers.models."


def folder(at: Path, chain: str = "Transformer Pooling", pooling: Any = None, **transformer: Any) -> Path:
    """A folder as sentence-transformers writes it."""
    export_pretrained(awake(MaskedLM(MaskedLMConfig(61, 24, 2, CORE))), at, "bert")
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": KIND + kind}
        for n, kind in enumerate(chain.split())
    ]
    (at / "modules.json").write_text(json.dumps(modules))
    (at / "1_Pooling").mkdir()
    said = pooling or {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (at / "1_Pooling" / "config.json").write_text(json.dumps(said))
    if transformer:
        (at / "sentence_bert_config.json").write_text(json.dumps(transformer))
    return at


@pytest.mark.parametrize(
    ("pooling", "chain", "ours"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "Transformer Pooling", ("class", "free")),
        ({"pooling_mode_mean_tokens": True}, "Transformer Pooling Normalize", ("mean", "unit")),
        ({"pooling_mode_max_tokens": True, "include_prompt": True}, "Transformer Pooling", ("max", "free")),
        ({"pooling_mode": "cls"}, "Transformer Pooling Normalize", ("class", "unit")),
        ({}, "Transformer", ("mean", "free")),
    ],
)
def test_pooling_and_normalisation_are_read(pooling: Any, chain: str, ours: tuple[str, str], tmp_path: Path) -> None:
    model = load_pretrained(folder(tmp_path / "m", chain, pooling), Embedder)
    assert (model.config.pooling, model.config.length) == ours


def test_the_head_of_a_masked_language_model_is_passed_over(tmp_path: Path) -> None:
    plain = folder(tmp_path / "m")
    masked = load_pretrained(plain, Embedder)
    bare = {
        name.removeprefix("bert."): tensor
        for name, tensor in load_file(plain / "model.safetensors").items()
        if name.startswith("bert.")
    }
    save_file(bare, plain / "model.safetensors")
    assert torch.equal(load_pretrained(plain)(IDS, LENGTHS), masked(IDS, LENGTHS))


@pytest.mark.parametrize(("said", "ours"), [(16, 16), (24, None), (512, None), (None, None)])
def test_the_tokens_that_are_meant_to_be_read_are_no_more_than_the_context(
    said: int | None, ours: int | None, tmp_path: Path
) -> None:
    model = load_pretrained(folder(tmp_path / "m", max_seq_length=said, do_lower_case=False), Embedder)
    assert model.config.max_tokens == ours


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("pooling", ["class", "mean", "max"])
@pytest.mark.parametrize(("length", "limit"), [("unit", 16), ("free", None)])
def test_an_embedder_comes_back_as_it_was(family: str, pooling: Any, length: Any, limit: Any, tmp_path: Path) -> None:
    types = {"bert": 2, "roberta": 1, "distilbert": 0}[family]
    config = EmbedderConfig(61, 24, types, CORE, pooling=pooling, length=length, max_tokens=limit)
    model = awake(Embedder(config))
    export_pretrained(model, tmp_path / "out", family)
    again = load_pretrained(tmp_path / "out", Embedder)
    assert again.config == config
    assert torch.equal(again(IDS, LENGTHS), model(IDS, LENGTHS))


@pytest.mark.parametrize(
    ("chain", "pooling", "message"),
    [
        ("Transformer Pooling Dense", None, "chains Transformer > Pooling > Dense, accepted is: Transformer, or"),
        ("Transformer Normalize", None, "chains Transformer > Normalize"),
        (
            "Transformer Pooling",
            {"pooling_mode_lasttoken": True},
            "pools by pooling_mode_lasttoken, accepted is",
        ),
        ("Transformer Pooling", {"pooling_mode": "weightedmean"}, "pools by weightedmean"),
        ("Transformer Pooling", {"word_embedding_dimension": 32}, "pools by nothing"),
        (
            "Transformer Pooling",
            {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
            "pools by pooling_mode_mean_tokens and pooling_mode_max_tokens",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(chain: str, pooling: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_pretrained(folder(tmp_path / "m", chain, pooling))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{}]", "is not a list of modules"),
        ("{", "is not a list of modules"),
        (
            json.dumps([{"path": "", "type": "a.Transformer"}, {"path": "../x", "type": "a.Pooling"}]),
            "no folder",
        ),
    ],
)
def test_a_damaged_list_of_modules_is_refused(text: str, message: str, tmp_path: Path) -> None:
    damaged = folder(tmp_path / "m")
    (damaged / "modules.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_pretrained(damaged)
