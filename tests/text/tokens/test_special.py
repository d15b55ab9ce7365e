"""Special tokens are those that the files beside a public tokenizer name, and they stay with it wherever it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, processors
from tokenizers import Tokenizer as Backend

from core.config import PositionConfig, TransformerConfig
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from tests.core.helpers import awake
from text.models.gpt import GPT, GPTConfig
from text.pretrained.folders import export_pretrained, load_pretrained
from text.tokens.base import CharTokenizer
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer

TEXT = "It's the 1234 cats, they sat on the 56 mats.\n\n  And the rats -- all 789 -- sat on the cats."
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
SPECIAL = ("<|im_start|>", "<|im_end|>", "<pad>")
BACKEND = BPETokenizer.train([TEXT], 300).to_json()


def backend() -> Any:
    """A byte-pair encoding with the special tokens of a chat: the ends of text, a turn and the padding."""
    made = Backend.from_str(BACKEND)
    made.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return made


ID = {name: backend().token_to_id(name) for name in ("<|endoftext|>", *SPECIAL)}


def public(folder: Path, made: Any = None, **files: dict[str, Any]) -> Path:
    """A folder with a tokenizer.json and these files beside it."""
    folder.mkdir(exist_ok=True)
    (made or backend()).save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


ENDS: dict[str, tuple[dict[str, dict[str, Any]], list[str]]] = {
    "no files": ({}, ["<|endoftext|>"]),
    "config": ({"config": {"model_type": "qwen2", "eos_token_id": ID["<|im_end|>"]}}, ["<|im_end|>"]),
    "config, a list": (
        {"config": {"model_type": "llama", "eos_token_id": [ID["<|im_end|>"], ID["<|endoftext|>"]]}},
        ["<|im_end|>", "<|endoftext|>"],
    ),
    "generation config before config": (
        {
            "config": {"model_type": "llama", "eos_token_id": ID["<pad>"]},
            "generation_config": {"eos_token_id": [ID["<|endoftext|>"], ID["<|im_end|>"]]},
        },
        ["<|endoftext|>", "<|im_end|>"],
    ),
    "tokenizer config": ({"tokenizer_config": {"eos_token": "<|im_end|>"}}, ["<|im_end|>"]),
    "tokenizer config, as an object": (
        {"tokenizer_config": {"eos_token": {"content": "<|im_end|>", "special": True}}},
        ["<|im_end|>"],
    ),
    "special tokens map": ({"special_tokens_map": {"eos_token": "<|im_end|>"}}, ["<|im_end|>"]),
    "both": (
        {"tokenizer_config": {"eos_token": "<|im_end|>"}, "generation_config": {"eos_token_id": ID["<|endoftext|>"]}},
        ["<|im_end|>", "<|endoftext|>"],
    ),
    "chat template": ({"tokenizer_config": {"chat_template": CHATML}}, ["<|endoftext|>", "<|im_end|>"]),
    "several chat templates": (
        {"tokenizer_config": {"chat_template": [{"name": "default", "template": CHATML}]}},
        ["<|endoftext|>", "<|im_end|>"],
    ),
    "chat template with its eos_token": (
        {"tokenizer_config": {"eos_token": "<pad>", "chat_template": "{{ messages[1].content + eos_token }}"}},
        ["<pad>"],
    ),
    "chat template that refuses": (
        {"tokenizer_config": {"chat_template": "{{ raise_exception('no such role') }}"}},
        ["<|endoftext|>"],
    ),
    "chat template that is none": ({"tokenizer_config": {"chat_template": "{% if %}"}}, ["<|endoftext|>"]),
    "a run's config": ({"config": {"format": 2, "config": {"eos_token_id": 3}}}, ["<|endoftext|>"]),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_text_ends_at_every_token_that_its_files_name(case: str, tmp_path: Path) -> None:
    files, ends = ENDS[case]
    tokenizer = load_tokenizer(public(tmp_path / "m", **files))
    assert {tokenizer.piece(stop).decode() for stop in tokenizer.stops} == set(ends)
    assert tokenizer.eos == ID[ends[0]]


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json"])
def test_a_chat_template_in_a_file_of_its_own_is_read(file: str, tmp_path: Path) -> None:
    folder = public(tmp_path / "m")
    (folder / file).write_text(CHATML if file.endswith("jinja") else json.dumps({"chat_template": CHATML}))
    tokenizer = load_tokenizer(folder)
    assert ID["<|im_end|>"] in tokenizer.stops
    tokenizer.save(tmp_path / "kept")
    assert (tmp_path / "kept" / file).read_text() == (folder / file).read_text()


def test_generation_ends_where_that_of_transformers_does(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    size = backend().get_vocab_size()
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    theirs = awake(LlamaForCausalLM(LlamaConfig(vocab_size=size, eos_token_id=None, bos_token_id=None, **shape)))
    prompt = [5, 40, 7]
    free = theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=20)[0, 3:].tolist()
    end = free[6]
    theirs.generation_config.eos_token_id = [end, ID["<pad>"]]
    theirs.save_pretrained(public(tmp_path / "m"))
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "m").generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=20
    )[0, 3:]
    stops = load_tokenizer(tmp_path / "m").stops
    [new] = complete(load_pretrained(tmp_path / "m"), [prompt], 20, Sampling(temperature=0), stop=stops)
    assert len(expected) == free.index(end) + 1
    assert [*new, end][: len(expected)] == expected.tolist()


def test_what_encoding_puts_before_a_prompt_is_what_the_files_say(tmp_path: Path) -> None:
    first = ("<|im_start|>", ID["<|im_start|>"])
    adding = backend()
    adding.post_processor = processors.TemplateProcessing(single=f"{first[0]} $A", special_tokens=[first])
    assert load_tokenizer(public(tmp_path / "processor", adding)).bos == first[1]
    named = {"bos_token": first[0], "eos_token": "<|im_end|>"}
    assert load_tokenizer(public(tmp_path / "named", tokenizer_config=named)).bos is None, "as in GPT-2: only a name"
    asked = named | {"add_bos_token": True}
    assert load_tokenizer(public(tmp_path / "asked", tokenizer_config=asked)).bos == first[1]
    refused = named | {"add_bos_token": False}
    assert load_tokenizer(public(tmp_path / "refused", adding, tokenizer_config=refused)).bos is None


def test_all_of_them_are_carried_into_runs_and_exports(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    files = {
        "config": {"model_type": "llama", "pad_token_id": ID["<pad>"]},
        "generation_config": {"eos_token_id": [ID["<|im_end|>"], ID["<|endoftext|>"]], "temperature": 0.6},
        "tokenizer_config": {"eos_token": "<|im_end|>", "pad_token": "<pad>", "chat_template": CHATML},
    }
    original = load_tokenizer(public(tmp_path / "m", **files))
    (tmp_path / "run").mkdir()
    original.save(tmp_path / "run")
    kept = load_tokenizer(tmp_path / "run")
    assert (kept, kept.eos, kept.stops) == (original, original.eos, original.stops)
    model = GPT(GPTConfig(kept.vocab_size, 48, core=TransformerConfig(16, 1, 2, position=PositionConfig("learned"))))
    export_pretrained(model, tmp_path / "out", tokenizer=kept)
    again = load_tokenizer(tmp_path / "out")
    assert (again, again.stops) == (original, original.stops)
    config, generation = (kind.from_pretrained(tmp_path / "out") for kind in (AutoConfig, GenerationConfig))
    assert config.eos_token_id == generation.eos_token_id == files["generation_config"]["eos_token_id"]
    assert config.pad_token_id == generation.pad_token_id == ID["<pad>"]
    assert generation.temperature == 0.6
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (theirs.eos_token, theirs.pad_token, theirs.chat_template) == ("<|im_end|>", "<pad>", CHATML)


@pytest.mark.parametrize("given", [{}, {"eos_token_id": [ID["<pad>"]]}])
def test_an_export_ends_where_its_template_ends_a_turn(given: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    other = {"chat_template": "{{ messages[0].content }}", "eos_token": "<|endoftext|>"}
    kept = load_tokenizer(public(tmp_path / "m", tokenizer_config=other, generation_config=given))
    assert ID["<|im_end|>"] not in kept.stops
    model = GPT(GPTConfig(kept.vocab_size, 48, core=TransformerConfig(16, 1, 2, position=PositionConfig("learned"))))
    export_pretrained(model, tmp_path / "out", tokenizer=kept, template=CHATML)
    ends = [*given.get("eos_token_id", []), ID["<|endoftext|>"], ID["<|im_end|>"]]
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == ends
    assert {*load_tokenizer(tmp_path / "out").stops} == {*ends}
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == CHATML
    assert "chat_template" not in json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())


def test_a_template_is_exported_beside_any_tokenizer(tmp_path: Path) -> None:
    model = GPT(GPTConfig(3, 48, core=TransformerConfig(16, 1, 2, position=PositionConfig("learned"))))
    export_pretrained(model, tmp_path / "out", tokenizer=CharTokenizer("abc"), template=CHATML)
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == CHATML
    assert not (tmp_path / "out" / "generation_config.json").exists()  # there is no token to end at


def test_tokenizers_that_end_a_text_differently_are_different(tmp_path: Path) -> None:
    one = load_tokenizer(public(tmp_path / "one"))
    other = load_tokenizer(public(tmp_path / "other", tokenizer_config={"eos_token": "<|im_end|>"}))
    assert one != other, "a text that was tokenised with one is not taken for one of the other"


# A vocabulary and its merges do not say how text is split


def pair(folder: Path, tokens: dict[str, int] | None = None, **files: dict[str, Any]) -> Path:
    """A folder with vocab.json and merges.txt alone."""
    folder.mkdir()
    model = json.loads(BACKEND)["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, model["merges"])) + "\n")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "named", [{"config": {"model_type": "qwen2"}}, {"tokenizer_config": {"tokenizer_class": "Qwen2Tokenizer"}}]
)
def test_qwens_files_are_split_as_qwen_splits(named: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    from transformers import Qwen2Tokenizer

    folder = pair(tmp_path / "m", **named)
    theirs = Qwen2Tokenizer.from_pretrained(folder)
    ours, gpt2 = load_tokenizer(folder), load_tokenizer(pair(tmp_path / "gpt2"))
    for text in (TEXT, "WE'LL  see\u0301\n\n\t12345 x", "a  b \r\n c"):
        assert ours.encode(text).tolist() == theirs(text)["input_ids"], text
    assert ours.encode(TEXT).tolist() != gpt2.encode(TEXT).tolist()
    ours.save(tmp_path / "m")
    assert load_tokenizer(tmp_path / "m") == ours


def test_tokens_beside_the_vocabulary_keep_their_ids(tmp_path: Path) -> None:
    added = {"300": {"content": "<|im_start|>", "special": True}, "301": {"content": "<|im_end|>", "special": True}}
    size = len(json.loads(BACKEND)["model"]["vocab"])
    decoder = {str(size + n): entry for n, entry in enumerate(added.values())}
    config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "added_tokens_decoder": decoder}
    tokenizer = load_tokenizer(pair(tmp_path / "m", tokenizer_config=config))
    assert (tokenizer.vocab_size, tokenizer.eos) == (size + 2, size + 1)
    config["added_tokens_decoder"] = {str(size + 7): {"content": "<|im_end|>", "special": True}}
    with pytest.raises(ValueError, match=rf"<\|im_end\|> has the id {size + 7}"):
        load_tokenizer(pair(tmp_path / "other", tokenizer_config=config))


@pytest.mark.parametrize(
    "files", [{"config": {"model_type": "llama"}}, {"tokenizer_config": {"tokenizer_class": "CodeGenTokenizerFast"}}]
)
def test_files_of_an_unknown_split_are_refused(files: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json.* (llama|CodeGenTokenizerFast) do not say.*gpt2, qwen2"):
        load_tokenizer(pair(tmp_path / "m", **files))


def test_bytes_that_utf8_never_uses_may_be_missing(tmp_path: Path) -> None:
    described = json.loads(BACKEND)
    stand_ins = [chr(byte) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))]
    vocabulary = [token for token in described["model"]["vocab"] if token not in stand_ins]
    described["model"]["vocab"] = {token: index for index, token in enumerate(vocabulary)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    every = "".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)[::0x61]
    assert tokenizer.vocab_size == len(json.loads(BACKEND)["model"]["vocab"]) - 13
    assert tokenizer.decode(tokenizer.encode(every)) == every
