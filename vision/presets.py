"""Named configurations that are known to work, each with what it was measured to reach."""

from dataclasses import replace

from core.config import PositionConfig, TransformerConfig
from core.optim.config import OptimizerConfig, ScheduleConfig
from vision.augmentation.config import AugmentConfig, SoundAugment
from vision.config import TrainConfig, VisionConfig
from vision.data.spectrograms import SoundConfig
from vision.generation.samplers import Drawing
from vision.models.config import ViTConfig
from vision.models.contrastive import ContrastiveConfig
from vision.models.dit import DiTConfig
from vision.models.image_gpt import ImageGPTConfig
from vision.tasks.contrastive_config import ContrastiveRunConfig
from vision.tasks.drawing.flow_config import FlowConfig
from vision.tasks.drawing.pixels_config import PixelsConfig

PLATEAU = ScheduleConfig(kind="wsd", warmup=0.05, decay=0.5, final=0.0)
COSINE = ScheduleConfig(kind="cosine", warmup=0.05, final=0.0)
MUON = OptimizerConfig("muon", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.05)


def plain_core(dim: int, depth: int, n_heads: int, drop_path: float = 0.0) -> TransformerConfig:
    """The block of the ViT paper and of DeiT (timm's), learned positions."""
    return TransformerConfig(
        dim=dim,
        depth=depth,
        n_heads=n_heads,
        norm_eps=1e-6,
        position=PositionConfig("learned"),
        drop_path=drop_path,
    )


def modern_core(dim: int, depth: int, n_heads: int, drop_path: float = 0.0) -> TransformerConfig:
    """Axial rotary positions, QK-norm, squared ReLU, branches that start at zero: measured in docs/lab-notes.md."""
    return TransformerConfig(
        dim=dim,
        depth=depth,
        n_heads=n_heads,
        bias="none",
        feedforward="relu2",
        qk_norm="rms",
        init="zero-residual",
        position=PositionConfig("rotary", base=100.0),
        drop_path=drop_path,
    )


def deit(dim: int, depth: int, n_heads: int) -> ViTConfig:
    """DeiT's shape at 224 pixels in patches of 16, as the public weights have it."""
    core = plain_core(dim, depth, n_heads, drop_path=0.1)
    return ViTConfig(image_size=224, patch=16, pool="class", coordinates="raster", core=core)


STRONG = AugmentConfig(
    crop="resized",
    flip="random",
    operations=2,
    strength=9.0,
    erase="random",
    erase_probability=0.25,
    mixup=0.8,
    cutmix=1.0,
    smoothing=0.1,
)
"""DeiT's (Touvron 2021, table 9)."""


def photographs(model: ViTConfig) -> TrainConfig:
    """DeiT's recipe, for folders of photographs; docs/vision.md shows how to start from its public weights."""
    return TrainConfig(
        steps=20_000,
        batch_size=512,
        eval_every=1000,
        save_every=1000,
        compile="default",
        augment=STRONG,
        optimizer=OptimizerConfig(lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
        schedule=COSINE,
        model=model,
    )


def drawing_core(dim: int, depth: int, n_heads: int) -> TransformerConfig:
    """The modern block, modulated by time and class, with learned positions."""
    core = modern_core(dim, depth, n_heads)
    return replace(core, modulation="adaln", qk_norm="none", position=PositionConfig("learned"))


def decoding_core(dim: int, depth: int, n_heads: int) -> TransformerConfig:
    """The modern block with learned positions, of which rows and columns have their own."""
    return replace(modern_core(dim, depth, n_heads), position=PositionConfig("learned"))


SPOKEN = TrainConfig(  # digits in 40 bands and up to 1.2 seconds, a token for each 20 milliseconds
    steps=1000,
    batch_size=64,
    data="fsdd",
    media="sounds",
    sound=SoundConfig(rate=8000),
    eval_every=250,
    augment=AugmentConfig(
        sound=SoundAugment(
            time_stretch=0.25, pitch_stretch=0.15, time_masks=2, time_share=0.2, pitch_masks=2, pitch_share=0.2
        ),
        smoothing=0.1,
    ),
    optimizer=MUON,
    schedule=PLATEAU,
    model=ViTConfig(image_size=(40, 120), patch=(40, 2), padding="columns", core=modern_core(96, 3, 3)),
)


PRESETS: dict[str, VisionConfig] = {
    # The quick start, no data needed: 97.4 +- 0.6 % of 359 test images, trained on the other 1,438 (--validation 0),
    # last step, seeds 0 to 4 (benchmarks/results/learned_figures.json). With so few images AdamW does better than
    # Muon, and convolutional tokens better than patches: docs/lab-notes.md.
    "vit-digits": TrainConfig(
        steps=1000,
        batch_size=128,
        eval_every=200,
        augment=AugmentConfig(crop="shift", shift=1, smoothing=0.1),
        optimizer=OptimizerConfig(lr=3e-3, betas=(0.9, 0.99), weight_decay=0.1),
        schedule=PLATEAU,
        model=ViTConfig(
            image_size=8,
            patch=2,
            tokenizer="conv",
            pool="attention",
            coordinates="raster",
            core=replace(modern_core(64, 3, 2), position=PositionConfig("learned")),
        ),
    ),
    # 86.5 % of the official test images, trained on all training images (--validation 0), last step, seed 0, in 10
    # minutes on 2 cores of an AMD EPYC 9005 (benchmarks/results/vision_cifar_cpu.json).
    "vit-cifar-cpu": TrainConfig(
        steps=5400,
        batch_size=128,
        data="cifar10",
        eval_every=500,
        half_size=0.6,
        augment=AugmentConfig(crop="shift", shift=3, flip="alternating", smoothing=0.1),
        optimizer=MUON,
        schedule=PLATEAU,
        model=ViTConfig(image_size=32, patch=4, inputs="whitened", core=modern_core(128, 6, 4)),
    ),
    # A plain ViT for eight minutes of one large GPU. Not measured yet: no GPU was available.
    "vit-cifar-best": TrainConfig(
        minutes=8.0,
        batch_size=512,
        data="cifar10",
        eval_every=1000,
        save_every=1000,
        compile="default",
        half_size=0.6,
        ema=0.999,
        augment=AugmentConfig(
            crop="shift",
            shift=4,
            flip="alternating",
            operations=2,
            strength=4.0,
            erase="cutout",
            erase_size=8,
            mixup=0.2,
            cutmix=1.0,
            mix_probability=0.5,
            smoothing=0.1,
            plain_end=0.15,
        ),
        optimizer=MUON,
        schedule=PLATEAU,
        model=ViTConfig(image_size=32, patch=2, inputs="whitened", core=modern_core(384, 8, 6, drop_path=0.1)),
    ),
    # CCT-7/3x1 and its published recipe of 300 epochs, which reaches 96.5 (Hassani 2021, table 3). Not measured
    # here yet: no GPU was available.
    "cct-7-3x1": TrainConfig(
        steps=117_300,
        batch_size=128,
        data="cifar10",
        eval_every=3910,
        save_every=3910,
        compile="default",
        augment=replace(STRONG, crop="shift"),
        optimizer=OptimizerConfig(lr=5.5e-4, betas=(0.9, 0.999), weight_decay=0.06),
        schedule=ScheduleConfig(kind="cosine", warmup=0.033, final=0.02),
        model=ViTConfig(
            image_size=32,
            patch=2,
            tokenizer="conv",
            pool="attention",
            coordinates="raster",
            core=replace(plain_core(256, 7, 4, drop_path=0.1), ffn_dim=512),
        ),
    ),
    # Spoken digits (docs/sounds.md): 99.7, 100.0 and 99.0 % of the official 300 recordings (seeds 0 to 2), with
    # --validation 0, last step, in 134 core-seconds of one thread of an Intel Xeon with AMX
    # (benchmarks/results/vision_sounds.json).
    "fsdd": SPOKEN,
    # The same with convolutions, for which a vowel that is a little higher is the same vowel, and other microphones.
    # New voices: 86.0 % on average over the six speakers, 77.2 % (lucas) to 96.2 % (jackson), seed 0, the rest as
    # above, in 474 core-seconds.
    "fsdd-speakers": replace(
        SPOKEN,
        data="fsdd:theo",
        augment=replace(SPOKEN.augment, sound=replace(SPOKEN.augment.sound, equaliser=0.15)),
        model=replace(SPOKEN.model, tokenizer="conv", patch=8),
    ),
    # DeiT's three shapes and recipe, for folders of photographs and for public weights. Not measured yet.
    "vit-tiny": photographs(deit(192, 12, 3)),
    "vit-small": photographs(deit(384, 12, 6)),
    "vit-base": photographs(deit(768, 12, 12)),
    # Handwritten digits of 8 x 8 pixels, drawn: 99.5 % of 1,438 are recognised by vit-digits (96.1 % of real ones are),
    # and a classifier trained on them alone recognises 94.2 % of the real ones; with --validation 0, seed 0, last step,
    # in 129 seconds of one thread of an Intel Xeon with AMX (docs/vision-generation.md).
    "flow-digits": FlowConfig(
        steps=1200,
        batch_size=128,
        eval_every=300,
        save_every=300,
        ema=0.998,
        drawing=Drawing(steps=25, sampler="heun", guidance=1.5),
        optimizer=MUON,
        schedule=PLATEAU,
        model=DiTConfig(image_size=8, patch=2, core=drawing_core(64, 4, 2)),
    ),
    # MNIST in 49 tokens: 99.2 % of 2,000 are recognised by a classifier that recognises 98.9 % of the test images,
    # Frechet distance 2.4 times that of training images; seed 0, last step, 192,000 images at about 250 a second of one
    # thread of an Intel Xeon with AMX (docs/vision-generation.md).
    "flow-mnist": FlowConfig(
        steps=3000,
        batch_size=64,
        data="mnist",
        validation=1000,
        eval_every=500,
        save_every=500,
        ema=0.998,
        drawing=Drawing(steps=25, sampler="heun", guidance=1.7),
        optimizer=MUON,
        schedule=PLATEAU,
        model=DiTConfig(image_size=28, patch=4, core=drawing_core(128, 6, 4)),
    ),
    # Icons of 16 x 16 pixels by their captions: text to image. judge-icons finds the right one of 354 new captions
    # first for 75.4 % of the icons drawn (80.2 % of the real ones; by chance 0.3 %), seed 0, last step, after 849
    # seconds on one thread of an Intel Xeon with AMX (docs/vision-generation.md).
    "flow-icons": FlowConfig(
        steps=2500,
        batch_size=128,
        data="fugue-icons",
        eval_every=500,
        ema=0.998,
        drawing=Drawing(steps=25, sampler="heun", guidance=2.0),
        optimizer=MUON,
        schedule=PLATEAU,
        model=DiTConfig(image_size=16, patch=4, told="caption", caption_depth=1, core=drawing_core(128, 6, 4)),
    ),
    # Which caption an icon has, to judge those drawn: 80.2 % of 354 new captions are found first by the real icons,
    # seed 0, last step, after 110 seconds on the same thread.
    "judge-icons": ContrastiveRunConfig(
        steps=600,
        batch_size=128,
        data="fugue-icons",
        eval_every=100,
        optimizer=MUON,
        schedule=PLATEAU,
        model=ContrastiveConfig(
            image_size=16,
            patch=4,
            caption_depth=1,
            core=replace(decoding_core(128, 3, 4), dropout=0.1),
        ),
    ),
    # Handwritten digits pixel by pixel, in their 17 shades: 4.11 bits a pixel of the test images; vit-digits recognises
    # 86.7 % of those drawn; with --validation 0, seed 0, last step.
    "pixels-digits": PixelsConfig(
        steps=1200,
        batch_size=64,
        eval_every=200,
        ema=0.99,
        optimizer=MUON,
        schedule=PLATEAU,
        model=ImageGPTConfig(image_size=8, codes=17, core=decoding_core(64, 4, 2)),
    ),
    # Icons by their captions in one sequence of words and colours: for 20.9 % of the icons drawn, judge-icons finds the
    # right one of 354 captions first, none of which was trained on (80.2 % of real ones, 0.3 % by chance); 0.42 bits
    # per dimension; 879 steps, 15 minutes of one thread of an Intel Xeon with AMX, seed 0 (docs/vision-generation.md).
    "pixels-icons": PixelsConfig(
        steps=900,
        batch_size=32,
        data="fugue-icons",
        told="caption",
        eval_every=500,
        ema=0.998,
        sample=20,
        optimizer=MUON,
        schedule=PLATEAU,
        model=ImageGPTConfig(image_size=16, codes=256, core=replace(decoding_core(128, 6, 4), dropout=0.1)),
    ),
    # CIFAR-10 in ten minutes of a large GPU. Not measured yet: no GPU was available.
    "flow-cifar": FlowConfig(
        minutes=10.0,
        batch_size=512,
        data="cifar10",
        validation=1000,
        eval_every=1000,
        save_every=1000,
        compile="default",
        ema=0.9995,
        flip="random",
        drawing=Drawing(steps=50, sampler="heun", guidance=1.5),
        optimizer=MUON,
        schedule=PLATEAU,
        model=DiTConfig(image_size=32, patch=2, core=drawing_core(384, 12, 6)),
    ),
}

CLASSIFIERS = {name: preset for name, preset in PRESETS.items() if isinstance(preset, TrainConfig)}
