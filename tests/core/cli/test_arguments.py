"""The command line: presets and fields in, one sentence out when something is wrong."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.cli.arguments import parse_fields
from core.cli.errors import Interrupted, NonFinite
from core.cli.exits import main
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
        ("toi", "unknown preset 'toi'; did you mean 'toy'?"),
        ("toy --widht 3", "unknown option --widht; did you mean --width?"),
        ("toy --lr 3", "unknown option --lr; did you mean --optimizer.lr?"),
        ("toy --optimizr.lr 3", "unknown option --optimizr.lr; did you mean --optimizer.lr?"),
        ("toy --zzz 3", "unknown option --zzz; --help lists them all"),
        ("toy --width", "Missing value for argument '--width'. Expected 1 values."),
        ("toy --width wide", "--width: invalid literal for int() with base 10: 'wide'"),
        ("toy more", "Unrecognized options: more"),
        ("toy --optimizer.betas 0.9", "Missing value for argument '--optimizer.betas'. Expected 2 values."),
        ("toy --precision fp8", "invalid choice 'fp8' for argument '--precision'. Expected one of "),
        ("toy --batch-size 0", "batch_size = 0 must be above 0"),
        ("toy --optimizer.lr -1", "optimizer: lr = -1.0 must be above 0"),
        ("toy --optimizer.kind adamw --optimizer.muon-lr 1", "--optimizer.muon-lr has no effect: "),
        ("toy --schedule.decay 0.1", "--schedule.decay has no effect: kind = 'cosine' does not read it"),
        ("toy --checkpoint last-good", "--checkpoint has no effect: without resume nothing is read"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(line: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parsed(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "─" not in str(caught.value)


@pytest.mark.parametrize("line", ["--help", "toy --help", "toy-wsd -h"])
def test_help_explains_every_field(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed(line)
    assert not end.value.code
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "toy, toy-wsd" in told
    for name in ("--out PATH", "--steps", "--optimizer.muon-lr FLOAT", "--schedule.warmup FLOAT", "--ema FLOAT"):
        assert name in told
    assert "Channels. (default: 16)" in told
    assert "Budget in minutes of wall time" in told
    assert told.count("(default:") == len(flat(PRESETS["toy"]))


def flat(config: Any) -> list[str]:
    names = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        names += flat(value) if dataclasses.is_dataclass(value) else [f.name]
    return names


def test_other_commands_parse_their_fields_too() -> None:
    @dataclasses.dataclass(frozen=True)
    class Evaluate:
        run: str = "x"
        """Run folder."""

    assert parse_fields(Evaluate, Evaluate(), ["--run", "y"]) == Evaluate("y")
    with pytest.raises(ValueError, match="unknown option --runn; did you mean --run?"):
        parse_fields(Evaluate, Evaluate(), ["--runn", "y"])


def fails_with(error: BaseException) -> Any:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("steps = 0\nmust be above 0"), 2, "error: steps = 0 must be above 0"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "corpus.txt"),
            2,
            "error: corpus.txt: No such file",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 2, "error: runs: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: [Errno 28] No space left on device"),
        (NonFinite("the loss is nan at step 3"), 1, "error: the loss is nan at step 3"),
        (Interrupted("interrupted at step 3, which is saved"), 130, "interrupted at step 3, which is saved"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_have_their_exit_codes(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(fails_with(error))
    assert end.value.code == code
    told = capsys.readouterr().err
    assert told.startswith(message)
    assert told.count("\n") == 1


def test_a_mistake_of_ours_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        main(fails_with(RuntimeError("shapes cannot be multiplied")))
    monkeypatch.setenv("TRIPTYCH_TRACEBACK", "1")
    with pytest.raises(ValueError, match="steps"):
        main(fails_with(ValueError("steps")))


def test_a_reader_that_leaves_early_is_no_error() -> None:
    program = "from core.cli.exits import main\nmain(lambda: [print('x' * 99) for _ in range(100000)])"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    writer = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert writer.stdout is not None
    assert writer.stdout.readline()
    writer.stdout.close()
    assert writer.stderr is not None
    assert writer.stderr.read() == b""
    assert writer.wait(60) == 0
