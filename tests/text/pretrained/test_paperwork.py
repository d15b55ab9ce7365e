"""What a public file says beside its numbers does not stop it; what it does not say to us is told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.core.helpers import awake
from text.pretrained.folders import load_pretrained

SHAPE = {
    **{"vocab_size": 61, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 48},
    **{"bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
}
GPT2_SHAPE = {
    **{"vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48},
    **{"bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
}
IDS = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(3))
Saved = Callable[[str], tuple[Any, Path]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A tiny model of transformers, and the folder it was saved to."""
    import transformers

    made: dict[str, tuple[Any, Path]] = {}

    def get(name: str) -> tuple[Any, Path]:
        if name not in made:
            config = transformers.AutoConfig.for_model(name, **(GPT2_SHAPE if name == "gpt2" else SHAPE))
            model = awake(transformers.AutoModelForCausalLM.from_config(config))
            made[name] = model, tmp_path_factory.mktemp(name)
            model.save_pretrained(made[name][1])
        return made[name]

    return get


def changed(folder: Path, into: Path, fields: dict[str, Any], rename: Callable[[str], str] = str) -> Path:
    """A copy with other fields in its config.json and other names of its weights."""
    config = json.loads((folder / "config.json").read_text()) | fields
    into.mkdir()
    (into / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    save_file({rename(name): tensor for name, tensor in weights.items()}, into / "model.safetensors")
    return into


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        answer = model(IDS)
    return answer if isinstance(answer, Tensor) else answer.logits


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("llama", {"_model_name_or_path": "somebody/something", "_attn_implementation_autoset": True}),
        ("llama", {"auto_map": {"AutoConfig": "somebody/something--config.Config"}, "custom_pipelines": {}}),
        ("llama", {"quantization_config": None, "partial_rotary_factor": 1.0, "use_sliding_window": False}),
        ("llama", {"hidden_act": "swish", "unsloth_version": "2024.9", "neftune_noise_alpha": 5}),
        ("llama", {"rope_parameters": None, "rope_scaling": {"rope_type": "default", "partial_rotary_factor": 1.0}}),
        ("mistral", {"attention_bias": False, "mlp_bias": False, "attn_logit_softcapping": None}),
        ("qwen2", {"rope_scaling": None, "use_mrope": False, "attention_dropout": 0, "tie_word_embeddings": False}),
        ("gpt2", {"embd_pdrop": 0.1, "reorder_and_upcast_attn": True, "activation_function": "gelu_fast"}),
    ],
)
def test_what_says_nothing_about_the_numbers_is_passed_over_without_a_word(
    name: str, fields: dict[str, Any], saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, folder = saved(name)
    capsys.readouterr()
    ours = load_pretrained(changed(folder, tmp_path / "m", fields))
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=0)
    assert capsys.readouterr() == ("", "")


def test_what_nobody_knows_is_passed_over_with_one_line(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, folder = saved("gpt2")
    capsys.readouterr()
    fields = {"n_heads": 4, "mood": "good", "nothing": None, "embd_pdrop": 0.5}
    ours = load_pretrained(changed(folder, tmp_path / "m", fields))
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=0)
    [line] = capsys.readouterr().err.splitlines()
    assert "n_heads, mood, embd_pdrop = 0.5" in line
    assert "nothing" not in line


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "_orig_mod.model._orig_mod."]
)
def test_names_as_training_tools_save_them_are_read(prefix: str, saved: Saved, tmp_path: Path) -> None:
    theirs, folder = saved("llama")
    inner = prefix.removesuffix("model._orig_mod.")

    def wrapped(name: str) -> str:
        within = prefix != inner and name.startswith("model.")
        return prefix + name.removeprefix("model.") if within else inner + name

    ours = load_pretrained(changed(folder, tmp_path / "m", {}, wrapped))
    torch.testing.assert_close(logits(ours), logits(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("llama", {"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantization_config = .*awq"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ("llama", {"is_causal": False}, "is_causal = False"),
        ("mistral", {"attention_bias": True}, "attention_bias = True"),
        ("qwen2", {"use_mrope": True}, "use_mrope = True"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True"),
    ],
)
def test_what_would_change_the_numbers_is_refused_by_name(
    name: str, fields: dict[str, Any], message: str, saved: Saved, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        load_pretrained(changed(saved(name)[1], tmp_path / "m", fields))


def test_a_model_of_another_kind_than_the_one_needed_is_refused_before_its_weights_are_read(
    saved: Saved, tmp_path: Path
) -> None:
    class Other(torch.nn.Module):
        pass

    folder = changed(saved("gpt2")[1], tmp_path / "m", {})
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="m holds GPT, needed is Other"):
        load_pretrained(folder, Other)
