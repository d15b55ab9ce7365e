"""What a model attends to, by the weights of its attention: arithmetic, no pictures.

A layer's weights are (B, H, T, T): rows are queries and sum to one. Pooling weights (B, T) are the shares in which the
model's answer is made of its last tokens: all of it of a class token, or evenly of the patches.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from vision.models.vit import Pool


def join_heads(attention: Tensor, head: str) -> Tensor:
    """One map for all heads, or for one of them: (B, H, T, T) -> (B, T, T).

    head: "mean", "max", or a number from 1 on. The maxima are divided by their sum over a row.
    Raises ValueError for another.
    """
    if head == "mean":
        return attention.mean(1)
    if head == "max":
        greatest = attention.amax(1)
        return greatest / greatest.sum(-1, keepdim=True)
    n_heads = attention.shape[1]
    if not (head.isdecimal() and 1 <= int(head) <= n_heads):
        raise ValueError(f"head = {head!r} is not one of: mean, max, 1 to {n_heads}")
    return attention[:, int(head) - 1]


def pooled_attention(attention: Tensor, pooling: Tensor) -> Tensor:
    """The attention that each token gets from the pooled ones, by their weights: (B, T, T), (B, T) -> (B, T)."""
    return torch.einsum("bq,bqk->bk", pooling, attention)


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """How much of each token reaches each other through all layers: L x (B, T, T) -> (B, T, T), rows sum to one.

    The product of (A + I) / 2 over the layers, last to first, where I stands for the residual path (Abnar &
    Zuidema 2020, section 3).
    """
    identity = torch.eye(layers[0].shape[-1], dtype=layers[0].dtype, device=layers[0].device)
    total = identity.expand_as(layers[0])
    for attention in layers:
        mixed = attention + identity
        total = (mixed / mixed.sum(-1, keepdim=True)) @ total
    return total


def on_grid(tokens: Tensor, learned: int, rows: int) -> Tensor:
    """Shares of the patches, where 1 is an even share among all tokens: (B, T) -> (B, rows, columns).

    learned: how many tokens come before the patches. rows: of the grid of patches.
    """
    patches = tokens[:, learned:] * tokens.shape[1]  # (B, N)
    return rearrange(patches, "b (h w) -> b h w", h=rows)


def pooling_weights(pool: Pool, features: Tensor) -> Tensor:
    """The shares in which the answer is made of all tokens after the core: (B, T, D) -> (B, T), rows sum to one."""
    read = features[:, pool.read]  # (B, N, D)
    weights = features.new_zeros(features.shape[:2])
    even = 1 / read.shape[1]
    weights[:, pool.read] = even if pool.attention is None else pool.attention(read).squeeze(-1).softmax(-1)
    return weights
