"""A small GPT to decode, and the plain loop that a decoder has to equal: no cache, one row at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tests.core.helpers import awake, shape
from text.models.gpt import GPT, GPTConfig

VOCABULARY = 11


def model(position: str = "rotary", context: int = 16, vocabulary: int = VOCABULARY, seed: int = 1) -> GPT:
    return awake(GPT(GPTConfig(vocabulary, context, "untied", shape(position, n_kv_heads=2))), seed)


class Schedule:
    """What a row may still hear, as `core.decoding.generate` promises: all, then from each refill on the last half."""

    def __init__(self, context: int, width: int, room: int):
        self.capacity = min(context, width + room)
        self.first = max(0, width - self.capacity)

    def heard(self, line: Sequence[int], width: int) -> list[int]:
        if width - self.first > self.capacity:
            self.first = width - max(1, self.capacity // 2)
        return list(line)[max(0, self.first - (width - len(line))) :]


@torch.inference_mode()
def greedy(gpt: GPT, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The most probable token of each row, over and over, without a cache and row by row."""
    lines, width = [list(p) for p in prompts], max(map(len, prompts))
    schedule = Schedule(gpt.context, width, count)
    for step in range(count):
        for line in lines:
            line.append(int(gpt(torch.tensor([schedule.heard(line, width + step)]))[0, -1].argmax()))
    return [line[len(p) :] for line, p in zip(lines, prompts, strict=True)]
