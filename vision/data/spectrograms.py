"""Sounds as images: the log-mel spectrogram of a sound file, 8 bits, time from left to right, high notes on top.

A column is a window of time, a row a band of frequencies. Pixels count decibels below the loudest of the clip: 255 is
as loud as that, 1 is `depth` decibels below or less, and 0 stands for no sound at all: where a clip has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.checks import check_at_least, check_positive

SUFFIXES = (".wav", ".flac", ".ogg")
"""What counts as a sound in a folder, in lower or upper case."""
INSTALL = "sounds need the package soundfile: pip install 'triptych[audio]'"
FLOOR = 1e-12  # of power: -120 dB of a full-scale wave, below what 16 bits hold
LEVELS = 254  # of a pixel that is no padding, above the lowest


@dataclass(frozen=True)
class SoundConfig:
    """How a sound becomes an image; its rows are the bands, its columns the windows that are kept at most."""

    rate: int = 16_000
    """Samples a second, in Hz, to which every sound is resampled."""
    window: float = 25.0
    """Length of a window, in milliseconds (Hann)."""
    hop: float = 10.0
    """From a window to the next, in milliseconds: what a column stands for."""
    low: float = 20.0
    """Where the lowest band begins, in Hz."""
    high: float | None = None
    """Where the highest band ends, in Hz; default half the rate."""
    depth: float = 80.0
    """How many decibels below a clip's loudest are told apart."""

    def __post_init__(self) -> None:
        check_positive(self, "rate", "window", "hop", "depth", "high")
        check_at_least(self, 0, "low")
        if min(self.samples(self.hop), self.samples(self.window)) < 2:
            raise ValueError(f"hop = {self.hop} and window = {self.window} ms must hold two samples at {self.rate} Hz")
        if not self.low < self.top <= self.rate / 2:
            raise ValueError(
                f"low = {self.low:g} and high = {self.top:g} must ascend, up to half the rate, {self.rate / 2:g} Hz"
            )

    @property
    def top(self) -> float:
        """Where the highest band ends, in Hz."""
        return self.rate / 2 if self.high is None else self.high

    def samples(self, milliseconds: float) -> int:
        """A duration in samples."""
        return round(self.rate * milliseconds / 1000)


def read_spectrogram(path: Path | str, config: SoundConfig, rows: int, columns: int) -> tuple[Tensor, float]:
    """A sound file as an image, uint8 (1, rows, columns), and which share of its duration that holds.

    A longer sound is cut to its middle, a shorter one ends in columns of zeros.

    Raises ValueError naming the file: empty, without samples, no sound, damaged; OSError if there is none.
    """
    pixels = to_pixels(log_mel(read_sound(path, config.rate), config, rows), config.depth)  # (1, rows, frames)
    frames = pixels.shape[-1]
    start = max(0, frames - columns) // 2
    image = torch.zeros(1, rows, columns, dtype=torch.uint8)
    kept = pixels[..., start : start + columns]
    image[..., : kept.shape[-1]] = kept
    return image, kept.shape[-1] / frames


def read_sound(path: Path | str, rate: int) -> Tensor:
    """A sound file of any rate, width and number of channels: float32 (N,) in -1..1, their mean, at `rate` Hz."""
    from soundfile import LibsndfileError, SoundFile

    with open(path, "rb") as file:
        try:
            with SoundFile(file) as sound:
                samples, own = sound.read(dtype="float32", always_2d=True), sound.samplerate  # (N, channels)
        except (LibsndfileError, RuntimeError, TypeError) as error:
            if not file.seek(0, 2):
                raise ValueError(f"{path} is empty") from error
            raise ValueError(f"{path} cannot be read as a sound: it is damaged, or none of wav, flac, ogg") from error
    if not len(samples):
        raise ValueError(f"{path} holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path} holds samples that are not finite")
    return torch.from_numpy(resample(samples.mean(1), own, rate))


def resample(samples: NDArray[np.float32], own: int, rate: int) -> NDArray[np.float32]:
    """Samples (N,) at `own` Hz as they would be at `rate` Hz, without what that cannot hold."""
    if own == rate:
        return samples
    from scipy.signal import resample_poly

    common = gcd(own, rate)
    return resample_poly(samples, rate // common, own // common).astype(np.float32)


def log_mel(samples: Tensor, config: SoundConfig, bands: int) -> Tensor:
    """Power in mel bands, in decibels: float32 (N,) -> (bands, 1 + N // hop), the lowest band first.

    A Hann window centred at every hop, silence beyond both ends; 0 dB is power 1 of the unscaled Fourier transform.
    """
    window, hop = config.samples(config.window), config.samples(config.hop)
    size, filters = filter_bank(config, bands)
    spectrum = torch.stft(
        samples,
        size,
        hop,
        window,
        torch.hann_window(window),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = filters @ spectrum.abs().square()  # (bands, F) @ (F, frames)
    return 10 * power.clamp(min=FLOOR).log10()


def to_pixels(decibels: Tensor, depth: float) -> Tensor:
    """Decibels (bands, frames), the lowest band first -> uint8 (1, bands, frames) in 1..255, the highest first.

    Silence, which has no loudest, is 1 everywhere.
    """
    loudest = max(float(decibels.max()), 10 * np.log10(FLOOR) + depth)
    shares = ((decibels - loudest) / depth + 1).clamp(0, 1)
    return (1 + (LEVELS * shares).round()).to(torch.uint8).flip(0).unsqueeze(0)


def used_columns(pixels: Tensor) -> Tensor:
    """How many columns images have before the zeros at their end: (B, C, H, W) -> int64 (B,)."""
    used = (pixels != 0).any(1).any(1)  # (B, W)
    return (used * torch.arange(1, used.shape[1] + 1, device=used.device)).amax(1)


@lru_cache(maxsize=8)
def filter_bank(config: SoundConfig, bands: int) -> tuple[int, Tensor]:
    """The size of a Fourier transform in which no band is empty, and the bands: float32 (bands, size // 2 + 1).

    Triangles of height 1, evenly spaced in mel (O'Shaughnessy 1987: 2595 log10(1 + f / 700)), each from the middle of
    the one below to that of the one above (Davis 1980).
    """
    size = 1 << (config.samples(config.window) - 1).bit_length()
    corners = band_corners(config, bands)  # (bands + 2,)
    while True:
        frequencies = np.arange(size // 2 + 1) * config.rate / size  # (F,)
        rising = (frequencies - corners[:-2, None]) / np.diff(corners[:-1])[:, None]
        falling = (corners[2:, None] - frequencies) / np.diff(corners[1:])[:, None]
        filters = np.maximum(0, np.minimum(rising, falling))  # (bands, F)
        if filters.any(1).all():
            return size, torch.from_numpy(filters.astype(np.float32))
        size *= 2


def band_corners(config: SoundConfig, bands: int) -> NDArray[np.float64]:
    """Where bands begin, peak and end, in Hz, ascending: (bands + 2,); band i has its peak at corner i + 1."""
    low, high = mel(np.array([config.low, config.top])).tolist()
    return hertz(np.linspace(low, high, bands + 2))


def mel(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hertz as mel."""
    return 2595 * np.log10(1 + frequency / 700)


def hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mel as hertz."""
    return 700 * (10 ** (mels / 2595) - 1)


def require_soundfile() -> None:
    """Raises ValueError saying what to install where sounds cannot be read."""
    try:
        import soundfile  # noqa: F401
    except (ImportError, OSError) as error:  # the package, or the library that it binds
        raise ValueError(INSTALL) from error
