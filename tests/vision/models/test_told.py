"""Models that read captions: the encoder, the model that draws by it, and the one that judges."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from core.config import PositionConfig, TransformerConfig
from tests.core.helpers import awake
from vision.models.captions import CaptionEncoder, encoder_core
from vision.models.contrastive import Contrastive, ContrastiveConfig, ContrastiveLoss
from vision.models.dit import DiT, DiTConfig

CORE = TransformerConfig(dim=16, depth=2, n_heads=2, modulation="adaln", position=PositionConfig("learned"))
SHAPE = DiTConfig(image_size=8, channels=3, told="caption", words=9, caption_length=4, patch=4, core=CORE)
JUDGE = ContrastiveConfig(image_size=8, channels=3, words=9, caption_length=4, width=6, core=encoder_core(CORE, 2))
WORDS = torch.tensor([[1, 2, 0, 0], [2, 1, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_caption_is_read_in_order_and_without_its_padding() -> None:
    encoder = awake(CaptionEncoder(9, 4, encoder_core(CORE, 2)))
    told = encoder(WORDS)
    assert told.condition.shape == (4, 16)
    assert told.memory is not None
    assert told.memory.shape == (4, 5, 16)
    assert (told.condition[0] - told.condition[1]).abs().max() > 1e-3
    short = awake(CaptionEncoder(9, 4, encoder_core(CORE, 2)))(WORDS[:1, :2])
    torch.testing.assert_close(short.condition, told.condition[:1])


def test_velocities_depend_on_words_and_not_on_what_lies_beyond_them() -> None:
    model, times = awake(DiT(SHAPE)), torch.full((4,), 0.5)
    same = images(1).expand(4, -1, -1, -1)
    velocity = model(same, times, WORDS)
    assert velocity.shape == (4, 3, 8, 8)
    for one, other in ((0, 1), (0, 2), (0, 3)):
        assert (velocity[one] - velocity[other]).abs().max() > 1e-3
    torch.testing.assert_close(model(same[:1], times[:1], WORDS[:1]), velocity[:1])
    with torch.no_grad():  # the rows of padding, which nothing attends to
        assert model.captions is not None
        model.captions.words.weight[0] += 5.0
    torch.testing.assert_close(model(same, times, WORDS), velocity)


def test_at_first_every_velocity_of_a_caption_is_zero() -> None:
    assert not DiT(SHAPE)(images(), torch.rand(4), WORDS).any()


def test_fields_of_captions_have_no_effect_on_classes() -> None:
    with pytest.raises(ValueError, match="caption_depth = 3 has no effect: told = 'class' has no captions"):
        DiTConfig(caption_depth=3, core=CORE)
    with pytest.raises(ValueError, match="words = 0"):
        DiT(replace(SHAPE, words=0))


def test_the_judge_has_unit_vectors_and_rows_do_not_mix() -> None:
    model = awake(Contrastive(JUDGE))
    seen, read = model(images(), WORDS)
    for vectors in (seen, read):
        assert vectors.shape == (4, 6)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(model.see(images()[1:2]), seen[1:2])
    torch.testing.assert_close(model.read(WORDS[3:]), read[3:])


def test_its_loss_is_that_of_pairs_in_groups_and_equal_captions_are_never_wrong() -> None:
    model, words = awake(Contrastive(JUDGE)), WORDS[[0, 1, 3, 3]]
    seen, read = model(images(), words)
    found = ContrastiveLoss(model, 2, 0.1)(images(), words)
    scores = seen[:2] @ read[:2].T / 0.1
    truth = torch.arange(2)
    expected = (F.cross_entropy(scores, truth, reduction="sum") + F.cross_entropy(scores.T, truth, reduction="sum")) / 2
    torch.testing.assert_close(found, expected)  # the second group is of one caption: nothing there is wrong
    assert found.isfinite()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"patch": 3}, "patch = 3 must divide"), ({"width": 0}, "width = 0"), ({"words": -1}, "words")],
)
def test_an_impossible_judge_is_refused(change: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(JUDGE, **change)
