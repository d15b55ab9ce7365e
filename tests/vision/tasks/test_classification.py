"""Evaluation while training: every image once, whatever the batches and processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from tests.processes import forking
from tests.vision.conftest import MakeFolder
from tests.vision.processes import digits, grey, numbered, opinionated, take_part
from vision.data.batches import Images
from vision.data.load import load_data
from vision.tasks.classification import ClassificationLoss, class_weights, evaluate


def test_figures_are_those_of_a_plain_loop() -> None:
    vit, images = opinionated(), digits()
    with torch.no_grad():
        rows = [vit(grey()(image[None], 8))[0].double().softmax(0) for image in images.pixels]
    probabilities = torch.stack(rows).numpy()
    found = evaluate(vit, images, grey(), 100)
    assert list(found) == ["accuracy", "top5", "balanced_accuracy", "macro_f1", "loss", "ece"]
    assert found["accuracy"] == reference.accuracy_score(images.labels, probabilities.argmax(1))
    assert found["top5"] == reference.top_k_accuracy_score(images.labels, probabilities, k=5)
    assert found["loss"] == pytest.approx(reference.log_loss(images.labels, probabilities), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 358, 359, 1000])
def test_figures_do_not_depend_on_the_batch(batch_size: int) -> None:
    vit, images = opinionated(), digits()
    found, expected = evaluate(vit, images, grey(), batch_size), evaluate(vit, images, grey(), 50)
    assert found == pytest.approx(expected, abs=1e-6)
    assert (found["accuracy"], found["top5"]) == (expected["accuracy"], expected["top5"])


@pytest.mark.parametrize(("world", "count", "batch_size"), [(2, 7, 2), (3, 8, 3), (3, 2, 4), (2, 9, 100)])
def test_processes_count_every_image_once(tmp_path: Path, world: int, count: int, batch_size: int) -> None:
    """Uneven parts, uneven last batches, and processes without any image."""
    context = forking()
    processes = [
        context.Process(target=take_part, args=(rank, world, count, batch_size, tmp_path)) for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * world
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world)]
    assert all(other == found[0] for other in found)
    assert found[0]["sums"][:count] == [1] * count
    vit, images, preparation = numbered(count)
    alone = evaluate(vit, images, preparation, count)
    assert found[0]["figures"] == pytest.approx(alone, abs=1e-6)
    assert all(found[0]["figures"][name] == alone[name] for name in ("accuracy", "top5"))


def test_no_images_is_one_sentence() -> None:
    vit, images, preparation = numbered(3)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(vit, Images(images.pixels[:0], images.labels[:0]), preparation, 5)


def test_images_from_files_as_they_come_are_those_in_memory(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder("apples", 9, "leaves", 6, "skies", 8)
    vit = opinionated(3, channels=3)
    held, streamed = (
        load_data(str(folder), size=8, validation=10, storage=storage, root=tmp_path)
        for storage in ("memory", "stream")
    )
    expected = evaluate(vit, held.validation, held.preparation, 4)
    assert evaluate(vit, streamed.validation, streamed.preparation, 4) == expected
    assert 0 < expected["loss"] < 100


def test_balanced_weights_are_scikit_learn_s_and_weigh_every_kind_of_target() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.arange(10).repeat_interleave(torch.arange(1, 11))
    weights = class_weights(labels, 10)
    expected = compute_class_weight("balanced", classes=np.arange(10), y=labels.numpy())
    torch.testing.assert_close(weights.double(), torch.from_numpy(expected))
    torch.testing.assert_close(weights[labels].mean(), torch.tensor(1.0))
    vit, pixels = opinionated(), torch.randn(55, 1, 8, 8)
    costs = -weights[labels] * vit(pixels).log_softmax(1)[torch.arange(55), labels]
    loss = ClassificationLoss(vit, weights=weights)
    torch.testing.assert_close(loss(pixels, labels), costs.sum())
    torch.testing.assert_close(loss(pixels, torch.eye(10)[labels]), costs.sum())
    assert "weights" not in loss.state_dict()
