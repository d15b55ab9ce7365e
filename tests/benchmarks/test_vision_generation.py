"""The blocks that draw, side by side with DiT's: the same function, and the benchmark runs in small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import vision_generation
from benchmarks.measure import harness
from benchmarks.steps.drawing import DIT, blocks

AS_PUBLISHED = """
from timm.layers import Mlp
from timm.models.vision_transformer import Attention
from torch import nn


class DiTBlock(nn.Module):  # Peebles & Xie 2023, figure 3
    def __init__(self, width, heads, ratio):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(width, num_heads=heads, qkv_bias=True)
        self.mlp = Mlp(width, int(width * ratio), act_layer=lambda: nn.GELU(approximate="tanh"))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x, c):
        a, b, g, d, e, h = self.adaLN_modulation(c)[:, None].chunk(6, dim=-1)
        x = x + g * self.attn(a + (1 + b) * self.norm1(x))
        return x + h * self.mlp(d + (1 + e) * self.norm2(x))
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with a models.py in which a block is written as the paper draws it."""
    (tmp_path / "models.py").write_text(AS_PUBLISHED)
    return tmp_path


def test_both_blocks_are_one_function(clone: Path) -> None:
    config = replace(DIT, dim=32, depth=2, n_heads=2)
    ours, theirs = (blocks(side, config, str(clone), seed=3) for side in ("ours", "theirs"))
    x, condition = torch.randn(2, 5, 32), torch.randn(2, 32)
    torch.testing.assert_close(ours(x, condition), theirs(x, condition), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours(x, condition), ours(x, -condition), atol=1e-3)


def test_it_runs_in_small(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_here(side: harness.Contestant, *, seed: int, threads: int, timeout: float | None = None) -> object:
        return harness.work(side.function, {**side.arguments, "seed": seed})

    monkeypatch.setattr(harness, "run_once", run_here)
    words = ["--dit", str(clone), "--tiny", "--steps", "1", "--rounds", "1", "--batch", "2", "--results", str(tmp_path)]
    options = vision_generation.parse(words)
    [(single, _), (half, _)] = vision_generation.PARTS["step"].measure(options)
    first = {name: single.spread(name, "first_loss").median for name in ("ours", "DiT")}
    assert first["ours"] == pytest.approx(first["DiT"], abs=1e-5)
    assert half.spread("DiT", "first_loss").median == pytest.approx(first["DiT"], abs=0.05)


def test_a_folder_that_is_no_clone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dit = .* is no clone of facebookresearch/DiT: it has no models\.py"):
        vision_generation.parse(["--dit", str(tmp_path)])
