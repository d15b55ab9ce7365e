"""Captions: their words and numbers, which of them are kept from training, and the icons that have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vision.captions.held_out import REMAINING, held_out_captions
from vision.captions.icons import FILE, read_icons
from vision.captions.prompts import Prompts
from vision.captions.words import Words
from vision.data.load import load_data
from vision.data.named import read_named

COLOURS, SHAPES = ("red", "green", "blue", "grey"), ("square", "bar", "ring", "dot")
CAPTIONS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)


def test_words_are_numbered_and_survive_their_file(tmp_path: Path) -> None:
    words = Words.learn(["Red folder", "green folder with arrow"])
    assert words.words == ("arrow", "folder", "green", "red", "with")
    assert words.encode(["folder RED"], 4).tolist() == [[2, 4, 0, 0]]
    words.save(tmp_path)
    assert Words.load(tmp_path).words == words.words
    (tmp_path / "words.json").write_text('{"red": 1}')
    with pytest.raises(ValueError, match=r"words\.json holds no list of words"):
        Words.load(tmp_path)


@pytest.mark.parametrize(
    ("caption", "complaint"),
    [
        ("red foldre", "has the word 'foldre', which no training caption has; did you mean 'folder'"),
        ("red zzzzz", "which no training caption has; the 2 that are known are in words.json"),
        ("red red red", "has 3 words: 1 to 2 can be read"),
        (" ", "has 0 words"),
    ],
)
def test_a_caption_that_cannot_be_read_is_named(caption: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Words(("folder", "red")).encode([caption], 2)


def test_prompts_tell_classes_by_number_and_captions_by_words(tmp_path: Path) -> None:
    classes = Prompts.of_classes(3)
    assert classes.of(torch.tensor([2, 0, -1])).tolist() == [2, 0, 3]
    assert (classes.length, classes.size, classes.nothing.item()) == (1, 4, 3)
    with pytest.raises(ValueError, match="this one draws classes"):
        classes.read(["red bar"])
    captions = Prompts.of_captions(CAPTIONS, Words.learn(CAPTIONS), 3)
    assert captions.of([0, -1]).tolist() == [[6, 8, 0], [0, 0, 0]]
    assert (captions.length, captions.size) == (3, 9)
    captions.save(tmp_path)
    assert torch.equal(Prompts.load(tmp_path, "caption", CAPTIONS, 3).table, captions.table)
    assert torch.equal(captions.read(["red square"]), captions.of([0]))


@given(seed=st.integers(0, 2**30), copies=st.integers(1, 3), count=st.integers(1, 4))
def test_what_is_held_out_is_a_new_combination_of_known_words(seed: int, copies: int, count: int) -> None:
    labels = np.repeat(np.arange(len(CAPTIONS)), copies)
    held = held_out_captions(CAPTIONS, labels, count * copies, seed)
    assert len(held) == count * copies
    kept = np.setdiff1d(np.arange(len(labels)), held)
    trained = {CAPTIONS[label] for label in labels[kept]}
    unseen = {CAPTIONS[label] for label in labels[held]}
    assert not trained & unseen
    for caption in unseen:
        assert all(sum(word in other.split() for other in trained) >= REMAINING for word in caption.split())
    assert np.array_equal(held, held_out_captions(CAPTIONS, labels, count * copies, seed))


def test_more_than_can_be_held_out_is_refused() -> None:
    with pytest.raises(ValueError, match="images can be held out, not 14"):
        held_out_captions(CAPTIONS, np.arange(16), 14, 0)
    with pytest.raises(ValueError, match="0 of 2 images can be held out, not 1"):
        held_out_captions(("alone", "as well"), np.arange(2), None, 0)
    assert len(held_out_captions(("alone", "as well"), np.arange(2), 0, 0)) == 0


def test_icons_are_read_on_white_and_kept_in_two_parts(tmp_path: Path) -> None:
    rgba = np.zeros((16, 16, 16, 4), np.uint8)
    rgba[:, :8] = (200, 0, 0, 255)
    rgba[:, 8, 0] = (0, 0, 0, 51)
    (tmp_path / FILE).parent.mkdir()
    np.savez(tmp_path / FILE, rgba=rgba, caption=np.array(CAPTIONS))
    pixels, captions = read_icons(tmp_path)
    assert captions == CAPTIONS
    assert pixels[0, :, 0, 0].tolist() == [200, 0, 0]
    assert pixels[0, :, 8, 0].tolist() == [204] * 3
    assert (pixels[0, :, 9:] == 255).all()
    train, test = (read_named("fugue-icons", part, tmp_path) for part in ("train", "test"))
    assert sorted([*train.labels.tolist(), *test.labels.tolist()]) == list(range(16))
    assert len(test.labels) == 1
    data = load_data("fugue-icons", size=16, labelling="captions", root=tmp_path)
    assert (len(data.train), len(data.validation)) == (14, 1)
    assert data.preparation.classes == CAPTIONS


def test_other_files_are_no_icons(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is missing: put the icons of"):
        read_icons(tmp_path)
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_bytes(b"no zip")
    with pytest.raises(ValueError, match="is not a file of icons"):
        read_icons(tmp_path)
    np.savez(tmp_path / FILE, rgba=np.zeros((2, 8, 8, 4), np.uint8), caption=np.array(["a", "b"]))
    with pytest.raises(ValueError, match=r"holds icons of shape \(2, 8, 8, 4\)"):
        read_icons(tmp_path)
