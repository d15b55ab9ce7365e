"""The public families by name, and the one whose layout is nearest to a model of ours."""

from collections.abc import Callable
from typing import Any

from core.messages import nearest
from text.models.encoder import MODELS, ClassifierConfig, EncoderConfig
from text.models.encoder_decoder import EncoderDecoderConfig
from text.models.gpt import GPTConfig
from text.pretrained.causal.gpt2 import GPT2
from text.pretrained.causal.llama import Llama
from text.pretrained.causal.nanochat import NanoChat
from text.pretrained.causal.olmo import Olmo2, Olmo3
from text.pretrained.causal.windowed import Mistral, Qwen2, Qwen3, SmolLM3
from text.pretrained.encoder_decoders.marian import Marian
from text.pretrained.encoder_decoders.t5 import T5
from text.pretrained.encoders.bert import Bert, DistilBert, Roberta
from text.pretrained.encoders.modernbert import ModernBert
from text.pretrained.family import Family

FAMILIES: dict[str, type[Family[Any, Any]]] = {
    family.model_type: family
    for family in (
        *(GPT2, Llama, Mistral, Qwen2, Qwen3, SmolLM3, Olmo2, Olmo3, NanoChat),
        *(Bert, Roberta, DistilBert, ModernBert),
        *(Marian, T5),
    )
}
"""By the `model_type` of their `config.json`."""


def find_family(model_type: object) -> type[Family[Any, Any]]:
    """The family of that name. Raises ValueError for an unknown one."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ValueError(f"model_type = {model_type!r} is not a supported family; {nearest(str(model_type), FAMILIES)}")
    return FAMILIES[model_type]


def nearest_family(config: Any) -> str:
    """The name of the family whose layout is nearest to a model of this configuration. ValueError if there is none."""
    if type(config) not in NEAREST:
        raise ValueError(f"no public layout holds a model of a {type(config).__name__}: its weights are safetensors")
    return NEAREST[type(config)](config)


def nearest_causal(config: GPTConfig) -> str:
    """That of a causal language model."""
    core = config.core
    if core.position.kind != "rotary":
        return "gpt2"
    if core.norm == "rms":
        return "nanochat"
    if core.norm_placement == "branch":
        return "olmo2" if core.window is None else "olmo3"
    if core.unpositioned_layers:
        return "smollm3"
    if core.qk_norm != "none":
        return "qwen3"
    if core.bias == "qkv":
        return "qwen2"
    return "llama" if core.window is None else "mistral"


def nearest_encoder(config: EncoderConfig) -> str:
    """That of an encoder, whatever its head."""
    if config.core.position.kind == "rotary":
        return "modernbert"
    relu = isinstance(config, ClassifierConfig) and config.head.activation == "relu"
    return "distilbert" if relu else "bert"


def nearest_encoder_decoder(config: EncoderDecoderConfig) -> str:
    """That of an encoder-decoder."""
    return "t5" if config.core.position.kind == "t5" else "marian"


NEAREST: dict[type, Callable[[Any], str]] = {
    GPTConfig: nearest_causal,
    EncoderDecoderConfig: nearest_encoder_decoder,
    **dict.fromkeys(MODELS, nearest_encoder),
}
"""By the class of a model's configuration."""
