"""Where a few of thousands of tokens are looked for: rows by the dozen, and only in blocks with large maxima."""

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 128
"""Rows at once, so that they are still in the processor's cache when they are read again."""
BLOCK = 64
"""Tokens of a block. PyTorch's `topk` on a CPU reads a row many times; maxima of blocks are read once."""


def kernel(plain: Callable[[Tensor, int], tuple[Tensor, Tensor]], logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """On a CPU, for large vocabularies."""
    if logits.device.type != "cpu" or logits.shape[-1] // BLOCK <= 2 * k:
        return plain(logits, k)
    values, places = zip(*(largest(part.float().log_softmax(-1), k) for part in logits.split(ROWS)), strict=True)
    return torch.cat(values), torch.cat(places)


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """x.topk(k) of rows x (R, V): the k largest are in the k blocks with the largest maxima, or fill no block."""
    whole = x[:, : x.shape[-1] // BLOCK * BLOCK].unflatten(-1, (-1, BLOCK))  # (R, blocks, BLOCK)
    rest = torch.arange(whole.shape[1] * BLOCK, x.shape[-1])
    chosen = whole.amax(-1).topk(k).indices.unsqueeze(-1)  # (R, k, 1)
    inside = whole.gather(1, chosen.expand(-1, -1, BLOCK)).flatten(1)  # (R, k BLOCK)
    places = (chosen * BLOCK + torch.arange(BLOCK)).flatten(1)  # (R, k BLOCK)
    values, best = torch.cat((inside, x[:, rest]), dim=-1).topk(k)
    return values, torch.cat((places, rest.expand(len(x), -1)), dim=-1).gather(-1, best)
