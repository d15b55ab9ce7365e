"""The settings of a vision run: those that all runs share, the images, their augmentation, and the model's shape."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from core.checks import check_at_least, check_between, check_choices, check_positive
from core.config import TransformerConfig
from core.training.config import RunConfig
from vision.augmentation.config import AugmentConfig
from vision.captions.held_out import Labelling
from vision.data.files import Fit
from vision.data.named import NAMES
from vision.data.recordings import is_fsdd
from vision.data.spectrograms import SoundConfig
from vision.models.config import DROPPED, ViTConfig


@dataclass(frozen=True, kw_only=True)
class VisionConfig(RunConfig):
    """What all runs of `vision.train` share; batches count images. The model is the task's."""

    resumable = (*RunConfig.resumable, "data", "eval_batch", "storage")

    data: str = "digits"
    """A name (digits, cifar10, cifar100, mnist, fashion-mnist, kmnist, fugue-icons); a folder of images:
    ROOT/CLASS/*.jpg or ROOT/{train,val,test}/CLASS/*.jpg; a folder of images with a labels.csv beside them; or
    hf:NAME[:CONFIG]. Where media is sounds: a folder of sounds, ROOT/CLASS/*.wav and so on; fsdd; or fsdd:SPEAKER,
    whose recordings are for the test alone."""
    validation: float | None = None
    """Training images held out for validation, or a fraction of them below 1, stratified and always the same; default
    a tenth, or the folder's own; 0 = none, for the final run of a recipe."""
    fit: Fit = "crop"
    """How a folder's images become squares: their central square, all of them between black bars, or distorted."""
    skip_bad: bool = False
    """Leave out images that cannot be read, and count them, instead of stopping at the first."""
    storage: Literal["auto", "memory", "stream"] = "auto"
    """A folder's images while training: decoded once and held in memory, or decoded as they are needed by worker
    processes; auto holds what fits into half of the free memory."""
    eval_batch: int = 250
    """Images evaluated at once, on each process."""
    model: Any = None
    """The model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        if not self.data.strip():
            raise ValueError(f"data = {self.data!r} must be a name or a folder of images")
        check_positive(self, "eval_batch")
        if self.validation is not None:
            check_at_least(self, 0, "validation")

    @property
    def labelling(self) -> Labelling:
        """Whether the names of classes are captions."""
        return "classes"

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        folder = ("skip_bad", "storage", "fit") if self.data in NAMES else ()
        return super().unused() | dict.fromkeys(folder, f"{self.data} is not a folder of images")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(VisionConfig):
    """A classifier of images, or of sounds."""

    task = "classification"

    media: Literal["images", "sounds"] = "images"
    """What the files are: images, or sounds (wav, flac, ogg), whose spectrograms are images."""
    sound: SoundConfig = field(default_factory=SoundConfig)
    """How a sound becomes an image of model.image_size: rows are bands of frequencies, columns windows of time."""
    half_size: float = 0.0
    """Fraction of the budget, at its beginning, on images of half the side, which have a quarter of the patches."""
    init_from: str = ""
    """Start from trained weights: a run folder of vision.train, timm:NAME, or a .safetensors file in timm's layout."""
    train: Literal["all", "head"] = "all"
    """What is trained: every weight, or the head alone on what the rest of init_from's weights makes of the images."""
    class_weights: Literal["none", "balanced"] = "none"
    """Whether an image counts as the others, or the more the fewer training images its class has: n / (K n_class)."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How training images are varied."""
    model: ViTConfig = field(default_factory=ViTConfig)
    """The model; with init_from only image_size, patch and what is dropped out have an effect, the rest comes with the
    weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train == "head" and not self.init_from:
            raise ValueError("train = 'head' needs init_from: the weights that stay as they are")
        if self.train == "head" and self.adapter.kind != "none":
            raise ValueError(f"adapter = {self.adapter.kind!r} needs train = 'all': adapters are in the layers")
        check_between(self, 0.0, 1.0, "half_size")
        self._check_media()
        if self.augment.mixes and self.batch_size // self.accumulate % 2:
            raise ValueError(
                f"batch_size = {self.batch_size} makes micro-batches of {self.batch_size // self.accumulate} images; "
                f"mixup and cutmix mix them in pairs, and need an even number"
            )

    def _check_media(self) -> None:
        """Sounds have padding, and neither an upside down nor colours; images have no padding."""
        sounds = self.media == "sounds"
        if sounds and self.data in NAMES:
            raise ValueError(f"data = {self.data!r} holds images: sounds are fsdd, or a folder ROOT/CLASS/*.wav")
        if is_fsdd(self.data) and not sounds:
            raise ValueError(f"data = {self.data!r} holds sounds: take the preset fsdd, or --media sounds")
        if not self.init_from and sounds != (self.model.padding == "columns"):
            wanted = "columns" if sounds else "none"
            raise ValueError(f"model.padding = {self.model.padding!r} must be {wanted!r} for {self.media}")
        if sounds and self.half_size:
            raise ValueError(f"half_size = {self.half_size} is for images: half of the bands are another sound")
        for name in ("crop", "flip", "erase", "operations", "cutmix") if sounds else ():
            value = getattr(self.augment, name)
            if value not in ("none", 0):
                raise ValueError(f"augment.{name} = {value!r} is for images: sounds are varied by augment.sound")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        idle = super().unused()
        if self.media == "images":
            idle |= dict.fromkeys(("sound", "augment.sound"), "media = 'images'")
        else:
            idle["fit"] = "a sound that is too long is cut to its middle"
        if self.init_from:
            taken = ("image_size", "patch", "core")
            names = [f"model.{f.name}" for f in fields(ViTConfig) if f.name not in taken]
            names += [f"model.core.{f.name}" for f in fields(TransformerConfig) if f.name not in DROPPED]
            idle |= dict.fromkeys(names, "init_from brings its own")
        if self.train == "head":
            names = ["optimizer.layer_decay", *(f"model.core.{name}" for name in DROPPED)]
            idle |= dict.fromkeys(names, "train = 'head' leaves the layers as they are")
        return idle
