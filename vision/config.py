"""The settings of a vision run: those that all runs share, the images, their augmentation, and the model's shape."""

from dataclasses import dataclass, field, fields
from typing import Literal

from core.checks import check_at_least, check_between, check_choices, check_positive
from core.training.config import RunConfig
from vision.augmentation.config import AugmentConfig
from vision.data.named import NAMES
from vision.models.config import ViTConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """A run of `vision.train`; batches count images."""

    resumable = (*RunConfig.resumable, "data", "eval_batch", "storage")

    data: str = "digits"
    """A name (digits, cifar10, cifar100, mnist, fashion-mnist, kmnist), or a folder of images: ROOT/CLASS/*.jpg or
    ROOT/{train,val,test}/CLASS/*.jpg."""
    validation: int | None = None
    """Training images held out for validation, seeded and stratified; default a tenth, or the folder's own; 0 = none,
    for the final run of a recipe."""
    skip_bad: bool = False
    """Leave out images that cannot be read, and count them, instead of stopping at the first."""
    storage: Literal["auto", "memory", "stream"] = "auto"
    """A folder's images while training: decoded once and held in memory, or decoded as they are needed by worker
    processes; auto holds what fits into half of the free memory."""
    eval_batch: int = 500
    """Images evaluated at once, on each process."""
    half_size: float = 0.0
    """Fraction of the budget, at its beginning, on images of half the side, which have a quarter of the patches."""
    init_from: str = ""
    """Start from trained weights: a run folder of vision.train, timm:NAME, or a .safetensors file in timm's layout."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How training images are varied."""
    model: ViTConfig = field(default_factory=ViTConfig)
    """The model; with init_from only image_size and patch have an effect, the rest comes with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        check_positive(self, "eval_batch")
        check_between(self, 0.0, 1.0, "half_size")
        if self.validation is not None:
            check_at_least(self, 0, "validation")
        if self.augment.mixes and self.batch_size // self.accumulate % 2:
            raise ValueError(
                f"batch_size = {self.batch_size} makes micro-batches of {self.batch_size // self.accumulate} images; "
                f"mixup and cutmix mix them in pairs, and need an even number"
            )

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        idle = super().unused()
        if self.data in NAMES:
            idle |= dict.fromkeys(("skip_bad", "storage"), f"{self.data} is not a folder of images")
        if self.init_from:
            names = [f"model.{f.name}" for f in fields(ViTConfig) if f.name not in ("image_size", "patch")]
            idle |= dict.fromkeys(names, "init_from brings its own")
        return idle
