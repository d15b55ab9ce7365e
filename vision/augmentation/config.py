"""How training images are varied: the settings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from core.checks import check_at_least, check_between, check_choices, check_positive
from vision.sides import Sides, rows_and_columns

CROP = 7 / 8
"""The least fraction of a stored image's side that a model is given, the rest being room for random crops."""


SLIDERS = 4
"""Places, evenly spaced over the bands, at which an equaliser's gain is drawn."""


@dataclass(frozen=True)
class SoundAugment:
    """How the spectrograms of training sounds are varied; by default they are not."""

    time_stretch: float = 0.0
    """A sound is made longer or shorter by up to this share: at 0.25 it lasts between 0.8 and 1.25 times as long."""
    pitch_stretch: float = 0.0
    """Every band is moved up or down by up to this share of its height: other voices say the same."""
    time_masks: int = 0
    """How many stretches of time are hidden (SpecAugment, Park 2019)."""
    time_share: float = 0.2
    """The longest of them, as a share of the sound."""
    pitch_masks: int = 0
    """How many stretches of neighbouring bands are hidden."""
    pitch_share: float = 0.2
    """The widest of them, as a share of the bands."""
    equaliser: float = 0.0
    """Bands are made louder or quieter, smoothly over them, by up to this share of all levels: another microphone."""

    def __post_init__(self) -> None:
        check_at_least(self, 0, "time_stretch", "pitch_stretch", "time_masks", "pitch_masks")
        check_between(self, 0.0, 1.0, "time_share", "pitch_share", "equaliser")

    @property
    def numbers(self) -> int:
        """How many random numbers a sound needs: two stretches, two of each mask, and the equaliser's."""
        masks = self.time_masks + self.pitch_masks
        used = masks or self.time_stretch or self.pitch_stretch or self.equaliser
        return 2 + 2 * masks + SLIDERS * bool(self.equaliser) if used else 0

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        idle = {"time_share": self.time_masks, "pitch_share": self.pitch_masks}
        return {name: f"{name.split('_')[0]}_masks = 0" for name, masks in idle.items() if not masks}


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied; by default they are not."""

    crop: Literal["none", "shift", "resized"] = "none"
    """Moved by up to `shift` pixels, or a part of the image resized to the whole (Szegedy 2015)."""
    shift: int = 4
    """shift: the furthest a stored image moves along each axis, in its pixels; borders are reflected."""
    min_area: float = 0.08
    """resized: the smallest part, as a fraction of the area; its aspect ratio is between 3:4 and 4:3."""
    flip: Literal["none", "random", "alternating"] = "none"
    """Mirrored left to right: at random, or at random in the first epoch and then every other one (Jordan 2024)."""
    operations: int = 0
    """Changes of colour and geometry in a row, each drawn from 14 (RandAugment, Cubuk 2020); 0 = none."""
    strength: float = 9.0
    """operations: how strong they are, 0..10, where 10 is e.g. a rotation by 30 degrees; 0 = none. The default of
    torchvision's RandAugment is 3 here, DeiT's 9."""
    erase: Literal["none", "cutout", "random"] = "none"
    """A square set to the mean colour (DeVries 2017), or a rectangle filled with noise (Zhong 2020)."""
    erase_size: int = 16
    """cutout: side of the square, in pixels of the model's image; it may reach over the border."""
    erase_probability: float = 0.5
    """Fraction of the images that are erased."""
    mixup: float = 0.0
    """Two images are blended by a weight from Beta(mixup, mixup) (Zhang 2018); 0 = off."""
    cutmix: float = 0.0
    """A rectangle of one image is pasted into another, its area from Beta(cutmix, cutmix) (Yun 2019); 0 = off."""
    mix_probability: float = 1.0
    """Fraction of the micro-batches with mixup or cutmix."""
    switch_probability: float = 0.5
    """With both mixup and cutmix: the fraction of the mixed micro-batches that get cutmix."""
    smoothing: float = 0.0
    """Label smoothing: part of the target that is spread evenly over all classes (Szegedy 2016)."""
    plain_end: float = 0.0
    """Fraction of the budget, at its end, without operations, erasing, mixup, cutmix, and changes of sounds."""
    sound: SoundAugment = field(default_factory=SoundAugment)
    """How sounds are varied, beside mixup and smoothing."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "shift", "erase_size")
        check_at_least(self, 0, "operations", "mixup", "cutmix")
        check_between(self, 0.0, 1.0, "smoothing")
        for name in ("erase_probability", "mix_probability", "switch_probability", "plain_end"):
            _check_up_to(self, 1, name)
        _check_up_to(self, 10, "strength")
        if not 0 < self.min_area <= 1:
            raise ValueError(f"min_area = {self.min_area!r} must be above 0 and at most 1")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, and targets therefore probabilities."""
        return self.mixup > 0 or self.cutmix > 0

    def room(self, size: Sides) -> float:
        """The fraction of a stored side that a model of images of `size` is given; random crops reach the rest."""
        if self.crop == "none":
            return 1.0
        size = min(rows_and_columns(size))
        return CROP if self.crop == "resized" else max(CROP, size / (size + 2 * self.shift))

    def effective(self, progress: float) -> AugmentConfig:
        """The settings in force when a fraction `progress` of the budget is spent."""
        ended = self.plain_end > 0 and progress >= 1 - self.plain_end
        if not ended:
            return self
        return replace(self, operations=0, erase="none", mixup=0.0, cutmix=0.0, sound=SoundAugment())

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        varied = self.operations or self.erase != "none" or self.mixes or self.sound.numbers
        both = self.mixup and self.cutmix
        idle = {
            "shift": self.crop != "shift" and f"crop = {self.crop!r} does not read it",
            "min_area": self.crop != "resized" and f"crop = {self.crop!r} does not read it",
            "operations": self.operations and not self.strength and "strength = 0 leaves images as they are",
            "strength": not self.operations and "operations = 0",
            "erase_size": self.erase != "cutout" and f"erase = {self.erase!r} does not read it",
            "erase_probability": self.erase == "none" and "erase = 'none'",
            "mix_probability": not self.mixes and "mixup and cutmix are off",
            "switch_probability": not both and "it chooses between mixup and cutmix, which are not both on",
            "plain_end": not varied and "there are no operations, erasing, mixup or cutmix to leave out",
        }
        return {name: reason for name, reason in idle.items() if reason}


def _check_up_to(config: AugmentConfig, high: int, name: str) -> None:
    if not 0 <= getattr(config, name) <= high:
        raise ValueError(f"{name} = {getattr(config, name)!r} must be at least 0 and at most {high}")
