"""What several tests of decoding watch."""

from __future__ import annotations

import pytest
from torch import Tensor

from text.models.gpt import GPT


@pytest.fixture
def steps(monkeypatch) -> list[tuple[int, Tensor]]:
    """Of every call of `GPT.step`: how many tokens it read, and the logits it gave."""
    calls: list[tuple[int, Tensor]] = []
    step = GPT.step

    def recorded(self: GPT, ids: Tensor, *more: object) -> Tensor:
        logits = step(self, ids, *more)
        calls.append((ids.shape[1], logits.clone()))
        return logits

    monkeypatch.setattr(GPT, "step", recorded)
    return calls
