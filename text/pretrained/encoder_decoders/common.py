"""What the families of encoder-decoders share: the model they describe, and the rules of its attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from core.config import TransformerConfig
from core.files.weights import BOTH, Rule, module, stacked
from text.models.encoder_decoder import EncoderDecoderConfig, Seq2Seq
from text.pretrained.family import Family


class EncoderDecoderFamily(Family[Seq2Seq, EncoderDecoderConfig]):
    """A family of encoder-decoders."""

    models: ClassVar[Mapping[type, type[nn.Module]]] = {EncoderDecoderConfig: Seq2Seq}
    resolved = (*Family.resolved, "decoder_depth")

    def generation(self) -> dict[str, Any]:
        """What a target begins and ends with, and what is never in it."""
        config = self.to_config()
        ids = {"decoder_start_token_id": config.start, "eos_token_id": config.eos, "pad_token_id": config.pad}
        never = [[token] for token in sorted({config.start, config.pad} - {config.eos})]
        return ids | ({"bad_words_ids": never} if never else {})

    @classmethod
    def require_every_head_its_keys(cls, core: TransformerConfig) -> None:
        """Raises ValueError for heads that share keys and values."""
        cls.require("core.n_kv_heads", core.key_heads, [core.n_heads])


def attention_rules(
    ours: str, theirs: Sequence[str], core: TransformerConfig, crossed: bool, kinds: tuple[str, ...] = BOTH
) -> list[Rule]:
    """The rules of attention `ours`, whose maps to queries, keys and values and back are `theirs`, in this order.

    crossed: whether keys and values come from another sequence, and so from a map of their own
    """
    query, key, value, out = theirs
    width = core.n_heads * core.head_width
    if crossed:
        maps = module(f"{ours}.q", query, kinds=kinds)
        maps += module(f"{ours}.kv", key, value, kinds=kinds, layout=stacked(width, width))
    else:
        maps = module(f"{ours}.qkv", query, key, value, kinds=kinds, layout=stacked(width, width, width))
    return [*maps, *module(f"{ours}.out", out, kinds=kinds)]
