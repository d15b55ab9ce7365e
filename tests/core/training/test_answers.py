"""The figures against scikit-learn's and against plain loops, and sums that do not depend on how they are split."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference
from torch import Tensor

from core.training.answers import BINS, Answers, Tally, by_class, confusion_matrix, wilson


def answers(images: int, classes: int, seed: int = 0, trust: float = 2.0) -> tuple[Tensor, Tensor]:
    """Logits (B, K) that are more often right than wrong, and labels (B,) of which some classes have many."""
    generator = torch.Generator().manual_seed(seed)
    labels = (classes * torch.rand(images, generator=generator) ** 2).long()
    logits = torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += 1.5
    return trust * logits, labels


def tally_of(logits: Tensor, labels: Tensor) -> Tally:
    return Tally.of(Answers.of(logits, labels), logits.shape[1])


@pytest.mark.parametrize("classes", [2, 5, 6, 10, 100])
def test_figures_are_those_of_scikit_learn(classes: int) -> None:
    logits, labels = answers(997, classes)
    tally, everything = tally_of(logits, labels), range(classes)
    found, predicted = tally.figures(), logits.argmax(1)
    probabilities = logits.double().softmax(1).numpy()
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted), abs=1e-15)
    assert found["loss"] == pytest.approx(reference.log_loss(labels, probabilities, labels=everything), rel=1e-12)
    confusion = confusion_matrix(Answers.of(logits, labels), classes)
    assert confusion.equal(torch.from_numpy(reference.confusion_matrix(labels, predicted, labels=everything)))
    balanced = reference.balanced_accuracy_score(labels, predicted)
    assert found["balanced_accuracy"] == pytest.approx(balanced, abs=1e-15)
    assert found["macro_f1"] == pytest.approx(reference.f1_score(labels, predicted, average="macro"), abs=1e-15)
    if classes > 5:
        top5 = reference.top_k_accuracy_score(labels, logits, k=5, labels=everything)
        assert found["top5"] == pytest.approx(top5, abs=1e-15)
    else:
        assert found["top5"] == 1


def test_figures_of_each_class_are_those_of_scikit_learn() -> None:
    logits, labels = answers(300, 8)
    labels[labels == 3] = 4  # a class without images
    logits[:, 3:6] -= torch.tensor([0.0, 100.0, 0.0])  # and one that is never the answer
    predicted = logits.argmax(1)
    found = by_class(tally_of(logits, labels))
    expected = reference.precision_recall_fscore_support(
        labels, predicted, labels=range(8), zero_division=np.nan, average=None
    )
    columns = zip(*((row.precision, row.recall, row.f1, row.count) for row in found), strict=True)
    for column, wanted in zip(columns, expected, strict=True):
        np.testing.assert_allclose(column, wanted, atol=1e-15, equal_nan=True)
    assert math.isnan(found[3].recall)
    assert math.isnan(found[4].precision)
    assert (found[4].recall, found[4].f1) == (0, 0)
    assert sum(row.count for row in found) == 300
    figures = tally_of(logits, labels).figures()
    assert figures["macro_f1"] == pytest.approx(reference.f1_score(labels, predicted, average="macro"), abs=1e-15)
    assert figures["balanced_accuracy"] == pytest.approx(np.nanmean(expected[1]), abs=1e-15)


def plain_ece(logits: Tensor, labels: Tensor) -> float:
    """Guo 2017, equations 2 and 3, bin by bin and image by image."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for row, label in zip(logits.double(), labels.tolist(), strict=True):
        probabilities = row.softmax(0).tolist()
        confidence = max(probabilities)
        [place] = [m for m in range(BINS) if m / BINS < confidence <= (m + 1) / BINS]
        bins[place].append((confidence, probabilities.index(confidence) == label))
    gaps = [len(b) * abs(sum(right - sure for sure, right in b) / len(b)) for b in bins if b]
    return math.fsum(gaps) / len(labels)


@pytest.mark.parametrize("trust", [0.1, 1.0, 20.0])
def test_calibration_error_is_that_of_a_plain_loop(trust: float) -> None:
    logits, labels = answers(500, 10, trust=trust)
    assert tally_of(logits, labels).figures()["ece"] == pytest.approx(plain_ece(logits, labels), abs=1e-12)


def test_calibration_error_of_known_cases() -> None:
    labels = torch.arange(100) % 4
    sure = 100.0 * torch.nn.functional.one_hot(labels, 4)
    assert tally_of(sure, labels).figures()["ece"] == pytest.approx(0, abs=1e-12)
    assert tally_of(sure.roll(1, 1), labels).figures()["ece"] == pytest.approx(1, abs=1e-12)
    undecided = tally_of(torch.zeros(100, 4), labels)  # confidence 1/4, right once in four
    assert undecided.figures()["ece"] == pytest.approx(0, abs=1e-12)
    assert undecided.bins[0].tolist() == [100.0 if m == 3 else 0.0 for m in range(BINS)]  # 3/15 < 1/4 <= 4/15


@given(st.integers(1, 60), st.integers(2, 12), st.integers(0, 9))
def test_a_confusion_matrix_adds_up(images: int, classes: int, seed: int) -> None:
    logits, labels = answers(images, classes, seed)
    tally = tally_of(logits, labels)
    confusion = confusion_matrix(Answers.of(logits, labels), classes)
    assert confusion.dtype == torch.int64
    assert tally.classes.equal(torch.stack((confusion.sum(1), confusion.sum(0), confusion.diagonal())))
    assert confusion.sum(1).equal(torch.bincount(labels, minlength=classes))
    assert confusion.sum(0).equal(torch.bincount(logits.argmax(1), minlength=classes))
    assert tally.correct == int((logits.argmax(1) == labels).sum())
    assert tally.count == images
    assert tally.bins[0].sum() == images
    assert tally.bins[2].sum() == tally.correct


def test_equal_logits_are_one_answer_and_five_guesses() -> None:
    labels = torch.arange(1000) % 10
    found = tally_of(torch.zeros(1000, 10), labels).figures()
    assert (found["accuracy"], found["top5"]) == (0.1, 0.5)
    assert found["loss"] == pytest.approx(math.log(10))


def test_a_model_that_diverged_has_no_loss_rather_than_a_wrong_one() -> None:
    found = tally_of(torch.full((20, 10), math.nan), torch.arange(20) % 10).figures()
    assert math.isnan(found["loss"])
    assert math.isnan(found["ece"])
    assert found["accuracy"] <= found["top5"] <= 0.5


@given(st.lists(st.integers(0, 101), max_size=6), st.integers(0, 3))
def test_figures_do_not_depend_on_the_batches(cuts: list[int], seed: int) -> None:
    logits, labels = answers(101, 7, seed)
    edges = [0, *sorted(cuts), 101]
    tally = Tally.empty(7)
    for start, end in pairwise(edges):
        tally += tally_of(logits[start:end], labels[start:end])
    whole = tally_of(logits, labels)
    assert tally.classes.equal(whole.classes)
    assert tally.figures() == pytest.approx(whole.figures(), rel=1e-13)


def test_processes_are_added_up_by_one_exchange_of_one_vector() -> None:
    logits, labels = answers(50, 7)
    one, two = tally_of(logits[:20], labels[:20]), tally_of(logits[20:], labels[20:])
    sent: list[Tensor] = []

    def keep(flat: Tensor) -> Tensor:
        sent.append(flat)
        return flat

    assert two.total(keep).figures() == two.figures()
    joined = one.total(lambda flat: flat + sent[0])
    assert [(flat.dtype, flat.ndim) for flat in sent] == [(torch.float64, 1)]
    assert joined.classes.equal(tally_of(logits, labels).classes)
    assert joined.figures() == pytest.approx(tally_of(logits, labels).figures(), rel=1e-13)


def test_many_classes_cost_little_memory() -> None:
    import resource

    logits, labels = torch.randn(64, 20_000), torch.arange(64)
    tally_of(logits[:1], labels[:1])  # libraries are loaded
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally = Tally.empty(20_000) + tally_of(logits, labels)
    by_class(tally)
    assert tally.figures()["balanced_accuracy"] == tally.correct / 64
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 200  # a K x K table: 3,200 MB


def test_classes_with_equal_logits_rank_by_number() -> None:
    logits, labels = torch.randint(0, 4, (200, 30)).float(), torch.randint(30, (200,))
    ranked = logits.sort(dim=1, descending=True, stable=True).indices
    found = Answers.of(logits, labels)
    assert found.answer.equal(ranked[:, 0])
    assert found.rank.equal((ranked == labels[:, None]).nonzero()[:, 1])


def test_half_precision_logits_are_counted_in_double() -> None:
    logits, labels = answers(300, 10)
    coarse = logits.bfloat16()
    assert tally_of(coarse, labels).figures() == tally_of(coarse.double(), labels).figures()


def test_without_examples_there_are_no_figures() -> None:
    assert Tally.empty(3).count == 0
    with pytest.raises(ValueError, match="nothing to evaluate"):
        Tally.empty(3).figures()


@pytest.mark.parametrize(("correct", "count"), [(0, 1), (1, 1), (3, 10), (9_600, 10_000), (10_000, 10_000)])
def test_the_interval_is_wilsons(correct: int, count: int) -> None:
    expected = binomtest(correct, count).proportion_ci(method="wilson")
    assert wilson(correct, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
