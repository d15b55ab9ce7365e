"""What the tokens around a token add to its embedding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Neighbours(nn.Module):
    """A vector for each token at each distance, up to `reach` places before and behind, summed over the neighbours.

    It is a convolution of one-hot tokens without its centre: the window through which Qian & Sejnowski (1988) read
    proteins. Places outside a row add nothing.
    """

    def __init__(self, vocab_size: int, dim: int, reach: int):
        super().__init__()
        self.vocab_size = vocab_size
        self.distances = [distance for distance in range(-reach, reach + 1) if distance]
        self.table = nn.Embedding(vocab_size * len(self.distances), dim)

    def forward(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What is added to the embeddings: int64 (B, T) -> (B, T, D).

        lengths: int64 (B,), the real tokens at the beginning of each row; by default all of them
        """
        batch, width = ids.shape
        distances = torch.tensor(self.distances, device=ids.device)
        places = torch.arange(width, device=ids.device).unsqueeze(1) + distances  # (T, 2 R)
        ends = ids.new_full((batch,), width) if lengths is None else lengths
        inside = (places >= 0) & (places < ends.view(-1, 1, 1))  # (B, T, 2 R)
        rows = ids[:, places.clamp(0, width - 1)]  # (B, T, 2 R)
        rows = rows + self.vocab_size * torch.arange(len(distances), device=ids.device)
        outside = len(self.table.weight)
        weight = F.pad(self.table.weight, (0, 0, 0, 1))
        rows = rows.masked_fill(~inside, outside).flatten(0, 1)  # (B T, 2 R)
        return F.embedding_bag(rows, weight, mode="sum", padding_idx=outside).unflatten(0, (batch, width))
