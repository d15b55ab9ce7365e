"""The command line of training: presets and fields in, one sentence out when something is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from core.files.serialize import to_dict
from core.optim.config import OptimizerConfig
from core.training.checkpoints import write_config
from core.training.command import parse
from tests.core.training.toy import PRESETS, ToyConfig


def parsed(line: str) -> ToyConfig:
    return parse(ToyConfig, PRESETS, line.split())


def test_a_preset_is_the_default_of_every_field() -> None:
    assert parsed("toy") == dataclasses.replace(PRESETS["toy"], out=Path("runs/toy"))
    config = parsed("toy --width 32 --optimizer.muon-lr 0.5 --optimizer.betas 0.8 0.9 --out x --schedule.final=0")
    optimizer = OptimizerConfig(kind="muon", muon_precision="fp32", muon_lr=0.5, betas=(0.8, 0.9))
    schedule = dataclasses.replace(PRESETS["toy"].schedule, final=0.0)
    expected = {"width": 32, "out": Path("x"), "optimizer": optimizer, "schedule": schedule}
    assert config == dataclasses.replace(PRESETS["toy"], **expected)


def test_hyphens_and_underscores_are_the_same() -> None:
    assert parsed("toy --batch-size 4 --save_every 7") == parsed("toy --batch_size 4 --save-every 7")


def test_a_budget_of_one_kind_replaces_the_other() -> None:
    assert (parsed("toy --minutes 2.5").steps, parsed("toy --minutes 2.5").minutes) == (None, 2.5)
    assert (parsed("toy-wsd --steps 7").steps, parsed("toy-wsd --steps 7").minutes) == (7, None)
    epochs = parsed("toy --epochs 0.5")
    assert (epochs.steps, epochs.epochs, epochs.minutes) == (None, 0.5, None)
    assert parsed("toy --steps 1e3").steps == 1000
    with pytest.raises(ValueError, match="exactly one must be given"):
        parsed("toy --minutes 2 --steps 5")


def test_compile_alone_means_the_default_mode() -> None:
    modes = ("toy", "toy --compile", "toy --compile --width 8", "toy --compile max-autotune", "toy --compile off")
    assert [parsed(line).compile for line in modes] == ["off", "default", "default", "max-autotune", "off"]


def test_resume_takes_the_folders_own_configuration(tmp_path: Path) -> None:
    saved = dataclasses.replace(PRESETS["toy"], out=Path("elsewhere"), width=8)
    write_config(tmp_path, to_dict(saved))
    config = parse(ToyConfig, PRESETS, ["--out", str(tmp_path), "--resume", "--steps", "99"])
    assert config == dataclasses.replace(saved, out=tmp_path, resume=True, steps=99)
    with pytest.raises(ValueError, match="is not a run folder"):
        parse(ToyConfig, PRESETS, ["--resume", "--out", str(tmp_path / "no")])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "name a preset first: toy, toy-wsd"),
        ("--width 3", "name a preset first: toy, toy-wsd"),
        ("--resume", "--out, or a preset: toy, toy-wsd"),
        ("toi", "'toi'; did you mean 'toy'?"),
        ("toy --widht 3", "--widht; did you mean --width?"),
        ("toy --lr 3", "--lr; did you mean --optimizer.lr?"),
        ("toy --max-iters 3", "--max-iters; did you mean --steps?"),
        ("toy --learning_rate=3", "--learning-rate; did you mean --optimizer.lr?"),
        ("toy --num-train-epochs 3", "--num-train-epochs; did you mean --epochs?"),
        ("toy --width wide", "--width: invalid int value: 'wide'"),
        ("toy --precision fp8", "--precision: invalid choice: 'fp8'"),
        ("toy --batch-size 0", "batch_size = 0"),
        ("toy --optimizer.lr -1", "optimizer: lr = -1.0"),
        ("toy --optimizer.kind adamw --optimizer.muon-lr 1", "--optimizer.muon-lr has no effect: "),
        ("toy --schedule.decay 0.1", "--schedule.decay has no effect: kind = 'cosine'"),
        ("toy --checkpoint last-good", "--checkpoint has no effect: without resume"),
    ],
)
def test_a_mistake_is_one_sentence(line: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parsed(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["--help", "toy --help", "toy-wsd -h"])
def test_help_explains_every_field(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed(line)
    assert not end.value.code
    text = " ".join(capsys.readouterr().out.split())
    assert "toy, toy-wsd" in text
    for name in ("--out PATH", "--steps", "--optimizer.muon-lr FLOAT", "--schedule.warmup FLOAT", "--ema FLOAT"):
        assert name in text
    assert "Channels. (default: 16)" in text
    assert "Budget in minutes of wall time" in text
    assert text.count("(default:") == len(flat(PRESETS["toy"]))


def flat(config: Any) -> list[str]:
    names = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        names += flat(value) if dataclasses.is_dataclass(value) else [f.name]
    return names
