"""Who holds the weights: as configured, as launched, or refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest

from core.scale.launch import distribution, sharding_ourselves
from core.training.config import RunConfig


def config(**settings: Any) -> RunConfig:
    return RunConfig(steps=1, batch_size=12, **settings)


def launch(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    """As `accelerate launch --use_fsdp` starts a process."""
    for name, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", **environment}.items():
        monkeypatch.setenv(name, value)


def test_the_launcher_decides_unless_the_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distribution(config(), 2) == "whole"
    assert distribution(config(distribute="fsdp"), 2) == "sharded"
    launch(monkeypatch)
    assert distribution(config(), 2) == "sharded"
    with sharding_ourselves():
        assert distribution(config(), 2) == "whole"
    assert distribution(config(), 2) == "sharded"


def test_one_process_holds_everything_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert distribution(config(distribute="fsdp"), 1) == "whole"
    assert "distribute = 'fsdp' has no effect on one process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "settings", "message"),
    [
        ({"FSDP_VERSION": "1"}, {}, "take --fsdp_version 2"),
        ({}, {"distribute": "ddp"}, "distribute = 'ddp' contradicts accelerate launch --use_fsdp"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, {}, "--fsdp_offload_params true is not supported"),
        ({"FSDP_RESHARD_AFTER_FORWARD": "false"}, {}, "--fsdp_reshard_after_forward false is not supported"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, {}, "take --remat blocks in its place"),
        ({}, {"precision": "fp16"}, "precision = 'fp16' needs distribute = 'ddp'"),
    ],
)
def test_what_does_not_exist_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    launch(monkeypatch, **environment)
    with pytest.raises(ValueError, match=message):
        distribution(config(**settings), 2)


def test_shards_that_nobody_cuts_are_an_error() -> None:
    with pytest.raises(ValueError, match="shard_size = 2 has no effect"):
        distribution(config(shard_size=2), 2)
    with pytest.raises(ValueError, match="shard_size = 3 must divide the 4 processes"):
        config(shard_size=3, distribute="fsdp").check_processes(4)
