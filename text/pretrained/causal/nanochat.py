"""nanochat (Karpathy 2025): squared ReLU, norms without a gain, one of them of the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from core.config import FeedForwardKind
from core.files.weights import WEIGHT, Rule, each_layer, module
from text.models.gpt import GPTConfig
from text.pretrained.causal.head import head_rules
from text.pretrained.causal.llama import LlamaLike
from text.pretrained.family import Supported, equals
from text.pretrained.rope import heads_layout

ACTIVATIONS: dict[str, FeedForwardKind] = {"relu2": "relu2"}


@dataclass(frozen=True)
class NanoChat(LlamaLike):
    """The fields of a nanochat model's `config.json`, as transformers writes it."""

    model_type = "nanochat"
    architecture = "NanoChatForCausalLM"
    supported: ClassVar[Supported] = {
        **LlamaLike.supported,
        "core.feedforward": ("relu2",),
        "core.norm": ("rms",),
        "core.embedding_norm": ("rms",),
        "core.qk_norm": ("rms",),
    }

    hidden_act: Literal["relu2"] = equals("core.feedforward", "relu2", ACTIVATIONS)  # type: ignore[assignment]
    final_logit_softcapping: float | None = equals("logit_softcap", 15.0)

    @classmethod
    def own_fields(cls, config: GPTConfig) -> dict[str, Any]:
        core = config.core
        cls.require("core.head_dim", core.head_width, [core.dim / core.n_heads])
        return super().own_fields(config)

    def rules(self, config: GPTConfig) -> list[Rule]:
        core, ours, theirs = config.core, "core.blocks.*.", "model.layers.*."
        n_heads = (core.n_heads, core.key_heads, core.key_heads)
        qkv = [f"{theirs}self_attn.{name}_proj" for name in "qkv"]
        rotated = heads_layout(core, n_heads, "backward")
        block = [
            *module(ours + "attention.branch.qkv", *qkv, kinds=WEIGHT, layout=rotated),
            *module(ours + "attention.branch.out", theirs + "self_attn.o_proj", kinds=WEIGHT),
            *module(ours + "feedforward.branch.up", theirs + "mlp.fc1", kinds=WEIGHT),
            *module(ours + "feedforward.branch.out", theirs + "mlp.fc2", kinds=WEIGHT),
        ]
        return [
            *module("embed", "model.embed_tokens", kinds=WEIGHT),
            *each_layer(block, core.depth),
            *head_rules(config),
        ]
