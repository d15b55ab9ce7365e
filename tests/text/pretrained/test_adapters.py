"""Adapters in peft's layout: its published names, out and in again to the same logits, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.adapters.config import AdapterConfig
from core.adapters.lora import adapt, merge
from core.adapters.peft import CONFIG, WEIGHTS
from tests.core.adapters.test_lora import moved
from tests.core.helpers import awake, shape
from text.models.gpt import GPT, GPTConfig
from text.pretrained.folders import export_adapter, export_pretrained, load_pretrained

IDS = torch.arange(24).reshape(2, 12) % 23
LLAMA = shape(n_kv_heads=2, feedforward="swiglu", norm="rmsnorm", bias="none", pairing="halves")
GPT2 = shape("learned", feedforward="gelu-tanh", bias="all")
CASES = {
    "llama q and v": ("llama", LLAMA, AdapterConfig("lora", rank=3, targets=("q", "v"))),
    "llama everything": ("llama", LLAMA, AdapterConfig("dora", rank=3, targets=("all",))),
    "gpt2 q and v": ("gpt2", GPT2, AdapterConfig("lora", rank=2, alpha=5, targets=("q", "v", "attention.out"))),
    "gpt2 everything": ("gpt2", GPT2, AdapterConfig("dora", rank=2, targets=("all",))),
}


@pytest.mark.parametrize("name", CASES)
def test_out_and_in_again(name: str, tmp_path: Path) -> None:
    family, core, config = CASES[name]
    model = awake(GPT(GPTConfig(23, context=16, core=core)))
    export_pretrained(model, tmp_path / "base", family)
    moved(adapt(model, config))
    export_adapter(model, config, tmp_path / "adapter", str(tmp_path / "base"), family)
    torch.testing.assert_close(load_pretrained(tmp_path / "adapter")(IDS), merge(model)(IDS), rtol=1e-4, atol=2e-5)


def test_the_names_and_fields_are_those_of_peft(tmp_path: Path) -> None:
    """As its documentation shows them (Checkpoint format): base_model.model.[MODULE].lora_[A|B].weight."""
    family, core, config = CASES["llama q and v"]
    model = moved(adapt(awake(GPT(GPTConfig(23, context=16, core=core))), config))
    export_adapter(model, config, tmp_path / "adapter", "org/base", family)
    shapes = {key: tuple(part.shape) for key, part in load_file(tmp_path / "adapter" / WEIGHTS).items()}
    place = "base_model.model.model.layers.{}.self_attn.{}_proj.lora_{}.weight"
    widths = {"q": 32, "v": 16}
    expected = {place.format(n, part, "A"): (3, 32) for n in range(2) for part in "qv"}
    expected |= {place.format(n, part, "B"): (widths[part], 3) for n in range(2) for part in "qv"}
    assert shapes == expected
    said = json.loads((tmp_path / "adapter" / CONFIG).read_text())
    assert {name: said[name] for name in ("peft_type", "base_model_name_or_path", "r", "lora_alpha", "bias")} == {
        "peft_type": "LORA",
        "base_model_name_or_path": "org/base",
        "r": 3,
        "lora_alpha": 16.0,
        "bias": "none",
    }
    assert "model.layers.1.self_attn.v_proj" in said["target_modules"]
    assert said["fan_in_fan_out"] is False
    _, core, config = CASES["gpt2 q and v"]
    model = moved(adapt(awake(GPT(GPTConfig(23, context=16, core=core))), config))
    export_adapter(model, config, tmp_path / "fused", "gpt2", "gpt2")
    fused = load_file(tmp_path / "fused" / WEIGHTS)
    assert fused["base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"].shape == (4, 32)
    said = json.loads((tmp_path / "fused" / CONFIG).read_text())
    assert said["fan_in_fan_out"] is True
    assert said["rank_pattern"]["transformer.h.0.attn.c_attn"] == 4
    assert said["alpha_pattern"]["transformer.h.0.attn.c_attn"] == 10


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    family, core, config = CASES["llama q and v"]
    model = awake(GPT(GPTConfig(23, context=16, core=core)))
    export_pretrained(model, tmp_path / "base", family)
    export_adapter(adapt(model, config), config, tmp_path / "a", str(tmp_path / "base"), family)
    said, tensors = json.loads((tmp_path / "a" / CONFIG).read_text()), load_file(tmp_path / "a" / WEIGHTS)

    def refused(match: str, change: dict[str, object], rename: tuple[str, str] = ("", "")) -> None:
        (tmp_path / "a" / CONFIG).write_text(json.dumps(said | change))
        save_file(
            {key.replace(*rename) if any(rename) else key: p for key, p in tensors.items()}, tmp_path / "a" / WEIGHTS
        )
        with pytest.raises(ValueError, match=match):
            load_pretrained(tmp_path / "a")

    refused("peft_type = 'LOHA' is not one of: LORA", {"peft_type": "LOHA"})
    refused("init_lora_weights = 'pissa' is not one of", {"init_lora_weights": "pissa"})
    refused("base_model_name_or_path is missing", {"base_model_name_or_path": None})
    refused("no model.layers.0.mlp.q_proj.weight to go with it", {}, ("self_attn", "mlp"))
    refused("which is not supported", {}, ("lora_A.weight", "lora_embedding_A"))
    refused("lora_B.weight to go with it", {}, ("lora_B.weight", "lora_B.bias"))
    refused("no base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", {"use_dora": True})
    scaled = replace(config, alpha=2.0)
    assert scaled.alpha / scaled.rank == pytest.approx(2 / 3)
