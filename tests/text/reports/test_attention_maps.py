"""The maps of `text.explain` are what the model attends to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from core.config import TransformerConfig
from core.files.serialize import to_dict
from core.training.checkpoints import Checkpoints, write_config
from tests.core.helpers import awake
from text.config import LanguageModellingConfig
from text.explain import explain
from text.models.build import build_model
from text.models.encoder import ClassifierConfig, TaggerConfig
from text.models.encoder_decoder import shape_2017
from text.models.gpt import GPTConfig
from text.models.recurrent import RecurrentConfig
from text.reports.attention_maps import attention_of, draw_attention, written
from text.tokens.base import ByteTokenizer, CharTokenizer
from text.trained import Trained

CORE = TransformerConfig(dim=16, depth=2, n_heads=2)
LETTERS = CharTokenizer("abcdefghijklmnopqrstuvwxyz .$\n")


def trained(config: Any) -> Trained:
    """An awake model over LETTERS."""
    model = awake(build_model(replace(config, vocab_size=LETTERS.vocab_size)))
    return Trained(model, LanguageModellingConfig(steps=1), 0, torch.device("cpu"), LETTERS)


def test_a_gpt_attends_to_the_past_alone() -> None:
    found = attention_of(trained(GPTConfig(context=16, core=CORE)), "the cat")
    assert found.queries == found.keys == ["t", "h", "e", "\u2423", "c", "a", "t"]
    assert [tuple(weights.shape) for weights in found.maps] == [(2, 7, 7)] * 2
    for weights in found.maps:
        assert torch.allclose(weights.sum(-1), torch.ones(2, 7))
        assert (weights.triu(1) == 0).all()


def test_an_encoder_attends_to_both_sides() -> None:
    found = attention_of(trained(ClassifierConfig(context=16, labels=("a", "b"), core=CORE)), "the cat")
    assert all((weights > 0).all() for weights in found.maps)


def test_a_target_attends_to_its_source() -> None:
    shape = replace(shape_2017(dim=16, depth=2, n_heads=2, ffn_dim=16, context=16), decoder_depth=1)
    model = trained(shape)
    found = attention_of(model, "the cat", "a dog")
    assert found.keys[-1] == found.queries[-1] == "(end)"
    assert (len(found.keys), len(found.queries)) == (8, 6)
    target = torch.tensor([[0, *LETTERS.encode("a dog").tolist()]])
    source = torch.tensor([[*LETTERS.encode("the cat").tolist(), 0]])
    assert torch.allclose(found.maps[0].mean(0), model.model.alignments(source, None, target)[0])
    assert len(attention_of(model, "the cat").keys) == 8  # the translation is the model's own


@pytest.mark.parametrize(
    ("config", "prompt", "target", "message"),
    [
        (GPTConfig(context=4, core=CORE), "the cat", "", "prompt of 7 tokens must have at least 1 and at most the con"),
        (GPTConfig(context=4, core=CORE), "", "", "prompt of 0 tokens must have at least 1"),
        (GPTConfig(context=9, core=CORE), "the", "a", "target = 'a' has no effect on a GPT, which has no target"),
        (RecurrentConfig(context=9, dim=8, depth=1), "the", "", "a RecurrentLM has no attention among the tokens"),
        (TaggerConfig(words="early-mean", labels=("a", "b"), core=CORE), "the", "", "a Tagger has no attention among"),
    ],
)
def test_what_cannot_be_shown_is_refused(config: Any, prompt: str, target: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        attention_of(trained(config), prompt, target)


def test_tokens_are_written_so_that_each_is_seen() -> None:
    assert [written(LETTERS, token) for token in LETTERS.encode(" \n$").tolist()] == ["\u2423", "\u21b5", r"\$"]
    assert written(ByteTokenizer(), 0xE2) == "E2"


def test_the_command_draws_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = GPTConfig(vocab_size=LETTERS.vocab_size, context=16, core=CORE)
    run = tmp_path / "run"
    write_config(run, to_dict(LanguageModellingConfig(steps=1, model=config)))
    Checkpoints(run).write(1, {"model": trained(config).model.state_dict()}, {"state": {}})
    LETTERS.save(run)
    out = tmp_path / "maps.png"
    explain([str(run), "--checkpoint", "last", "--prompt", "the cat", "--out", str(out)])
    assert capsys.readouterr().out == f"wrote {out}: 2 layers x 2 heads\n"
    assert Image.open(out).convert("L").getextrema()[1] > 200
    with pytest.raises(ValueError, match="must be a file that ends in .png"):
        explain([str(run), "--prompt", "the cat", "--out", "maps.gif"])
    with pytest.raises(ValueError, match="^prompt is missing"):
        explain([str(run), "--out", str(out)])


def test_long_texts_are_drawn_without_names(tmp_path: Path) -> None:
    found = attention_of(trained(GPTConfig(context=64, core=CORE)), "the cat " * 8)
    draw_attention(found, tmp_path / "maps.png")
    assert (tmp_path / "maps.png").is_file()
