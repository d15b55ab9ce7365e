"""What the contract is held against: each panel's tasks, on small data and a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from decision.collecting.config import CollectConfig
from decision.collecting.record import collect
from decision.data.store import Trajectories
from tests.text.processes import prose
from tests.text.tasks.toys import ends, moods
from tests.vision.data.sounds import write_sounds

PLAIN = ("--precision", "fp32", "--device", "cpu", "--optimizer.muon-precision", "fp32", "--log-every", 1)
NARROW = ("--model.core.depth", 2, "--model.core.n_heads", 2)
SMALL_BPE = ("--model.core.dim", 32, "--model.core.ffn-dim", 64, "--bpe-size", 270)


@dataclass(frozen=True)
class Subject:
    """A task of a panel.

    data:    writes its data into a folder, and returns what --data names; what is there is replaced
    change:  the same with other data in the same place
    small:   PRESET and the flags of a tiny model
    random:  flags for everything that draws random numbers
    divided: flags of a run whose batches may be divided among micro-batches and processes
    """

    panel: str
    data: Callable[[Path], Path]
    change: Callable[[Path], Path]
    small: tuple[object, ...]
    random: tuple[object, ...]
    divided: tuple[object, ...]


def text(folder: Path, sentences: int = 400) -> Path:
    """Sentences made by a rule."""
    (folder / "text.txt").write_text(prose(sentences), encoding="utf-8")
    return folder / "text.txt"


def pictures(folder: Path, count: int = 24) -> Path:
    """Three classes, each a colour with noise, of 12 x 12 pixels."""
    for label, colour in enumerate(((200, 40, 40), (40, 180, 60), (60, 90, 210))):
        place = folder / "pictures" / f"class-{label}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = np.random.default_rng([label, number]).normal(0, 25, (12, 12, 3))
            Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(place / f"{number:03d}.png")
    return folder / "pictures"


def captioned(folder: Path, count: int = 4) -> Path:
    """Squares and bars in four colours, so many of each, with captions in a table."""
    place, rows = folder / "captioned", ["file,label"]
    place.mkdir(exist_ok=True)
    colours = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (60, 90, 210), "grey": (90, 90, 90)}
    parts = {"square": np.s_[3:9, 3:9], "bar": np.s_[:, 5:8], "beam": np.s_[5:8, :]}
    for colour, values in colours.items():
        for name, part in parts.items():
            for number in range(count):
                pixels = np.full((12, 12, 3), 240 + number, np.uint8)
                pixels[part] = values
                Image.fromarray(pixels).save(place / f"{colour}-{name}-{number}.png")
                rows.append(f"{colour}-{name}-{number}.png,{colour} {name}")
    (place / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    return place


def sounds(folder: Path, count: int = 24) -> Path:
    """Three classes of sounds, each a chord with noise, of different lengths."""
    return write_sounds(folder / "sounds", count)


def episodes(folder: Path, steps: int = 600) -> Path:
    """A random policy in CartPole."""
    file = folder / "random.npz"
    file.unlink(missing_ok=True)
    collect(CollectConfig(env="CartPole-v1", steps=steps, out=str(file)))
    return file


def fewer_episodes(folder: Path) -> Path:
    """The first five of them."""
    file = folder / "random.npz"
    Trajectories.load(file).select(range(5)).save(file)
    return file


NUMBERS = "zero one two three four five six", "null eins zwei drei vier fünf sechs"


def translations(folder: Path, count: int = 120) -> Path:
    """Numbers in words of two languages."""
    rows = [[int(digit) for digit in np.base_repr(row, 7)] for row in range(count)]
    lines = ["\t".join(" ".join(words.split()[digit] for digit in row) for words in NUMBERS) for row in rows]
    (folder / "pairs.tsv").write_text("\n".join(["source\ttarget", *lines, ""]), encoding="utf-8")
    return folder / "pairs.tsv"


def questions(folder: Path, count: int = 90) -> Path:
    """Sums and their answers, one or two in a conversation."""
    lines = []
    for row in range(count):
        said = []
        for first in (row % 10, row % 7)[: 1 + row % 2]:
            said += [("user", f"{first} + {row // 10} = ?"), ("assistant", f"{first + row // 10}")]
        lines.append(json.dumps({"messages": [{"role": role, "content": content} for role, content in said]}))
    (folder / "questions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "questions.jsonl"


SUBJECTS = {
    "translation": Subject(
        "text",
        data=translations,
        change=lambda folder: translations(folder, 121),
        small=(
            *(
                "multi30k",
                "--optimizer.kind",
                "muon",
                *PLAIN,
                *NARROW,
                "--model.core.dim",
                32,
                "--model.core.ffn-dim",
                64,
            ),
            *("--model.context", 40, "--batch-size", 400, "--bpe-size", 270),
        ),
        random=("--ema", 0.9, "--model.core.dropout", 0.2, "--model.core.attention-dropout", 0.1),
        divided=("--ema", 0.9, "--model.core.dropout", 0.0, "--eval-batch", 5),
    ),
    "classification": Subject(
        "text",
        data=lambda folder: moods(folder / "moods.tsv"),
        change=lambda folder: moods(folder / "moods.tsv", 241),
        small=(
            *("sst2", "--optimizer.kind", "muon", *PLAIN, *NARROW, "--model.core.dim", 32, "--model.core.ffn-dim", 64),
            *("--model.context", 64, "--batch-size", 8, "--tokenizer", "bpe", "--model.words", "tokens"),
        ),
        random=("--ema", 0.9, "--model.core.dropout", 0.2, "--model.core.attention-dropout", 0.1),
        divided=("--ema", 0.9, "--model.core.dropout", 0.0, "--eval-batch", 5),
    ),
    "tagging": Subject(
        "text",
        data=lambda folder: ends(folder / "ends.txt"),
        change=lambda folder: ends(folder / "ends.txt", 201),
        small=("ud-pos", *PLAIN, *NARROW, "--model.core.dim", 32, "--model.context", 16, "--batch-size", 64),
        random=("--ema", 0.9, "--model.core.dropout", 0.2, "--model.core.attention-dropout", 0.1),
        divided=("--ema", 0.9, "--model.core.dropout", 0.0, "--eval-batch", 5),
    ),
    "masked": Subject(
        "text",
        data=text,
        change=lambda folder: text(folder, 401),
        small=("mlm-cpu", *PLAIN, *NARROW, *SMALL_BPE, "--model.context", 16, "--batch-size", 8),
        random=("--ema", 0.9, "--model.core.dropout", 0.2, "--model.core.attention-dropout", 0.1),
        divided=("--ema", 0.9, "--replacement", "mask", "--eval-batch", 5),
    ),
    "denoising": Subject(
        "text",
        data=text,
        change=lambda folder: text(folder, 401),
        small=("t5-cpu", *PLAIN, *NARROW, *SMALL_BPE, "--model.context", 16, "--batch-size", 8, "--sentinels", 9),
        random=("--ema", 0.9, "--model.core.dropout", 0.2, "--model.core.attention-dropout", 0.1),
        divided=("--ema", 0.9, "--span", 2, "--eval-batch", 5),
    ),
    "embedding": Subject(
        "text",
        data=translations,
        change=lambda folder: translations(folder, 121),
        small=("embed-cpu", *PLAIN, *NARROW, *SMALL_BPE, "--model.context", 40, "--batch-size", 8, "--group", 4),
        random=("--ema", 0.9, "--model.core.dropout", 0.2, "--model.core.attention-dropout", 0.1),
        divided=("--ema", 0.9, "--model.core.dropout", 0.0, "--eval-batch", 5),
    ),
    "instructions": Subject(
        "text",
        data=questions,
        change=lambda folder: questions(folder, 91),
        small=(
            *("instruct", *PLAIN, *NARROW, "--model.core.dim", 32, "--model.context", 128, "--batch-size", 8),
            *("--tokenizer", "byte"),
        ),
        random=("--ema", 0.9, "--model.core.dropout", 0.2, "--model.core.attention-dropout", 0.1, "--sample", 1),
        divided=("--ema", 0.9, "--sample", 0, "--eval-batch", 5),
    ),
    "text": Subject(
        "text",
        data=text,
        change=lambda folder: text(folder, 401),
        small=("char-cpu", *PLAIN, *NARROW, "--model.core.dim", 32, "--model.context", 16, "--batch-size", 8),
        random=("--ema", 0.9, "--model.core.dropout", 0.2, "--model.core.attention-dropout", 0.1, "--sample", 8),
        divided=("--ema", 0.9, "--sample", 0, "--eval-batch", 5),
    ),
    "vision": Subject(
        "vision",
        data=pictures,
        change=lambda folder: pictures(folder, 25),
        small=(
            *("vit-cifar-cpu", *PLAIN, *NARROW, "--model.core.dim", 32, "--model.image-size", 8, "--model.patch", 2),
            *("--batch-size", 8),
        ),
        random=(
            *("--ema", 0.9, "--model.core.drop-path", 0.2, "--augment.operations", 1, "--augment.erase", "random"),
            *("--augment.mixup", 0.8, "--augment.cutmix", 1.0, "--augment.plain-end", 0.2),
        ),
        divided=("--ema", 0.9, "--augment.operations", 1, "--augment.erase", "random", "--eval-batch", 2),
    ),
    "flow": Subject(
        "vision",
        data=pictures,
        change=lambda folder: pictures(folder, 25),
        small=(
            *("flow-digits", *PLAIN, *NARROW, "--model.core.dim", 32, "--model.image-size", 8, "--model.patch", 4),
            *("--batch-size", 8),
        ),
        random=("--ema", 0.9, "--model.core.dropout", 0.1, "--flip", "random", "--sample", 3, "--drawing.steps", 2),
        divided=("--ema", 0.9, "--flip", "random", "--sample", 0, "--eval-batch", 2),
    ),
    "pixels": Subject(
        "vision",
        data=captioned,
        change=lambda folder: captioned(folder, 5),
        small=(
            *("pixels-icons", *PLAIN, *NARROW, "--model.core.dim", 32, "--model.image-size", 8, "--model.patch", 2),
            *("--batch-size", 8, "--model.codes", 20, "--sample", 3),
        ),
        random=("--ema", 0.9, "--model.core.dropout", 0.1),
        divided=("--ema", 0.9, "--model.core.dropout", 0.0, "--sample", 0, "--eval-batch", 2),
    ),
    "contrastive": Subject(
        "vision",
        data=captioned,
        change=lambda folder: captioned(folder, 5),
        small=(
            *("judge-icons", *PLAIN, *NARROW, "--model.core.dim", 32, "--model.image-size", 8, "--model.patch", 4),
            *("--batch-size", 8, "--group", 4),
        ),
        random=("--ema", 0.9, "--model.core.dropout", 0.1),
        divided=("--ema", 0.9, "--model.core.dropout", 0.0, "--eval-batch", 2, "--temperature", 1.0),
    ),
    "sounds": Subject(
        "vision",
        data=sounds,
        change=lambda folder: sounds(folder, 25),
        small=(
            *("fsdd", *PLAIN, *NARROW, "--model.core.dim", 32, "--model.image-size", 16, 32, "--model.patch", 16, 4),
            *("--batch-size", 8),
        ),
        random=("--ema", 0.9, "--model.core.drop-path", 0.2, "--augment.mixup", 0.4, "--augment.plain-end", 0.2),
        divided=("--ema", 0.9, "--augment.mixup", 0.0, "--eval-batch", 5),
    ),
    "decision": Subject(
        "decision",
        data=episodes,
        change=fewer_episodes,
        small=(
            *("cartpole", *PLAIN, *NARROW, "--model.core.dim", 16, "--model.context", 5, "--batch-size", 8),
            *("--eval-episodes", 2, "--eval-targets", 10, 30),
        ),
        random=("--ema", 0.5, "--model.core.dropout", 0.1, "--top-percent", 90),
        divided=("--ema", 0.9, "--eval-episodes", 3, "--eval-targets", 10, 30, 60),
    ),
}
