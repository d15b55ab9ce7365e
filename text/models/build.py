"""The model that a configuration describes."""

from typing import Any

from torch import nn

from text.models import encoder
from text.models.encoder_decoder import EncoderDecoderConfig, Seq2Seq
from text.models.gpt import GPT, GPTConfig
from text.models.recurrent import RecurrentConfig, RecurrentLM
from text.models.recurrent_seq2seq import RecurrentSeq2Seq, RecurrentSeq2SeqConfig

MODELS: dict[type, type[nn.Module]] = {
    GPTConfig: GPT,
    RecurrentConfig: RecurrentLM,
    EncoderDecoderConfig: Seq2Seq,
    RecurrentSeq2SeqConfig: RecurrentSeq2Seq,
    **encoder.MODELS,
}
"""By the class of the configuration."""


def build_model(config: Any) -> Any:
    """A new model of the shape that a configuration describes."""
    return MODELS[type(config)](config)
