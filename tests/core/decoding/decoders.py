"""A small decoder, and the plain loop that decoding has to equal: no cache, one row at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.config import TransformerConfig
from core.decoding.cache import Cache
from core.graph import Graph, causal, from_place
from core.positions import index
from core.transformer import LAST, Role, Transformer
from tests.core.helpers import awake, shape

VOCABULARY = 11


class Decoder(nn.Module):
    """Embedding, core, head: a language model, or the decoder of a translator with role "cross"."""

    def __init__(self, config: TransformerConfig, context: int, vocabulary: int, role: Role):
        super().__init__()
        self.context = context
        self.embed = nn.Embedding(vocabulary, config.dim)
        self.core = Transformer(config, (context,), role)
        self.head = nn.Linear(config.dim, vocabulary, bias=False)

    def forward(
        self, ids: Tensor, pads: Tensor | None = None, cache: Cache | None = None, read=slice(None), **more
    ) -> Tensor:
        """(B, T) -> (B, T, V)"""
        coords, graph = index(ids.shape[1], 0 if cache is None else cache.length), causal()
        if pads is not None:
            coords, graph = (coords - pads.view(-1, 1, 1)).clamp(min=0), graph & from_place(pads)
        return self.head(self.core(self.embed(ids), coords, graph, cache=cache, read=read, **more))

    def new_state(self, batch: int, capacity: int) -> Cache:
        return self.core.new_state(batch, capacity)

    def step(
        self,
        ids: Tensor,
        state: Cache,
        pads: Tensor | None = None,
        memory: Tensor | None = None,
        memory_graph: Graph | None = None,
    ) -> Tensor:
        return self(ids, pads, state, LAST, memory=memory, memory_graph=memory_graph)[:, 0]


def model(
    position: str = "rotary", context: int = 16, vocabulary: int = VOCABULARY, seed: int = 1, role: Role = "self"
) -> Decoder:
    return awake(Decoder(shape(position, n_kv_heads=2), context, vocabulary, role), seed)


class Schedule:
    """What a row may attend to, as `core.decoding.window` promises: all, then from each refill on the last half."""

    def __init__(self, context: int, width: int, room: int):
        self.capacity = min(context, width + room)
        self.first = max(0, width - self.capacity)

    def window(self, line: Sequence[int], width: int) -> list[int]:
        if width - self.first > self.capacity:
            self.first = width - max(1, self.capacity // 2)
        return list(line)[max(0, self.first - (width - len(line))) :]


@torch.inference_mode()
def greedy(decoder: Decoder, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The most probable token of each row, over and over, without a cache and row by row."""
    lines, width = [list(p) for p in prompts], max(map(len, prompts))
    schedule = Schedule(decoder.context, width, count)
    for step in range(count):
        for line in lines:
            line.append(int(decoder(torch.tensor([schedule.window(line, width + step)]))[0, -1].argmax()))
    return [line[len(p) :] for line, p in zip(lines, prompts, strict=True)]
