"""What several tests of decoding watch."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.core.decoding.decoders import Decoder


@pytest.fixture
def steps(monkeypatch) -> list[tuple[int, Tensor]]:
    """Of every call of `Decoder.step`: how many tokens it read, and the logits it gave."""
    calls: list[tuple[int, Tensor]] = []
    step = Decoder.step

    def recorded(self: Decoder, ids: Tensor, *more: object, **memory: object) -> Tensor:
        logits = step(self, ids, *more, **memory)
        calls.append((ids.shape[1], logits.clone()))
        return logits

    monkeypatch.setattr(Decoder, "step", recorded)
    return calls
