"""Images as tokens: each patch is the nearest of a few, a palette where a patch is a pixel."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from einops import rearrange
from torch import Tensor

from core.files.json_files import read_json, write_json

FILE = "codes.json"
SEED = 0  # of k-means: the codes of the same images are always the same
PIECE = 2**14
"""Patches that are compared with all codes at once."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """The patches that tokens stand for: uint8 (K, C, p, p), no two the same."""

    patches: Tensor

    @classmethod
    def learn(cls, pixels: Tensor, patch: int, codes: int) -> Self:
        """All patches of images, uint8 (N, C, S, S), if there are no more than `codes` different ones, or their means
        by k-means (Lloyd 1982), rounded.
        """
        rows = cut(pixels, patch).flatten(0, 1)  # (N n, C p p)
        different, counts = rows.unique(dim=0, return_counts=True)
        if len(different) > codes:
            different = means(different, counts, codes)
        return cls(rearrange(different, "k (c p q) -> k c p q", p=patch, q=patch))

    def __len__(self) -> int:
        return len(self.patches)

    def encode(self, pixels: Tensor) -> Tensor:
        """The nearest code of each patch, in reading order: uint8 (N, C, S, S) -> int64 (N, n), on their device."""
        rows = cut(pixels, self.patches.shape[-1])  # (N, n, C p p)
        codes = self.patches.to(pixels.device).flatten(1).float()
        exact = "donot_use_mm_for_euclid_dist"  # products may be rounded to bfloat16
        found = [
            torch.cdist(part.float(), codes, compute_mode=exact).argmin(1) for part in rows.flatten(0, 1).split(PIECE)
        ]
        return torch.cat(found).view(rows.shape[:2])

    def decode(self, codes: Tensor) -> Tensor:
        """The images of tokens: int64 (N, n), n a square -> uint8 (N, C, S, S)."""
        patches = self.patches.to(codes.device)[codes]  # (N, n, C, p, p)
        side = round(codes.shape[1] ** 0.5)
        return rearrange(patches, "b (h w) c p q -> b c (h p) (w q)", h=side)

    def save(self, folder: Path) -> None:
        """Writes `codes.json`."""
        write_json(folder / FILE, {"patches": self.patches.tolist()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads it. Raises ValueError naming the file if it is damaged."""
        try:
            patches = torch.tensor(read_json(folder / FILE)["patches"], dtype=torch.uint8)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{folder / FILE} is damaged: {error}") from error
        if patches.dim() != 4:
            raise ValueError(f"{folder / FILE} is damaged: it holds no list of patches")
        return cls(patches)


def cut(pixels: Tensor, patch: int) -> Tensor:
    """Patches in reading order: (N, C, S, S) -> (N, n, C p p)."""
    return rearrange(pixels, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch)


def means(rows: Tensor, counts: Tensor, codes: int) -> Tensor:
    """At most `codes` rows that are near to all of uint8 (M, D), which occur so often, int64 (M,): uint8 (K, D)."""
    from sklearn.cluster import MiniBatchKMeans

    fitted = MiniBatchKMeans(codes, batch_size=4096, n_init=1, random_state=SEED, max_iter=20)
    fitted.fit(rows.numpy().astype("float32"), sample_weight=counts.numpy())
    return torch.from_numpy(fitted.cluster_centers_).round().clamp(0, 255).to(torch.uint8).unique(dim=0)
