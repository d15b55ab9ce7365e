"""Distances between sets of features, against closed forms and the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from vision.generation.measures import chosen, frechet_distance, kernel_distance, nearest


def normal(count: int, dim: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return shift + scale * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_the_frechet_distance_is_its_formula() -> None:
    a, b = normal(200, 6, 0), normal(300, 6, 1, 0.5) @ normal(6, 6, 2)
    x, y = (features.double().numpy() for features in (a, b))
    first, second = np.cov(x.T), np.cov(y.T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_of_normal_sets_is_known() -> None:
    """Means 2 apart along each of 3 axes, deviations 1 and 3: 3 (2^2 + (3 - 1)^2) = 24."""
    assert frechet_distance(normal(50_000, 3, 0), normal(50_000, 3, 1, 2.0, 3.0)) == pytest.approx(24, rel=0.02)


def test_features_of_less_than_full_rank_have_a_distance() -> None:
    """Fewer images than features, and features that never change."""
    a = torch.cat((normal(10, 20, 0), torch.ones(10, 2)), 1)
    assert 0 < frechet_distance(a, a + 1) == pytest.approx(22, rel=1e-6)


def test_the_kernel_distance_is_a_mean_over_pairs() -> None:
    a, b = normal(7, 4, 0), normal(9, 4, 1, 0.3)

    def k(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x.double() @ y.double() / 4 + 1) ** 3)

    within = [np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    between = np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_the_kernel_distance_of_one_distribution_is_zero_on_average() -> None:
    found = [kernel_distance(normal(60, 5, seed), normal(60, 5, 1000 + seed)) for seed in range(40)]
    assert abs(np.mean(found)) < 4 * np.std(found) / len(found) ** 0.5


def test_the_nearest_is_found_with_its_difference() -> None:
    others = torch.rand(50, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    differences, places = nearest(others[[4, 17]] + 0.01, others)
    assert places.tolist() == [4, 17]
    torch.testing.assert_close(differences, torch.tensor([0.01, 0.01]), atol=1e-4, rtol=0)


def test_chosen_places_are_different_and_always_the_same() -> None:
    assert torch.equal(chosen(5, 20), chosen(5, 20))
    assert len(set(chosen(5, 20).tolist())) == 5
    assert torch.equal(chosen(30, 20), torch.arange(20))
