"""Spectrograms varied: what is hidden, what is stretched, and that it depends on the drawn numbers alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vision.augmentation.config import AugmentConfig, SoundAugment
from vision.augmentation.sounds import between, equalise, factors, stretch, vary
from vision.data.spectrograms import used_columns

HEIGHT, WIDTH = 12, 20
MASKS = SoundAugment(time_masks=2, time_share=0.3, pitch_masks=1, pitch_share=0.25)


def clips(*lengths: int) -> Tensor:
    """Spectrograms of so many columns: uint8 (B, 1, 12, 20)."""
    pixels = torch.randint(1, 200, (len(lengths), 1, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))
    real = torch.arange(WIDTH) < torch.tensor(lengths)[:, None]
    return (pixels * real[:, None, None]).to(torch.uint8)


def numbers(config: SoundAugment, batch: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, config.numbers, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 1000))
def test_what_is_hidden_is_whole_rows_and_columns_and_never_padding(seed: int) -> None:
    before = clips(20, 13, 1)
    after = vary(before, numbers(MASKS, 3, seed), MASKS, 222)
    assert torch.equal(used_columns(after), torch.tensor([20, 13, 1]))
    changed = after != before
    assert after[changed].eq(222).all()
    assert torch.equal(after == 0, before == 0)
    for clip, length in zip(after, (20, 13, 1), strict=True):
        inside = clip[0, :, :length] == 222
        rows, columns = inside.all(1), inside.all(0)
        assert columns.sum() <= 2 * int(0.3 * length) or rows.all()
        assert rows.sum() <= int(0.25 * HEIGHT) or columns.all()


def test_stretches_are_as_long_as_drawn_and_everywhere() -> None:
    drawn = torch.rand(4000, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    hidden = between(drawn, torch.full((4000,), 10), 0.4, 16)
    widths = hidden.sum(1)
    assert widths.unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.bincount(widths).min() > 650, "lengths are uniform"
    assert not hidden[:, 10:].any()
    assert hidden[:, :10].any(0).all()


def test_nothing_drawn_nothing_changed() -> None:
    config = SoundAugment(time_stretch=0.3, pitch_stretch=0.3)
    middle = torch.full((2, config.numbers), 0.5, dtype=torch.float64)
    assert torch.equal(vary(clips(20, 7), middle, config, 9), clips(20, 7))


def test_factors_are_log_uniform_between_their_ends() -> None:
    drawn = torch.tensor([[0.0, 0.5], [1.0, 0.25]], dtype=torch.float64)
    time, pitch = factors(drawn, (0.25, 1.0))
    torch.testing.assert_close(time, torch.tensor([0.8, 1.25]))
    torch.testing.assert_close(pitch, torch.tensor([1.0, 0.5**0.5]))


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2.0])
def test_a_longer_sound_is_the_same_sound_for_longer(factor: float) -> None:
    ramp = torch.zeros(1, 1, HEIGHT, WIDTH)
    ramp[..., :10] = 20.0 * torch.arange(1, 11)
    after = stretch(ramp.to(torch.uint8), torch.tensor([factor]), torch.ones(1)).float()
    length = int(used_columns(after))
    assert length == round(10 * factor)
    expected = (20 * ((torch.arange(length) + 0.5) / factor + 0.5)).clamp(20, 200)
    torch.testing.assert_close(after[0, 0, 3, :length], expected, atol=1.01, rtol=0)


def test_a_higher_voice_has_its_bands_higher() -> None:
    tone = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.uint8)
    tone[:, :, HEIGHT - 1 - 4] = 200  # four rows above the lowest
    for factor, height in ((1.0, 4), (1.5, 6), (0.5, 2)):
        after = stretch(tone, torch.ones(1), torch.tensor([factor]))
        assert int(after[0, 0, :, 5].argmax()) == HEIGHT - 1 - height
    assert torch.equal(stretch(tone, torch.ones(1), torch.ones(1)), tone)


def test_an_equaliser_adds_a_smooth_gain_to_each_band() -> None:
    before = torch.full((2, 1, 10, 6), 100, dtype=torch.uint8)
    before[:, :, :, 4:] = 0
    gains = torch.tensor([[0.1, 0.2, -0.1, 0.0], [0.5, 1.0, 1.0, -1.0]])
    got = equalise(before, gains).long()
    assert got[..., 4:].eq(0).all(), "where a sound has ended there is nothing to be louder"
    expected = [100 + round(254 * gain) for gain in (0.0, -0.1, 0.2, 0.1)]  # the highest band first
    assert got[0, 0, ::3, 0].tolist() == expected
    assert got[0, 0, 1, 0] == 100 - round(25.4 / 3)
    assert (got[1, 0, 9, 0], got[1, 0, 0, 0]) == (227, 1)
    assert got[1, 0, 3, 0] == 255


def test_what_happens_to_a_clip_does_not_depend_on_the_others() -> None:
    config = SoundAugment(time_stretch=0.3, pitch_stretch=0.2, time_masks=1, pitch_masks=2)
    drawn = numbers(config, 3)
    together = vary(clips(20, 13, 5), drawn, config, 50)
    alone = [vary(clips(20, 13, 5)[[row]], drawn[[row]], config, 50) for row in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_the_end_of_the_budget_hears_sounds_as_they_are() -> None:
    config = AugmentConfig(plain_end=0.2, sound=MASKS)
    assert config.effective(0.5).sound.numbers == MASKS.numbers
    assert config.effective(0.9).sound.numbers == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time_stretch": -0.1}, "time_stretch = -0.1 must be at least 0"),
        ({"pitch_share": 1.0}, "pitch_share = 1.0 must be at least 0 and below 1"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoundAugment(**changes)  # type: ignore[arg-type]
