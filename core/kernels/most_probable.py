"""Where a few of many continuations are looked for: some prompts at once, and only in blocks with large maxima."""

from collections.abc import Callable

import torch
from torch import Tensor

FLOATS = 1 << 19
"""Numbers at once, two megabytes: they are still in the processor's cache when they are read again."""
BLOCK = 64
"""Tokens of a block. PyTorch's `topk` on a CPU reads a row many times; maxima of blocks are read once."""

Found = tuple[Tensor, Tensor, Tensor]


def kernel(plain: Callable[[Tensor, Tensor, int], Found], scores: Tensor, logits: Tensor, count: int) -> Found:
    """On a CPU, for large vocabularies."""
    prompts, beams = scores.shape
    vocabulary = logits.shape[-1]
    if logits.device.type != "cpu" or vocabulary // BLOCK <= 2 * count:
        return plain(scores, logits, count)
    width = -(-vocabulary // BLOCK) * BLOCK  # what is above the vocabulary has no probability
    at_once = max(1, FLOATS // (beams * width))
    held = torch.full((min(at_once, prompts) * beams, width), -torch.inf)
    parts = zip(scores.split(at_once), logits.split(at_once * beams), strict=True)
    totals, beam, ids = zip(*(largest(some, log_probabilities(part, held), count) for some, part in parts), strict=True)
    return torch.cat(totals), torch.cat(beam), torch.cat(ids).clamp_(max=vocabulary - 1)


def log_probabilities(logits: Tensor, held: Tensor) -> Tensor:
    """Those of logits (R, V) in the first rows of `held`, float32 (R or more, V or wider)."""
    x = held[: len(logits)]
    x[:, : logits.shape[-1]] = logits
    return torch.log_softmax(x, -1, out=x)


def largest(scores: Tensor, x: Tensor, count: int) -> Found:
    """The `count` largest scores[p, k] + x[p k, v], with k and v, (P, count) each: they are in as many blocks."""
    beams, each = scores.shape[1], x.shape[1] // BLOCK
    blocks = x.view(len(scores), beams * each, BLOCK)  # (P K, V) -> (P, K blocks, BLOCK)
    maxima = blocks.amax(-1).unflatten(-1, (beams, each)) + scores.unsqueeze(-1)  # (P, K, blocks)
    chosen = maxima.flatten(1).topk(count, sorted=False).indices  # (P, count)
    inside = blocks.gather(1, chosen.unsqueeze(-1).expand(-1, -1, BLOCK))  # (P, count, BLOCK)
    totals, places = (inside + scores.gather(1, chosen // each).unsqueeze(-1)).flatten(1).topk(count)  # (P, count)
    block = chosen.gather(1, places // BLOCK)
    return totals, block // each, block % each * BLOCK + places % BLOCK
