"""Data sets made by rules that are learned in seconds: texts with labels, words with tags."""

from __future__ import annotations

import random
from pathlib import Path

PLAIN = (
    "--optimizer.kind",
    "muon",
    "--precision",
    "fp32",
    "--device",
    "cpu",
    "--optimizer.muon-precision",
    "fp32",
    "--log-every",
    "1",
)
SMALL = ("--model.core.dim", "32", "--model.core.depth", "1", "--model.core.n-heads", "2", "--model.core.dropout", "0")
BRIEF = (*PLAIN, *SMALL, "--ema", "0.9", "--label-smoothing", "0", "--schedule.kind", "constant")
TOKENS = ("--tokenizer", "bpe", "--model.words", "tokens")
CLASSIFY = ("sst2", *TOKENS, *BRIEF, "--optimizer.lr", "3e-3", "--batch-size", "32", "--token-dropout", "0")
TAG = ("ud-pos", *BRIEF, "--batch-size", "256", "--token-dropout", "0")
FILLING = ("the", "film", "is", "about", "a", "man", "and", "his", "dog")
MOODS = {"good": ("fine", "lovely", "bright"), "bad": ("dull", "awful", "grey"), "odd": ("strange", "weird", "queer")}
STEMS = ("tor", "bel", "mun", "sil", "kar", "dov", "pin", "ral", "gos", "hem", "lut", "fen")
ENDS = {"ing": "VERB", "ness": "NOUN", "ly": "ADV", "ous": "ADJ"}
ENTITIES = {"Anna": "B-PER", "Bonn": "B-LOC"}


def moods(file: Path, count: int = 240) -> Path:
    """A table: each text has one word that says its label, among others that say nothing."""
    rows, draw = ["text\tlabel"], random.Random(0)
    for number in range(count):
        label = [*MOODS][number % 3]
        words = draw.choices(FILLING, k=draw.randint(2, 8))
        words.insert(draw.randint(0, len(words)), draw.choice(MOODS[label]))
        rows.append(f"{' '.join(words)}\t{label}")
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def ends(file: Path, count: int = 200) -> Path:
    """Two columns: the tag of a word follows from its end, of which the stem says nothing."""
    lines, draw = [], random.Random(0)
    for _ in range(count):
        for _ in range(draw.randint(3, 8)):
            end = draw.choice([*ENDS])
            lines.append(f"{draw.choice(STEMS)}{end}\t{ENDS[end]}")
        lines.append("")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def names(file: Path, count: int = 120) -> Path:
    """Two columns, spans of one or two words: a name, and `Smith` behind it, which alone is none."""
    lines = []
    for number in range(count):
        name = [*ENTITIES][number % 2]
        words = [("see", "O"), (name, ENTITIES[name]), *([("Smith", f"I-{ENTITIES[name][2:]}")] * (number % 3 > 0))]
        lines += [f"{word} {tag}" for word, tag in [*words, (f"on{number % 5}", "O")]] + [""]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
