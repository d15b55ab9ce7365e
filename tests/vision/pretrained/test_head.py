"""Rows of a head go to the classes of their names, and it is said which are new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.vision.pretrained.models import (
    TINY,
    saved,
    theirs,
    without,
)
from vision.models.vit import ViT
from vision.trained import read_pretrained


def starts(tmp_path: Path, names: Any, classes: Sequence[str]) -> tuple[ViT, nn.Linear]:
    """A model for these classes, and the head of the model of 11 that it starts from, whose classes have names."""
    model = theirs("registers, mean pooling")
    saved(model, tmp_path, model_args=without(TINY, "num_classes"), **({"label_names": names} if names else {}))
    source = read_pretrained(str(tmp_path))
    return source.start(replace(source.config, classes=len(classes)), classes), model.head


NUMBERS = [str(i) for i in range(11)]
BY_NAME = {
    "numbers that a folder sorts as words": (NUMBERS, sorted(NUMBERS), [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]),
    "numbers without names": (None, sorted(NUMBERS), [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9]),
    "the same in another order": ([*"abcdefghijk"], [*"kbcdefghija"], [10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]),
    "fewer": ([*"abcdefghijk"], ["c", "i"], [2, 8]),
    "some": ([*"abcdefghijk"], ["c", "new", "i"], [2, None, 8]),
    "none": ([*"abcdefghijk"], [*"lmnopqrstuv"], [None] * 11),
    "no names": (None, [*"abcdefghijk"], [None] * 11),
    "by label, with gaps": ({"3": "c", "10": "k"}, ["k", "c", "x"], [10, 3, None]),
    "spelt otherwise": (["Great White_Shark", *"bcdefghijk"], ["great-white shark", "b"], [0, 1]),
    "a name of several": (["crane", "Crane", *"cdefghijk"], ["CRANE", "c"], [None, 2]),
}


@pytest.mark.parametrize("case", BY_NAME)
def test_rows_of_a_head_go_to_classes_of_their_name(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, classes, rows = BY_NAME[case]
    made, head = starts(tmp_path, names, classes)
    [line] = capsys.readouterr().err.splitlines()
    for place, row in enumerate(rows):
        kept = [place for r in range(11) if made.head.weight[place].equal(head.weight[r]) and r == row]
        assert bool(kept) == (row is not None)
        assert row is None or made.head.bias[place].equal(head.bias[row])
    new = [name for name, row in zip(classes, rows, strict=True) if row is None]
    said = "is trained from scratch" if len(new) == len(rows) else f"new are {new[0]}" if new else "is kept: "
    assert said in line


def test_imagenet_s_classes_are_known_by_their_synsets_and_their_descriptions(tmp_path: Path) -> None:
    saved(theirs("ViT"), tmp_path, model_args={"depth": 2})
    known = read_pretrained(str(tmp_path)).classes
    classes = ["n01443537", "tench", "Tinca_tinca", "great white shark", "crane", "unheard of"]
    assert known.rows(classes, 1000) == ([1, 0, None, 2, None, None], "name")
