"""Mixup and CutMix: soft targets that say what an image is made of; draws distributed as timm's, by seed and step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vision.augmentation.config import AugmentConfig
from vision.augmentation.mixing import Mix, draw_mix, mix_images, mix_targets, soft_targets

SIZE = 16


def marked(number: int) -> Tensor:
    """Images that are 1 in the channel of their own number."""
    return torch.eye(number).view(number, number, 1, 1).expand(-1, -1, SIZE, SIZE).clone()


def draws(config: AugmentConfig, steps: int, size: int = SIZE) -> list[Mix]:
    return [draw_mix(config, 0, (step, 0, 0), size) for step in range(steps)]


@given(
    half=st.integers(1, 6),
    step=st.integers(0, 1000),
    alphas=st.sampled_from([(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)]),
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_targets_say_how_much_of_each_image_there_is(
    half: int, step: int, alphas: tuple[float, float], smoothing: float
) -> None:
    mix = draw_mix(AugmentConfig(mixup=alphas[0], cutmix=alphas[1]), 0, (step, 0, 0), SIZE)
    targets = mix_targets(soft_targets(torch.arange(2 * half), 20, smoothing), mix)
    mixed = mix_images(marked(2 * half), mix)
    assert mixed.dtype == targets.dtype == torch.float32
    torch.testing.assert_close(targets.sum(1), torch.ones(2 * half))
    parts = mixed.mean((2, 3))  # (B, B): how much of an image comes from each image
    expected = torch.nn.functional.pad(parts, (0, 20 - 2 * half)) * (1 - smoothing) + smoothing / 20
    torch.testing.assert_close(targets, expected)


def test_cutmix_pastes_one_rectangle() -> None:
    mixed = mix_images(marked(8), draw_mix(AugmentConfig(cutmix=1.0), 1, (3, 0, 0), SIZE))
    own = mixed[torch.arange(8), torch.arange(8)]  # (8, 16, 16)
    assert set(own.unique().tolist()) == {0.0, 1.0}
    rows, columns = (own[0] == 0).any(1), (own[0] == 0).any(0)
    assert torch.equal(own[0] == 0, rows[:, None] & columns)
    assert torch.equal(own, own[:1].expand(8, -1, -1))


def test_mixing_is_timms() -> None:
    """The same images and targets from the same share and box."""
    from timm.data.mixup import mixup_target

    images, labels = torch.randn(6, 3, SIZE, SIZE), torch.arange(6)
    soft = soft_targets(labels, 6, 0.1)
    for mix in (Mix(), Mix(0.3), Mix(1 - 20 / SIZE**2, (3, 7, 11, 16))):
        assert torch.equal(mix_targets(soft, mix), mixup_target(labels, 6, mix.share, 0.1))
        expected = images * mix.share + images.flip(0) * (1 - mix.share)
        if mix.box is not None:
            expected = images.clone()
            expected[:, :, 3:7, 11:16] = images.flip(0)[:, :, 3:7, 11:16]
        torch.testing.assert_close(mix_images(images.clone(), mix), expected)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_and_boxes_are_distributed_as_timms(alpha: float) -> None:
    from scipy.stats import beta, ks_2samp, kstest
    from timm.data.mixup import cutmix_bbox_and_lam

    count = 4000
    shares = [mix.share for mix in draws(AugmentConfig(mixup=alpha), count)]
    assert kstest(shares, beta(alpha, alpha).cdf).pvalue > 1e-3
    ours = draws(AugmentConfig(cutmix=alpha), count, size=32)
    boxes = np.array([mix.box for mix in ours])
    theirs = [cutmix_bbox_and_lam((3, 32, 32), np.random.beta(alpha, alpha)) for _ in range(count)]
    their_boxes = np.array([box for box, _ in theirs])
    for mine, other in zip(boxes.T, their_boxes.T, strict=True):
        assert ks_2samp(mine, other).pvalue > 1e-3
    assert ks_2samp([mix.share for mix in ours], [share for _, share in theirs]).pvalue > 1e-3
    assert abs(np.corrcoef(boxes[:, 0], boxes[:, 2])[0, 1] - np.corrcoef(their_boxes.T)[0, 2]) < 0.1


def test_the_probabilities_are_kept() -> None:
    config = AugmentConfig(mixup=1.0, cutmix=1.0, mix_probability=0.6, switch_probability=0.25)
    mixes = draws(config, 1000)
    cut = sum(mix.box is not None for mix in mixes)
    blended = sum(mix.box is None and mix.share < 1 for mix in mixes)
    assert cut == pytest.approx(150, abs=57)  # 5 standard deviations
    assert blended == pytest.approx(450, abs=80)


def test_mixing_is_a_function_of_seed_step_rank_and_micro_batch() -> None:
    places = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    config = AugmentConfig(mixup=1.0)
    first = [draw_mix(config, seed, place, SIZE) for seed, *place in places]  # type: ignore[arg-type]
    assert len({mix.share for mix in first}) == len(places)
    assert first == [draw_mix(config, seed, place, SIZE) for seed, *place in places]  # type: ignore[arg-type]


def test_draws_are_pinned() -> None:
    """Checkpoints outlive releases of NumPy: these values must never change."""
    blend = draw_mix(AugmentConfig(mixup=0.8), 1337, (5, 1, 0), SIZE)
    paste = draw_mix(AugmentConfig(cutmix=1.0), 1337, (5, 1, 0), 32)
    assert (blend.share, paste) == (0.2212798440933792, Mix(0.314453125, (3, 30, 0, 26)))


def test_an_odd_number_of_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size .* 5 images"):
        mix_images(marked(5), Mix(0.5))


def test_labels_become_smoothed_probabilities() -> None:
    soft = soft_targets(torch.tensor([3, 0, 4]), 5, 0.2)
    expected = torch.full((3, 5), 0.04)
    expected[torch.arange(3), torch.tensor([3, 0, 4])] = 0.84
    torch.testing.assert_close(soft, expected)
