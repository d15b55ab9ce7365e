"""Test-time augmentation: the views of an image, and one answer from all of them."""

from __future__ import annotations

import torch

from core.training.answers import Answers
from tests.vision.processes import digits, grey, opinionated
from vision.tasks.evaluation import SHIFTS, augmented_views, average_views


def test_views_are_the_image_first_then_its_shifts_and_mirror_images() -> None:
    images = torch.rand(3, 2, 6, 6)
    assert [len(list(augmented_views(images, views))) for views in ("none", "flip", "shift", "flip-shift")] == [
        1,
        2,
        5,
        10,
    ]
    for views in ("none", "flip", "shift", "flip-shift"):
        assert next(iter(augmented_views(images, views))).equal(images)
    for (down, right), moved, mirrored in zip(
        SHIFTS,
        list(augmented_views(images, "flip-shift"))[::2],
        list(augmented_views(images, "flip-shift"))[1::2],
        strict=True,
    ):
        assert moved.shape == images.shape
        for row in range(6):
            for column in range(6):
                source = [abs(5 - abs(5 - place)) for place in (row - down, column - right)]  # reflected at the edges
                assert moved[..., row, column].equal(images[..., source[0], source[1]])
        assert mirrored.equal(moved.flip(-1))


def test_views_are_averaged_by_the_mean_of_probabilities() -> None:
    views = [3 * torch.randn(8, 5) for _ in range(4)]
    expected = torch.stack([view.softmax(1) for view in views]).mean(0)
    torch.testing.assert_close(average_views(views).exp(), expected)
    torch.testing.assert_close(average_views(views[:1]), views[0].log_softmax(1))
    torch.testing.assert_close(average_views([100 * view for view in views]).exp().sum(1), torch.ones(8))


def test_mirroring_symmetric_images_changes_nothing() -> None:
    vit, images = opinionated(), digits()
    half = grey()(images.pixels, 8)[..., :4]
    symmetric = torch.cat((half, half.flip(-1)), -1)
    with torch.no_grad():
        logits = [vit(view) for view in augmented_views(symmetric, "flip")]
        crooked = [vit(view) for view in augmented_views(grey()(images.pixels, 8), "flip")]
    plain, both = Answers.of(logits[0], images.labels), Answers.of(average_views(logits), images.labels)
    torch.testing.assert_close(both.likelihood, plain.likelihood, atol=1e-5, rtol=0)
    assert both.answer.equal(plain.answer)
    assert not Answers.of(average_views(crooked), images.labels).answer.equal(
        Answers.of(crooked[0], images.labels).answer
    )
