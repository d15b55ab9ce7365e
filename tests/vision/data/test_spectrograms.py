"""Sounds become images as published feature extractors have them, whatever file they come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.vision.data.sounds import chord
from vision.data.spectrograms import (
    SoundConfig,
    filter_bank,
    hertz,
    log_mel,
    mel,
    read_sound,
    read_spectrogram,
    resample,
    to_pixels,
    used_columns,
)

CONFIG = SoundConfig(rate=8000)
audio: Any = pytest.importorskip("transformers.audio_utils")


def saved(path: Path, samples: NDArray[Any], rate: int = 8000, **kind: str) -> Path:
    soundfile.write(path, samples, rate, **kind)
    return path


# Against a reference implementation


@pytest.mark.parametrize("bands", [20, 40, 80])
@pytest.mark.parametrize(("rate", "low", "high"), [(8000, 0.0, None), (16_000, 20.0, 7600.0)])
def test_bands_are_those_of_transformers(bands: int, rate: int, low: float, high: float | None) -> None:
    config = SoundConfig(rate=rate, low=low, high=high)
    size, filters = filter_bank(config, bands)
    expected = audio.mel_filter_bank(size // 2 + 1, bands, low, config.top, rate, norm=None, mel_scale="htk")
    torch.testing.assert_close(filters, torch.from_numpy(expected.T.astype(np.float32)), atol=1e-6, rtol=0)
    assert filters.any(1).all(), "no band is empty"


@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.0])
def test_a_log_mel_spectrogram_is_that_of_transformers(seconds: float) -> None:
    samples = chord("middle", 3, seconds)
    size, filters = filter_bank(CONFIG, 40)
    window, around = np.hanning(201)[:-1], (size - 200) // 2  # periodic
    expected = audio.spectrogram(
        samples,
        np.pad(window, (around, size - 200 - around)),
        frame_length=size,
        hop_length=80,
        fft_length=size,
        power=2.0,
        center=True,
        pad_mode="constant",
        mel_filters=filters.numpy().T.astype(np.float64),
        mel_floor=1e-12,
        log_mel="dB",
        min_value=1e-12,
    )
    ours = log_mel(torch.from_numpy(samples.astype(np.float32)), CONFIG, 40)
    assert ours.shape == (40, 1 + len(samples) // 80)
    torch.testing.assert_close(ours, torch.from_numpy(expected.astype(np.float32)), atol=0.01, rtol=0)


def test_mel_is_its_formula_and_hertz_its_inverse() -> None:
    frequencies = np.array([0.0, 700.0, 1000.0, 4000.0])
    assert mel(frequencies)[1] == pytest.approx(2595 * np.log10(2))
    assert mel(frequencies)[2] == pytest.approx(1000, abs=0.1), "1,000 Hz are 1,000 mel"
    np.testing.assert_allclose(hertz(mel(frequencies)), frequencies, atol=1e-9)


# What a picture shows


def test_a_tone_is_a_line_at_its_height_and_silence_is_dark() -> None:
    for note in (400, 1500, 3000):
        tone = torch.sin(2 * torch.pi * note * torch.arange(4000) / 8000)
        pixels = to_pixels(log_mel(tone, CONFIG, 40), CONFIG.depth)
        assert (pixels.dtype, pixels.shape) == (torch.uint8, (1, 40, 51))
        edges = hertz(np.linspace(*mel(np.array([CONFIG.low, CONFIG.top])), 42))
        row = int(pixels[0, :, 25].argmax())
        low, high = edges[39 - row], edges[41 - row]
        assert low < note < high, "the lowest band is the lowest row"
        assert pixels.max() == 255
    silence = to_pixels(log_mel(torch.zeros(4000), CONFIG, 40), CONFIG.depth)
    assert silence.unique().tolist() == [1], "dark, and yet a sound"


@given(volume=st.floats(0.01, 3.0))
@settings(max_examples=10, deadline=None)
def test_how_loud_a_clip_was_recorded_changes_nothing(volume: float) -> None:
    samples = torch.from_numpy(chord("high", 1).astype(np.float32))
    one, other = (to_pixels(log_mel(wave, CONFIG, 40), CONFIG.depth).int() for wave in (samples, volume * samples))
    assert (one - other).abs().max() <= 1  # of 255


def test_a_short_clip_ends_in_zeros_and_a_long_one_is_cut_to_its_middle(tmp_path: Path) -> None:
    path = saved(tmp_path / "clip.wav", chord("low", 0))
    short, heard = read_spectrogram(path, CONFIG, 40, 60)
    frames = 1 + len(chord("low", 0)) // 80
    assert (short.shape, heard) == ((1, 40, 60), 1.0)
    assert used_columns(short[None]).tolist() == [frames]
    assert short[..., frames:].eq(0).all()
    assert short[..., :frames].min() >= 1
    cut, heard = read_spectrogram(path, CONFIG, 40, 11)
    assert heard == pytest.approx(11 / frames)
    assert torch.equal(cut, short[..., (frames - 11) // 2 :][..., :11])


# Files


def test_every_rate_width_and_number_of_channels_is_the_same_sound(tmp_path: Path) -> None:
    def wave(rate: int) -> NDArray[np.float64]:
        times = np.arange(rate // 2) / rate
        return 0.3 * np.sin(2 * np.pi * 700 * times) + 0.2 * np.sin(2 * np.pi * 1900 * times)

    mono = wave(8000)
    expected, _ = read_spectrogram(saved(tmp_path / "mono.wav", mono), CONFIG, 40, 50)
    same = {
        "24 bit": saved(tmp_path / "24.wav", mono, subtype="PCM_24"),
        "float": saved(tmp_path / "float.wav", mono, subtype="FLOAT"),
        "flac": saved(tmp_path / "mono.flac", mono),
        "stereo": saved(tmp_path / "stereo.wav", np.stack([mono, mono], 1)),
        "44.1 kHz": saved(tmp_path / "44.wav", wave(44_100), 44_100),
        "16 kHz": saved(tmp_path / "16.wav", wave(16_000), 16_000),
    }
    inner = slice(3, 47)  # filters of resampling ring at the ends
    for kind, path in same.items():
        pixels, _ = read_spectrogram(path, CONFIG, 40, 50)
        loud = expected[..., inner] > 120  # within 42 dB of the loudest; below is noise of 16 bits
        assert (pixels[..., inner].int() - expected[..., inner].int())[loud].abs().max() <= 2, kind


def test_stereo_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    left, right = chord("low", 2), chord("low", 2)[::-1] * 0.5
    path = saved(tmp_path / "both.wav", np.stack([left, right], 1), subtype="FLOAT")
    np.testing.assert_allclose(read_sound(path, 8000).numpy(), (left + right) / 2, atol=1e-6)


def test_resampling_keeps_what_both_rates_hold_and_drops_the_rest() -> None:
    times = np.arange(16_000) / 16_000
    both = (np.sin(2 * np.pi * 1000 * times) + np.sin(2 * np.pi * 7000 * times)).astype(np.float32)
    down = resample(both, 16_000, 8000)
    expected = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    assert len(down) == 8000
    np.testing.assert_allclose(down[200:-200], expected[200:-200], atol=0.01)
    assert resample(both, 16_000, 16_000) is both


BAD = {
    "empty.wav": (b"", "is empty"),
    "text.wav": (b"no sound at all, only words\n" * 20, "cannot be read as a sound"),
    "mute.wav": (None, "holds no samples"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_is_refused_by_name(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    path = tmp_path / name
    if content is None:
        saved(path, np.zeros(0))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_spectrogram(path, CONFIG, 40, 50)
    assert str(path) in str(error.value)


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.1] * 100), subtype="FLOAT")
    with pytest.raises(ValueError, match=r"nan\.wav holds samples that are not finite"):
        read_sound(path, 8000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 0}, "rate = 0 must be above 0"),
        ({"hop": 0.1}, "hop = 0.1 and window = 25.0 ms must hold two samples at 8000 Hz"),
        ({"high": 5000.0}, "low = 20 and high = 5000 must ascend, up to half the rate, 4000 Hz"),
        ({"low": 4000.0}, "low = 4000 and high = 4000 must ascend"),
        ({"depth": -1.0}, "depth = -1.0 must be above 0"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoundConfig(**{"rate": 8000} | changes)
