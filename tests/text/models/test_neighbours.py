"""What neighbours add to a token is a sum that a loop finds too, and no padding is a neighbour."""

from __future__ import annotations

import pytest
import torch

from core.config import TransformerConfig
from text.models.encoder import Tagger, TaggerConfig
from text.models.neighbours import Neighbours


@pytest.mark.parametrize("reach", [1, 3, 9])
def test_the_sum_is_that_of_a_loop(reach: int) -> None:
    module, lengths = Neighbours(5, 4, reach), torch.tensor([6, 3])
    ids = torch.randint(0, 5, (2, 6))
    found = module(ids, lengths)
    for row in range(2):
        for place in range(6):
            near = [place + distance for distance in module.distances]
            expected = [
                module.table.weight[5 * number + ids[row, at]]
                for number, at in enumerate(near)
                if 0 <= at < lengths[row]
            ]
            torch.testing.assert_close(found[row, place], torch.stack([torch.zeros(4), *expected]).sum(0))


def test_scores_do_not_depend_on_padding() -> None:
    core = TransformerConfig(dim=16, depth=1, n_heads=2)
    model = Tagger(TaggerConfig(vocab_size=7, context=12, neighbours=3, labels=("a", "b"), core=core)).eval()
    ids, lengths = torch.randint(0, 7, (1, 5)), torch.tensor([5])
    padded = torch.nn.functional.pad(ids, (0, 7), value=6)
    torch.testing.assert_close(model(padded, lengths)[:, :5], model(ids), atol=1e-5, rtol=0)
    assert not torch.allclose(model(ids), model(ids.flip(1)).flip(1))


def test_words_that_are_pooled_early_have_no_neighbours() -> None:
    with pytest.raises(ValueError, match="neighbours = 2"):
        TaggerConfig(words="early-mean", neighbours=2)
