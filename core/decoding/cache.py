"""Keys and values that have been computed already."""

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
        held = slice(0, self.length)
        self.keys[:, :, :, held] = self.keys[:, rows, :, held]
        self.values[:, :, :, held] = self.values[:, rows, :, held]
        if self.coords is not None and self.coords.shape[0] > 1:
            self.coords = self.coords[rows]

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only, int64 (B',); each has a source of its own, if any."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        if self.coords is not None and self.coords.shape[0] > 1:
            self.coords = self.coords[rows]
        self.memory = {layer: (k[rows], v[rows]) for layer, (k, v) in self.memory.items()}
