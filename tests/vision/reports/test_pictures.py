"""The pictures: valid files, the right things in them at 2, 10 and 100 classes, and nothing that overlaps."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from core.files.figures import save_figure
from core.training.answers import Answers, Tally, confusion_matrix
from vision.reports.errors import Errors
from vision.reports.pictures import calibration_picture, confusion_picture, errors_picture

CIFAR = "airplane automobile bird cat deer dog frog horse ship truck".split()
FILES = [f"photos/a long way down/{place:03d}.jpg" for place in range(400)]


def answers(images: int = 400, classes: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, logits and labels."""
    labels = torch.arange(images) % classes
    logits = torch.randn(images, classes)
    logits[torch.arange(images), labels] += 3
    return torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8), logits, labels


class Sheet:
    """What is to be seen of a figure's texts once it is drawn, which must pass without any complaint."""

    def __init__(self, figure: Figure):
        texts: dict[int, Text] = {}
        draw = Text.draw

        def note(text: Text, renderer: object) -> None:
            if text.get_visible() and text.get_text().strip():
                texts[id(text)] = text
            draw(text, renderer)

        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("error")
            patch.setattr(Text, "draw", note)
            figure.draw_without_rendering()
        self.words = [text.get_text() for text in texts.values()]
        self.boxes = [text.get_window_extent() for text in texts.values()]
        self.edges = figure.bbox.padded(1)

    def assert_tidy(self) -> None:
        """No text covers a part of another, or reaches beyond the sheet, by more than a pixel."""
        low, high = np.array([box.min for box in self.boxes]), np.array([box.max for box in self.boxes])
        shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)  # (N, N, 2)
        pairs = np.argwhere(np.triu((shared > 1).all(-1), 1))
        assert [(self.words[i], self.words[j]) for i, j in pairs] == []
        inside = [self.edges.contains(*box.p0) and self.edges.contains(*box.p1) for box in self.boxes]
        assert [word for word, here in zip(self.words, inside, strict=True) if not here] == []


@pytest.mark.parametrize("classes", [2, 20, 21, 100, 250])
def test_a_confusion_matrix_has_counts_as_long_as_they_can_be_read(classes: int) -> None:
    _, logits, labels = answers(3000, classes)
    confusion = confusion_matrix(Answers.of(logits, labels), classes)
    names = [f"class {index}" for index in range(classes)]
    sheet = Sheet(confusion_picture(confusion, names))
    sheet.assert_tidy()
    counts = {f"{count:,}" for count in confusion.diagonal().tolist()}
    counted = [word for word in sheet.words if word in counts]
    assert len(counted) >= classes if classes <= 20 else counted == []
    named = [word for word in sheet.words if word in names]
    assert len(named) == 2 * (classes if classes <= 100 else 84)  # 250 classes: every third
    right = float((logits.argmax(1) == labels).float().mean())
    assert f"{100 * right:.2f} % of 3,000 images correct" in sheet.words


def test_a_row_of_a_confusion_matrix_is_shared_out_and_one_without_images_stays_white() -> None:
    confusion = torch.tensor([[8, 2, 0], [0, 0, 0], [1, 1, 2]])
    [axes, *_] = confusion_picture(confusion, ["a", "b", "c"]).axes
    [image] = axes.images
    shares = [[0.8, 0.2, 0], [0, 0, 0], [0.25, 0.25, 0.5]]
    np.testing.assert_allclose(image.get_array(), shares, atol=1e-6)


@pytest.mark.parametrize("name", ["a$b$c", "a very long name of a class indeed", "Gruß an München"])
def test_class_names_are_shown_as_they_are_and_cut_where_they_are_long(name: str) -> None:
    figure = confusion_picture(torch.eye(3).long(), [name, "b", "c"])
    [label, *_] = figure.axes[0].get_yticklabels()
    Sheet(figure).assert_tidy()
    assert label.get_text().replace("\\", "") == (name if len(name) <= 16 else "a very long nam…")


def test_the_most_confident_errors_do_not_depend_on_the_batches() -> None:
    pixels, logits, labels = answers()
    found = None
    for part in torch.arange(400).split(37):
        found = Errors.of(pixels[part], Answers.of(logits[part], labels[part]), int(part[0])).most_confident(24, found)
    assert found is not None
    confidence, answer = logits.double().softmax(1).max(1)
    expected = sorted((i for i in range(400) if answer[i] != labels[i]), key=lambda i: -confidence[i])[:24]
    assert len(found) == 24
    assert found.truth.tolist() == labels[expected].tolist()
    assert found.answer.tolist() == answer[expected].tolist()
    assert found.confidence.tolist() == pytest.approx(confidence[expected].tolist(), abs=1e-12)
    assert found.place.tolist() == expected
    assert found.pixels.equal(pixels[expected])


@pytest.mark.parametrize("many", [1, 7, 24])
def test_errors_show_the_images_pixel_for_pixel_with_truth_and_answer(many: int) -> None:
    pixels, logits, labels = answers()
    errors = Errors.of(pixels, Answers.of(logits, labels)).most_confident(many)
    figure = errors_picture(errors, CIFAR, FILES)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == many
    for axes, image in zip(shown, errors.pixels, strict=True):
        assert np.array_equal(axes.images[0].get_array(), image.permute(1, 2, 0))
        assert axes.images[0].get_interpolation() == "nearest"
    Sheet(figure).assert_tidy()
    truth, answer = CIFAR[errors.truth[0]], CIFAR[errors.answer[0]]
    assert shown[0].get_title() == truth
    assert shown[0].get_xlabel() == f"…s/a long way down/{errors.place[0]:03d}.jpg"
    assert [text.get_text() for text in shown[0].texts] == [f"→ {answer}  {100 * errors.confidence[0]:.1f} %"]


def test_grey_images_and_long_names_fit_too() -> None:
    pixels, logits, labels = answers()
    errors = Errors.of(pixels[:, :1], Answers.of(logits, labels)).most_confident(24)
    figure = errors_picture(errors, [f"prehistoric_monument_{i}" for i in range(10)], FILES)
    Sheet(figure).assert_tidy()
    [image] = figure.axes[0].images
    assert image.get_clim() == (0, 255)  # not stretched to what the image holds


def test_without_errors_the_picture_says_so() -> None:
    pixels, _, labels = answers()
    none = Errors.of(pixels, Answers.of(100.0 * torch.nn.functional.one_hot(labels), labels))
    assert len(none) == 0
    sheet = Sheet(errors_picture(none.most_confident(24), CIFAR, FILES))
    assert "There are none: every answer is correct." in sheet.words


def test_calibration_shows_each_used_interval() -> None:
    _, logits, labels = answers(1000)
    tally = Tally.of(Answers.of(logits, labels), 10)
    figure = calibration_picture(tally)
    upper, lower = figure.axes
    used = int((tally.bins[0] > 0).sum())
    assert len(upper.patches) == len(lower.patches) == used
    heights = [bar.get_height() for bar in upper.patches]
    assert heights == pytest.approx((tally.bins[2] / tally.bins[0])[tally.bins[0] > 0].tolist())
    assert sum(bar.get_height() for bar in lower.patches) == pytest.approx(1)
    sheet = Sheet(figure)
    sheet.assert_tidy()
    assert f"Expected calibration error {100 * tally.figures()['ece']:.2f} %, 1,000 images" in sheet.words


def test_files_are_whole_pngs_and_replace_what_was_there(tmp_path: Path) -> None:
    _, logits, labels = answers()
    target = tmp_path / "evaluation" / "calibration.png"
    for _ in range(2):
        save_figure(calibration_picture(Tally.of(Answers.of(logits, labels), 10)), target)
        with Image.open(target) as image:
            image.verify()
            assert (image.format, image.size) == ("PNG", (810, 900))
    assert [path.name for path in target.parent.iterdir()] == ["calibration.png"]
