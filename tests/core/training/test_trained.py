"""A model brought back from its run folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from core.training.checkpoints import Checkpoints
from core.training.trained import load_run
from tests.core.training.toy import PRESETS, Toy, ToyConfig, train


def test_the_last_checkpoints_are_loaded_as_their_mean_and_the_best_is_none_of_them(tmp_path: Path) -> None:
    config = dataclasses.replace(PRESETS["toy"], out=tmp_path, keep=3)
    train(config)
    assert Checkpoints(tmp_path).steps()[-3:] == [10, 15, 20]
    single = [load_run(tmp_path, ToyConfig, Toy, step).model.state_dict() for step in (10, 15, 20)]
    run = load_run(tmp_path, ToyConfig, Toy, "last-3")
    assert run.step == 20
    for name, tensor in run.model.state_dict().items():
        torch.testing.assert_close(tensor, torch.stack([own[name] for own in single]).mean(0))
        assert not torch.equal(tensor, single[-1][name])
    assert run.model.head.weight is run.model.embedding.weight

    Checkpoints(tmp_path).path(5).mkdir(exist_ok=True)  # as the best, from long before
    with pytest.raises(ValueError, match="checkpoint = 'last-4': .* keeps the last 3; train with a larger --keep"):
        load_run(tmp_path, ToyConfig, Toy, "last-4")
    with pytest.raises(ValueError, match="checkpoint = 'last-5' averages 5, of which .* holds 4"):
        load_run(tmp_path, ToyConfig, Toy, "last-5")
