"""An exported model is served by `transformers serve`: the official client hears what `text.chat` says."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Command

for needed in ("transformers", "openai", "fastapi", "uvicorn"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")
pytestmark = pytest.mark.slow

FACTS = {"Who barks?": "A dog.", "Who purrs?": "A cat, of course.", "Who moos?": "A cow."}
SYSTEM = "Be brief."
LLAMA = {"norm": "rmsnorm", "feedforward": "swiglu", "qk_norm": "none", "embedding_norm": "none"}
LAYOUTS = {
    "nanochat": (),
    "llama": tuple(word for name, value in LLAMA.items() for word in (f"--model.core.{name}", value)),
}
TINY = (
    *("--tokenizer", "bpe", "--bpe-size", "280", "--template", "chatml", "--sample", "0", "--precision", "fp32"),
    *("--device", "cpu", "--model.core.dim", "64", "--model.core.depth", "2", "--batch-size", "4", "--steps", "80"),
)
PATIENCE = 600.0  # seconds until the server is given up


def asked(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


@pytest.fixture(scope="module")
def client(place: Path) -> Iterator[Any]:
    """A client of a server that loads the folders beneath `place` by their names; it is ended whatever happens."""
    from openai import OpenAI

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    words = ["-m", "transformers.cli.transformers", "serve", "--port", port, "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    log = place / "server.log"
    with (
        log.open("w") as out,
        subprocess.Popen([sys.executable, *words], cwd=place, env=environment, stdout=out, stderr=out) as server,
    ):
        try:
            wait_for(f"http://localhost:{port}/health", server, log)
            yield OpenAI(base_url=f"http://localhost:{port}/v1", api_key="-", max_retries=0)
        finally:
            server.kill()


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when a server answers. Raises AssertionError with its last words if it ends, or never does."""
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        try:
            return urllib.request.urlopen(address, timeout=10).close()
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-2000:])


def answer(client: Any, model: str, question: str) -> tuple[str, str]:
    """What the most probable tokens say, and why they end."""
    said = client.chat.completions.create(model=model, messages=asked(question), temperature=0, max_tokens=30)
    [choice] = said.choices
    return choice.message.content, choice.finish_reason


def streamed(client: Any, model: str, question: str) -> tuple[str, str]:
    """The same, piece by piece."""
    ask = client.chat.completions.create
    chunks = [*ask(model=model, messages=asked(question), temperature=0, max_tokens=30, stream=True)]
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert sum(map(bool, pieces)) > 1
    return "".join(pieces), chunks[-1].choices[0].finish_reason


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_official_client_hears_what_the_terminal_shows(
    layout: str, place: Path, client: Any, command: Command
) -> None:
    rows = [{"messages": [*asked(one), {"role": "assistant", "content": said}]} for one, said in FACTS.items()] * 8
    (place / "facts.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run, folder = place / layout, f"{layout}-served"
    learned = command("train", "instruct", "--data", place / "facts.jsonl", *TINY, *LAYOUTS[layout], "--out", run)
    exported = command("export", run, "--out", place / folder)
    assert (learned.code, exported.code) == (0, 0), (learned, exported)
    assert exported.out.strip().endswith(f"as {layout}")
    for question, taught in FACTS.items():
        shown = command("chat", run, "--system", SYSTEM, "--message", question, "--temperature", 0).out.strip()
        assert shown == taught
        assert answer(client, folder, question) == streamed(client, folder, question) == (shown, "stop")
