"""Reads llama2.c's own files (Karpathy 2023): a checkpoint of "version 0", and the tokenizer that belongs to it.

A checkpoint is seven int32 (dim, hidden, layers, heads, key heads, tokens, context), then float32: each kind of weight
for all layers in turn, then two tables of the rotation, which follow from base 10000. A negative number of tokens says
that an untied head comes last. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from core.config import PositionConfig, TransformerConfig
from core.files.tensors import Uninitialised
from core.files.weights import import_weights
from text.models.gpt import GPT, GPTConfig
from text.pretrained.causal.llama import Llama

HEADER = struct.Struct("<7i")
ROTATION = "rotation"  # tables that are not needed
Section = tuple[str, tuple[int, ...]]


def load_llama2c(path: str | Path) -> GPT:
    """The model of a checkpoint, in evaluation mode. Raises ValueError for any other file."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    config = _config(path)
    sections = list(_sections(config))
    expected = HEADER.size + 4 * sum(prod(shape) for _, shape in sections)
    if path.stat().st_size != expected:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, its header describes {expected}")
    with Uninitialised():
        model = GPT(config)
    numbers = torch.from_numpy(np.fromfile(path, "<f4", offset=HEADER.size))
    import_weights(model, dict(_weights(numbers, sections, config)), Llama.from_config(config).rules(config))
    return model.eval()


def _config(path: Path) -> GPTConfig:
    with path.open("rb") as file:
        header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        raise ValueError(f"{path} is too short for a llama2.c checkpoint")
    dim, hidden, depth, n_heads, key_heads, tokens, context = HEADER.unpack(header)
    if not (0 < dim < 1 << 20 and 0 < depth < 1 << 12):
        raise ValueError(f"{path} is not a llama2.c checkpoint of version 0: dim = {dim}, layers = {depth}")
    try:
        core = TransformerConfig(
            dim=dim,
            depth=depth,
            n_heads=n_heads,
            n_kv_heads=key_heads,
            ffn_dim=hidden,
            feedforward="swiglu",
            norm="rmsnorm",
            bias="none",
            position=PositionConfig("rotary", pairing="interleaved"),
        )
        return GPTConfig(abs(tokens), context, "tied" if tokens > 0 else "untied", core)
    except ValueError as error:
        raise ValueError(f"{path} is not a llama2.c checkpoint of version 0: {error}") from error


def _sections(config: GPTConfig) -> Iterator[Section]:
    """What the file holds, in order: names and shapes; `*` stands for the layers, which are then the first axis."""
    c, layer, tokens = config.core, "model.layers.*.", (config.vocab_size, config.core.dim)
    queries, keys = c.n_heads * c.head_width, c.key_heads * c.head_width
    yield "model.embed_tokens.weight", tokens
    yield layer + "input_layernorm.weight", (c.depth, c.dim)
    yield layer + "self_attn.q_proj.weight", (c.depth, queries, c.dim)
    yield layer + "self_attn.k_proj.weight", (c.depth, keys, c.dim)
    yield layer + "self_attn.v_proj.weight", (c.depth, keys, c.dim)
    yield layer + "self_attn.o_proj.weight", (c.depth, c.dim, queries)
    yield layer + "post_attention_layernorm.weight", (c.depth, c.dim)
    yield layer + "mlp.gate_proj.weight", (c.depth, c.ffn_width, c.dim)
    yield layer + "mlp.down_proj.weight", (c.depth, c.dim, c.ffn_width)
    yield layer + "mlp.up_proj.weight", (c.depth, c.ffn_width, c.dim)
    yield "model.norm.weight", (c.dim,)
    yield ROTATION, (2, config.context, c.head_width // 2)
    if config.head == "untied":
        yield "lm_head.weight", tokens


def _weights(numbers: Tensor, sections: Iterable[Section], config: GPTConfig) -> Iterator[tuple[str, Tensor]]:
    """The sections of a file (N,) as the named tensors of Hugging Face's layout, one for each layer."""
    for name, shape in sections:
        section, numbers = numbers[: prod(shape)].view(shape), numbers[prod(shape) :]
        if "q_proj" in name or "k_proj" in name:  # (L, heads x Dh, D): Hugging Face's heads rotate by halves
            section = rearrange(section, "l (h n two) d -> l (h two n) d", two=2, n=config.core.head_width // 2)
        if "*" in name:
            yield from ((name.replace("*", str(n)), tensor) for n, tensor in enumerate(section))
        elif name != ROTATION:
            yield name, section


@dataclass(frozen=True)
class LlamaCTokenizer:
    """The pieces of a `tokenizer.bin`, for decoding only."""

    pieces: tuple[bytes, ...]
    bos: int = 1
    eos: int = 2

    @classmethod
    def read(cls, path: str | Path) -> LlamaCTokenizer:
        """An int32, then for each piece a float32 score, an int32 length, its bytes. ValueError if truncated."""
        data, offset, pieces = Path(path).read_bytes(), 4, []
        while offset < len(data):
            length = int.from_bytes(data[offset + 4 : offset + 8], "little")
            pieces.append(data[offset + 8 : offset + 8 + length])
            offset += 8 + length
        if offset != len(data) or len(pieces) <= cls.eos:
            raise ValueError(f"{path} is truncated or not a llama2.c tokenizer")
        return cls(tuple(pieces))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids, without bos and eos and without the space that the first piece begins with."""
        raw = b"".join(self._bytes(token) for token in ids if token not in (self.bos, self.eos))
        return raw.removeprefix(b" ").decode("utf-8", "replace")

    def _bytes(self, token: int) -> bytes:
        piece = self.pieces[token]
        if len(piece) == 6 and piece.startswith(b"<0x") and piece.endswith(b">"):
            return bytes.fromhex(piece[3:5].decode())
        return piece
