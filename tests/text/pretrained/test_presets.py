"""What every shipped preset trains leaves: transformers' pipeline continues a prompt with the same greedy text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file

from core.decoding.filters import Sampling
from core.decoding.generate import complete
from tests.core.helpers import awake
from tests.panels.models import example
from tests.text.processes import prose
from text.models.build import build_model
from text.models.gpt import GPT, GPTConfig
from text.presets import PRESETS
from text.pretrained.families import nearest_family
from text.pretrained.folders import export_pretrained, load_pretrained
from text.tokens.base import ByteTokenizer, CharTokenizer, Tokenizer
from text.tokens.bpe import BPETokenizer
from text.tokens.load import load_tokenizer

TEXT = prose(40)
TOKENIZERS: dict[str, Tokenizer] = {
    "char": CharTokenizer.train([TEXT]),
    "byte": ByteTokenizer(),
    "bpe": BPETokenizer.train([TEXT], 280),
}


MODELLING = {name: preset for name, preset in PRESETS.items() if preset.task == "language-modelling"}
CAUSAL = [name for name, preset in MODELLING.items() if isinstance(preset.model, GPTConfig)]
OTHERS = {
    "multi30k": "marian",
    "t5-cpu": "t5",
    "mlm-cpu": "modernbert",
    "embed-cpu": "modernbert",
}


def small(preset: str, tokenizer: Tokenizer) -> GPT:
    """A model of the preset's recipe, but small, and with random weights."""
    shape = PRESETS[preset].model
    core = replace(shape.core, dim=32, depth=2, n_heads=4, dropout=0.0, attention_dropout=0.0)
    config = replace(shape, vocab_size=tokenizer.vocab_size, context=48, core=core)
    return awake(GPT(config))


def continued(folder: Path, prompt: str) -> str:
    """What transformers' pipeline makes of a prompt in twelve tokens."""
    from transformers import pipeline

    generator = pipeline("text-generation", model=str(folder), device="cpu")
    answer = generator(prompt, max_new_tokens=12, do_sample=False, return_full_text=False)
    return str(answer[0]["generated_text"])


@pytest.mark.parametrize("preset", CAUSAL)
def test_a_pipeline_continues_a_prompt_with_the_same_greedy_text(preset: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["bpe" if PRESETS[preset].tokenizer == "gpt2" else "char"]
    model, prompt = small(preset, tokenizer), TEXT[:9]
    export_pretrained(model, tmp_path / "out", tokenizer=tokenizer)
    [new] = complete(model, [tokenizer.encode(prompt).tolist()], 12, Sampling(temperature=0))
    assert continued(tmp_path / "out", prompt) == tokenizer.decode(new)
    assert load_tokenizer(tmp_path / "out") == tokenizer
    again = load_pretrained(tmp_path / "out")
    ids = torch.randint(0, tokenizer.vocab_size, (2, 48), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(again(ids), model(ids), atol=1e-5, rtol=0)


def test_the_modern_recipe_is_nanochats_and_nanogpts_is_gpt2s() -> None:
    families = {name: nearest_family(PRESETS[name].model) for name in CAUSAL}
    assert families == {
        name: "nanochat" if name in ("char-cpu", "char-modern", "char-gpu-modern") else "gpt2" for name in CAUSAL
    }


@pytest.mark.parametrize("preset", OTHERS)
def test_a_preset_of_another_task_leaves_and_comes_back(preset: str, tmp_path: Path) -> None:
    tokenizer, shape = TOKENIZERS["bpe"], PRESETS[preset].model
    model = awake(build_model(replace(shape, vocab_size=tokenizer.vocab_size)))
    export_pretrained(model, tmp_path / "out", tokenizer=tokenizer)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == OTHERS[preset]
    again = load_pretrained(tmp_path / "out")
    inputs = example(model)
    with torch.inference_mode():
        torch.testing.assert_close(again(*inputs), model(*inputs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_kind_of_tokenizer_leaves_as_a_file_that_transformers_reads(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = TOKENIZERS[kind]
    export_pretrained(small("nanogpt-cpu", tokenizer), tmp_path / "out", tokenizer=tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in (TEXT, f"{TEXT[:20]}\n\n  {TEXT[20:40]} \n"):
        ids = tokenizer.encode(text).tolist()
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == text
    assert load_tokenizer(tmp_path / "out") == tokenizer
    theirs.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again") == tokenizer or kind == "bpe"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_weights_are_written_in_the_precision_asked_for(
    precision: Literal["fp32", "bf16"], dtype: torch.dtype, tmp_path: Path
) -> None:
    model = small("char-cpu", TOKENIZERS["char"])
    export_pretrained(model, tmp_path / "out", precision=precision)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {dtype}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    export_pretrained(model, tmp_path / "exact")
    exact = load_file(tmp_path / "exact" / "model.safetensors")
    assert all(torch.equal(weights[name], exact[name].to(dtype)) for name in exact)


def test_a_head_with_bounded_logits_decodes_alike(tmp_path: Path) -> None:
    model = small("char-cpu", TOKENIZERS["char"])
    bounded = awake(GPT(replace(model.config, logit_softcap=0.5)))
    ids = torch.randint(0, 9, (1, 20), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = bounded(ids)
        assert whole.abs().max() < 0.5
        state = bounded.new_state(1, 20)
        torch.testing.assert_close(bounded.step(ids, state), whole[:, -1], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="logit_softcap = 0"):
        GPTConfig(9, logit_softcap=0.0)
