"""Solving dx / dt = v(x, t): against closed forms, and the order of each method."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vision.generation.flow import FlowLoss, interpolate, logit_normal
from vision.generation.samplers import Drawing, guided, integrate

MEAN, STD = 0.7, 0.4
"""Of the images of a world in which every number is normal."""


def exact(x: Tensor, t: float) -> Tensor:
    """The velocity E[image - noise | x at t] where images are N(MEAN, STD): linear regression on x."""
    variance = (1 - t) ** 2 + (t * STD) ** 2
    return MEAN + (t * STD**2 - (1 - t)) / variance * (x - t * MEAN)


def last(steps: int, sampler: str, start: Tensor) -> Tensor:
    *_, end = integrate(exact, start, Drawing(steps=steps, sampler=sampler))  # type: ignore[arg-type]
    return end


def test_the_flow_of_a_normal_world_ends_in_its_distribution() -> None:
    """The exact flow maps noise z to MEAN + STD z: quantiles stay in order."""
    noise = torch.linspace(-3, 3, 101, dtype=torch.float64).view(-1, 1, 1, 1)
    torch.testing.assert_close(last(400, "heun", noise), MEAN + STD * noise, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_half_the_step_leaves_a_half_or_a_quarter_of_the_error(sampler: str, order: int) -> None:
    noise = torch.full((1, 1, 1, 1), 1.5, dtype=torch.float64)
    coarse, fine = ((last(n, sampler, noise) - (MEAN + STD * noise)).abs().item() for n in (40, 80))
    assert coarse / fine == pytest.approx(2**order, rel=0.1)


def test_a_velocity_that_does_not_change_needs_one_step() -> None:
    noise = torch.randn(3, 1, 2, 2)
    [end] = integrate(lambda x, t: torch.full_like(x, 2.0), noise, Drawing(steps=1, sampler="euler"))
    torch.testing.assert_close(end, noise + 2)


def test_guidance_exaggerates_what_is_told() -> None:
    x = torch.randn(2, 1, 2, 2)
    told, untold = (lambda x, t: 3 * x), (lambda x, t: x + t)
    for scale in (0.0, 1.0, 2.5):
        torch.testing.assert_close(guided(told, untold, scale)(x, 0.5), x + 0.5 + scale * (3 * x - x - 0.5))


def test_paths_lead_straight_from_noise_to_image() -> None:
    images, noise = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    times = torch.tensor([0.0, 0.25, 1.0])
    at = interpolate(images, noise, times)
    torch.testing.assert_close(at[0], noise[0])
    torch.testing.assert_close(at[1], 0.75 * noise[1] + 0.25 * images[1])
    torch.testing.assert_close(at[2], images[2])


def test_the_loss_is_least_for_the_exact_velocity() -> None:
    """In the normal world the least possible is the variance of image - noise that x leaves open: a closed form."""
    drawn = torch.Generator().manual_seed(0)
    noise, images = torch.randn(2, 200_000, 1, 1, 1, generator=drawn, dtype=torch.float64)
    images = MEAN + STD * images
    t, conditions = 0.3, torch.zeros(200_000)
    variance = (1 - t) ** 2 + (t * STD) ** 2
    least = 1 + STD**2 - (t * STD**2 - (1 - t)) ** 2 / variance

    class Exact(torch.nn.Module):
        def forward(self, x: Tensor, times: Tensor, condition: Tensor) -> Tensor:
            return exact(x, float(times[0]))

    times = torch.full((200_000,), t, dtype=torch.float64)
    loss = FlowLoss(Exact())(images, conditions, times, noise) / 200_000
    assert loss.item() == pytest.approx(least, rel=0.02)  # 0.5 % is one standard error


def test_logit_normal_times_have_its_quantiles() -> None:
    """P(t < sigmoid(mean)) is a half, and 84 % lie below sigmoid(mean + std)."""
    times = logit_normal(torch.randn(100_000, generator=torch.Generator().manual_seed(0)), -0.5, 0.8)
    for deviations, share in ((0.0, 0.5), (1.0, 0.8413)):
        edge = torch.sigmoid(torch.tensor(-0.5 + 0.8 * deviations))
        assert (times < edge).float().mean().item() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("change", "words"), [({"steps": 0}, "steps = 0"), ({"guidance": -1.0}, "guidance = -1.0")])
def test_an_impossible_way_of_drawing_is_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Drawing(**change)  # type: ignore[arg-type]
