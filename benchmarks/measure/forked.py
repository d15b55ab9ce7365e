"""Commands of a checkout, each in a process forked from one that has the slow libraries imported already.

    PYTHONPATH=CHECKOUT python -P benchmarks/forked.py MODULE ...

Imports the modules that it can, then reads jobs, one JSON object a line: {"module", "arguments", "log", "seconds"}.
For each it runs `python -m MODULE ARGUMENTS`, with its output in the file `log` and killed after so many seconds, and
answers with the exit code, or minus the signal that ended it. Imports nothing of this house itself, since the
checkout that it serves may be an older or a newer one.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import sys
import warnings


def serve(preloaded: list[str]) -> None:
    """Answers jobs until standard input ends."""
    for name in preloaded:
        with contextlib.suppress(Exception):  # whoever needs it will say so
            importlib.import_module(name)
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)


def run(job: dict) -> int | None:
    """The exit code of a job, which has a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=begin, kwargs=job)
    process.start()
    process.join()
    return process.exitcode


def begin(module: str, arguments: list[str], log: str, seconds: int) -> None:
    """Becomes `python -m module arguments`."""
    signal.alarm(seconds)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = [module, *arguments]
    warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(sys.argv[1:])
