"""What `benchmarks.compare_commits` trains in both commits: presets, variants of them, and small data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Case:
    """A training that both sides do.

    flags: beside those that every case has, or in their place; more than one spelling where a flag was renamed: a side
        takes the first that it does not refuse. then: flags of a second command on the same run folder.
    """

    name: str
    preset: str = ""
    flags: tuple[str, ...] = ("",)
    data: str = ""
    then: str = ""

    @property
    def panel(self) -> str:
        return self.name.partition("/")[0]


VARIANTS = (
    Case("text/+bpe", "char-cpu", ("--tokenizer bpe --bpe-size 512",), data="pydoc"),
    Case("text/+bytes", "nanogpt-cpu", ("--tokenizer byte --precision bf16 --clip 0.1",)),
    Case("text/+averaged", "char-modern", ("--ema 0.9 --accumulate 2",)),
    Case("text/+resumed", "char-cpu", ("--steps 2",), then="--resume --steps 4"),
    Case("vision/+cifar10", "vit-digits", data="cifar10"),
    Case("vision/+streamed", "vit-cifar-cpu", ("--storage stream",)),
    Case("vision/+averaged", "vit-digits", ("--ema 0.9 --clip 0.1 --precision bf16 --accumulate 2",)),
    Case("decision/+cloning", "cartpole", ("--model.returns none",)),
    Case("decision/+online", "cartpole", ("--online.every 2 --online.episodes 2",)),
    Case("decision/+averaged", "cartpole", ("--ema 0.9 --precision bf16 --accumulate 2",)),
)
BATCH = {"text": 4, "vision": 4, "decision": 8}
LARGE = ("nanogpt-gpu", "char-gpu-modern", "gpt2-124m", "vit-cifar-best", "vit-small", "vit-base")
"""Presets that take two steps of two examples, which mixing can pair."""
FLAGS = {
    "text/nanogpt-gpu": ("--sample 8", ""),
    "text/char-gpu-modern": ("--sample 8", ""),
    "text/gpt2-124m": ("--batch-size 1 --sample 8 --validation 0.2", "--batch-size 1 --validation 0.2"),
}
"""Of presets as they are: what saves time, and a text to evaluate on that is as long as the context."""
DATA = {"text": "text.txt", "vision": "pictures"}
"""Made here, small enough for the largest models to be evaluated on; decision records its own."""
NAMED_DATA = {"vision/vit-digits": "digits"}
ENVIRONMENTS = {
    "lunarlander": "LunarLander-v3",
    "hopper": "Hopper-v5",
    "halfcheetah": "HalfCheetah-v5",
    "walker2d": "Walker2d-v5",
}
"""By the first word of a preset; CartPole-v1 for all others."""


def environment_of(case: Case) -> str:
    return ENVIRONMENTS.get(case.preset.partition("-")[0], "CartPole-v1")


def settings(case: Case, steps: int) -> list[str]:
    """The flags of every case, all of them sure to be known by any commit."""
    batch, every = 2 if case.preset in LARGE else BATCH[case.panel], str(steps)
    flags = {"--steps": str(steps), "--batch-size": str(batch), "--accumulate": "1", "--seed": "3", "--log-every": "1"}
    flags |= {"--eval-every": every, "--save-every": every, "--device": "cpu", "--compile": "off"}
    if case.panel == "decision":
        flags["--eval-episodes"] = "1"
    return [word for flag in flags.items() if flag[0] not in " ".join(case.flags).split() for word in flag]


def make_data(folder: Path) -> None:
    """A text of 30,000 characters from Python's documentation, and 20 pictures of noise in a folder of two classes."""
    from pydoc_data.topics import topics

    from PIL import Image

    text = "\n".join(topics[name] for name in sorted(topics))
    (folder / "text.txt").write_text(text[:30_000], encoding="utf-8")
    draws = np.random.default_rng(0)
    for split, each in (("train", 8), ("val", 2)):
        for index in range(2 * each):
            path = folder / "pictures" / split / "ab"[index % 2] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draws.integers(0, 256, (36, 40, 3), dtype=np.uint8)).save(path)
