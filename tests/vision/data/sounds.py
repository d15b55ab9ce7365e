"""Sounds made by rule: chords and noise, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

NOTES = {"low": (300, 450), "middle": (900, 1350), "high": (2000, 3000)}


def chord(name: str, number: int, seconds: float = 0.2, rate: int = 8000) -> NDArray[np.float64]:
    """Two tones with noise, louder and longer as the number goes on: (N,) in -1..1."""
    rng = np.random.default_rng([number, len(name)])
    times = np.arange(int(rate * (seconds + 0.02 * (number % 5)))) / rate
    tones = sum(np.sin(2 * np.pi * note * rng.uniform(0.97, 1.03) * times) for note in NOTES[name])
    return np.clip((0.1 + 0.02 * (number % 7)) * tones + rng.normal(0, 0.01, len(times)), -1, 1)


def write_sounds(folder: Path, count: int = 12) -> Path:
    """ROOT/CLASS/*.wav, .flac and .ogg, `count` of each class."""
    for name in NOTES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            suffix = ("wav", "flac", "ogg")[number % 3]
            soundfile.write(folder / name / f"{number:03d}.{suffix}", chord(name, number), 8000)
    return folder


def write_takes(root: Path, speakers: tuple[str, ...] = ("ann", "bob", "cleo"), takes: int = 7) -> Path:
    """A small `fsdd` below a data root."""
    folder = root / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for digit in range(10):
        for speaker in speakers:
            for take in range(takes):
                noise = np.random.default_rng([digit, take, len(speaker)]).normal(0, 0.1, 400)
                soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", noise, 8000)
    return folder
