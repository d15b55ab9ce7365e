"""A small published model that was really trained generates its published text here."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.decoding.filters import Sampling
from core.decoding.generate import complete
from tests.text.pretrained.llama2c import LlamaCTokenizer, load_llama2c
from text.models.gpt import GPT
from text.pretrained.folders import export_pretrained, load_pretrained

GREEDY = Sampling(temperature=0)
TOKENS = 200  # of the published text


@pytest.fixture(scope="module")
def folder(data_root: Path) -> Path:
    folder = data_root / "stories260k"
    if not folder.is_dir():
        pytest.skip("no stories260k in TRIPTYCH_DATA")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> GPT:
    return load_llama2c(folder / "stories260K.bin")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> LlamaCTokenizer:
    return LlamaCTokenizer.read(folder / "tok512.bin")


@pytest.fixture(scope="module")
def story(folder: Path) -> str:
    return (folder / "expected.txt").read_text()


@pytest.fixture(scope="module")
def generated(model: GPT, tokenizer: LlamaCTokenizer) -> list[int]:
    return complete(model, [[tokenizer.bos]], TOKENS, GREEDY)[0]


def test_greedy_decoding_with_the_cache_gives_the_published_text(
    generated: list[int], tokenizer: LlamaCTokenizer, story: str
) -> None:
    assert tokenizer.decode([tokenizer.bos, *generated]) == story


def test_the_published_text_is_predicted_token_by_token_without_a_cache_too(
    model: GPT, generated: list[int], tokenizer: LlamaCTokenizer
) -> None:
    ids = torch.tensor([[tokenizer.bos, *generated]])
    with torch.inference_mode():
        logits = model(ids[:, :-1])  # (1, T, V), no cache
    assert logits.argmax(-1).tolist() == ids[:, 1:].tolist()
    best = logits.topk(2).values
    assert (best[..., 0] - best[..., 1]).min() > 1e-3, "no choice depends on rounding"


def test_it_goes_on_past_its_context(model: GPT, tokenizer: LlamaCTokenizer, generated: list[int]) -> None:
    longer = complete(model, [[tokenizer.bos]], model.context + 40, GREEDY)[0]
    assert longer[:TOKENS] == generated
    visible = longer[model.context // 2 : -1]  # to the last token: the half that refilled the cache, and what follows
    with torch.inference_mode():
        assert longer[-1] == model(torch.tensor([visible]))[0, -1].argmax()


def test_its_export_gives_the_same_logits_in_transformers(
    model: GPT, generated: list[int], tokenizer: LlamaCTokenizer, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    export_pretrained(model, tmp_path / "stories")
    theirs, loading = AutoModelForCausalLM.from_pretrained(tmp_path / "stories", output_loading_info=True)
    assert not any(loading.values())
    ids = torch.tensor([[tokenizer.bos, *generated]])
    with torch.inference_mode():
        ours, again = model(ids), load_pretrained(tmp_path / "stories")(ids)
        torch.testing.assert_close(theirs(ids).logits, ours, atol=3e-5, rtol=0)  # logits reach 20
        torch.testing.assert_close(again, ours, atol=3e-5, rtol=0)


def test_exporting_twice_gives_the_same_bits(model: GPT, tmp_path: Path) -> None:
    export_pretrained(model, tmp_path / "once")
    export_pretrained(load_pretrained(tmp_path / "once"), tmp_path / "twice")
    once, twice = (load_file(tmp_path / name / "model.safetensors") for name in ("once", "twice"))
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    configs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("once", "twice")]
    assert configs[0] == configs[1]


# The format, where there is no real data


def checkpoint(tokens: int, context: int = 6) -> bytes:
    """One layer of dim 4, hidden 8, two heads and one key head, its numbers counting up."""
    matrices = abs(tokens) * 4 + 4 + 4 * 4 + 2 * (2 * 4) + 4 * 4 + 4 + 3 * (8 * 4) + 4
    size = matrices + context * 2 + (abs(tokens) * 4 if tokens < 0 else 0)
    return struct.pack("<7i", 4, 8, 1, 2, 1, tokens, context) + struct.pack(f"<{size}f", *range(size))


@pytest.mark.parametrize(("tokens", "head"), [(5, "tied"), (-5, "untied")])
def test_a_negative_number_of_tokens_brings_a_head_of_its_own(tokens: int, head: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(checkpoint(tokens))
    model = load_llama2c(tmp_path / "model.bin")
    assert (model.config.head, model.config.vocab_size, model.context) == (head, 5, 6)
    assert model.embed.weight[0, 0] == 0
    last = model.head.weight[-1, -1].item()
    assert last == (19 if head == "tied" else (len(checkpoint(tokens)) - 28) // 4 - 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short"),
        (checkpoint(5)[:-4], "bytes, its header"),
        (checkpoint(5) + b"\0", "bytes, its header"),
        (struct.pack("<7i", 0x616B3432, 1, 4, 8, 1, 2, 1), "not a llama2.c checkpoint of version 0"),
        (struct.pack("<7i", 4, 8, 1, 3, 1, 5, 6), "version 0: n_heads = 3 must divide dim = 4"),
        (struct.pack("<7i", 4, 8, 1, 2, 1, 5, -6), "version 0: context = -6"),
    ],
)
def test_another_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_llama2c(tmp_path / "model.bin")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*none\.bin"):
        load_llama2c(tmp_path / "none.bin")


def pieces(*texts: bytes) -> bytes:
    return struct.pack("<i", 9) + b"".join(struct.pack("<fi", 0.0, len(text)) + text for text in texts)


def test_pieces_decode_with_bytes_and_without_ends(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.bin"
    file.write_bytes(pieces(b"<unk>", b"\n<s>\n", b"\n</s>\n", b" a", b"b", b"<0xC3>", b"<0xA9>"))
    tokenizer = LlamaCTokenizer.read(file)
    assert tokenizer.decode([1, 3, 3, 4, 5, 6, 2]) == "a abé"


@pytest.mark.parametrize("cut", [1, 5, 10])
def test_truncated_pieces_are_refused(cut: int, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.bin"
    file.write_bytes(pieces(b"<unk>", b"<s>", b"</s>", b"a b")[:-cut])
    with pytest.raises(ValueError, match=r"tokenizer\.bin is truncated"):
        LlamaCTokenizer.read(file)
