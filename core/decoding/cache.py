"""Keys and values that have been computed already."""

import torch
from torch import Tensor


class Cache:
    """Preallocated keys and values of every layer, filled from the left; places beyond `length` are garbage.

    keys, values: (L, B, Hkv, capacity, Dh); rotary keys are stored rotated. `coords` are those of the keys, (B or 1,
    capacity, A), for positions that need them in the scores. `memory` holds the keys and values of a cross-attended
    memory, one pair a layer, computed at the first step: one row for each source, however many rows share it.

    A forward pass appends to every layer, then `advance` makes the new places count. A `DecodingState`.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], like: Tensor):
        """shape: (layers, batch, kv_heads, capacity, head_dim); dtype and device are those of `like`."""
        self.keys = like.new_empty(shape)
        self.values = like.new_empty(shape)
        self.coords: Tensor | None = None
        self.memory: dict[int, tuple[Tensor, Tensor]] = {}
        self.length = 0

    @property
    def capacity(self) -> int:
        """Places per row."""
        return self.keys.shape[3]

    def require(self, tokens: int) -> None:
        """Raise ValueError unless there is room for `tokens` more places."""
        if self.length + tokens > self.capacity:
            raise ValueError(f"cache of {self.capacity} places holds {self.length}: no room for {tokens} more tokens")

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k, v (B, Hkv, T, Dh) behind what a layer holds and return all of it: (B, Hkv, length + T, Dh)."""
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def locate(self, coords: Tensor) -> Tensor:
        """Store coordinates of new tokens, (T, A) or (B, T, A), and return those of all keys, (B or 1, Tk, A)."""
        coords = coords if coords.dim() == 3 else coords.unsqueeze(0)  # (B or 1, T, A)
        end = self.length + coords.shape[1]
        if self.coords is None:
            self.coords = coords.new_zeros(coords.shape[0], self.capacity, coords.shape[2])
        self.coords[:, self.length : end] = coords
        return self.coords[:, :end]

    def advance(self, tokens: int) -> None:
        """Make `tokens` appended places count."""
        self.length += tokens

    def reset(self) -> None:
        """Forget everything; the tensors stay allocated."""
        self.length, self.coords, self.memory = 0, None, {}

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was (beams), int64 (B,); rows move among those of one source only."""
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().flatten()
        if not len(moved):
            return
        origins = rows[moved]
        for store in (*self.keys, *self.values):
            held = store[:, :, : self.length]  # (B, Hkv, length, Dh)
            held.index_copy_(0, moved, held.index_select(0, origins))
        self._move_coords(rows)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, int64 (B',): fewer, or more where some are repeated."""
        batch = self.keys.shape[1]
        self.keys, self.values = self._kept(self.keys, rows), self._kept(self.values, rows)
        self._move_coords(rows)
        for layer, (k, v) in self.memory.items():
            sources = sources_of(rows, batch // k.shape[0])
            self.memory[layer] = k[sources], v[sources]

    def _kept(self, store: Tensor, rows: Tensor) -> Tensor:
        """Some rows of what is held, with room for as many places as before."""
        kept = store.new_empty(len(store), len(rows), *store.shape[2:])
        kept[:, :, :, : self.length] = store[:, :, :, : self.length].index_select(1, rows)
        return kept

    def _move_coords(self, rows: Tensor) -> None:
        if self.coords is not None and self.coords.shape[0] > 1:
            self.coords = self.coords[rows]


def sources_of(rows: Tensor, sharing: int) -> Tensor:
    """The sources of these rows, int64 (B',), where every `sharing` rows in succession shared one: int64 (S').

    Successive rows of the same source go on sharing it, unless the sources would then have unequally many.
    """
    each = rows // sharing
    sources, counts = each.unique_consecutive(return_counts=True)
    return sources if (counts == counts[0]).all() else each
