"""How a command ends."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.cli.exits import Interrupted, NonFinite, main


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


@pytest.mark.parametrize("settings", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "LANG": "C"}])
def test_no_encoding_of_an_output_ends_a_command(settings: dict[str, str]) -> None:
    program = "from core.cli.exits import main\nmain(lambda: print('na\\u00efve \\u2192 \\udc80, done'))"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONCOERCECLOCALE": "0"} | settings
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"na")
    assert done.stdout.rstrip().endswith(b", done")


def test_a_closed_output_ends_no_command() -> None:
    program = "import os, sys; sys.stdout = None\nfrom core.cli.exits import main\nmain(lambda: print('x'))"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0
