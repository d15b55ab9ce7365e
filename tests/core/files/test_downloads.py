"""Downloads from a server on this machine: whole and verified, or not there at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core.files.downloads import Remote, data_root, fetch

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Handler(BaseHTTPRequestHandler):
    """/whole sends CONTENT, /cut half of it and hangs up, /other something else; all else is not there."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        body = {"/whole": CONTENT, "/cut": CONTENT, "/other": b"<html>moved</html>"}.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *_: object) -> None:
        """Stays silent."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.requests = []
    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


def remote(url: str, content: bytes = CONTENT) -> Remote:
    return Remote("some/data.bin", url, hashlib.sha256(content).hexdigest(), "take the embedded one")


def test_a_download_arrives_whole_and_only_once(server: str, tmp_path: Path) -> None:
    path = fetch(remote(f"{server}/whole"), tmp_path)
    assert path == tmp_path / "some" / "data.bin"
    assert path.read_bytes() == CONTENT
    assert fetch(remote(f"{server}/whole"), tmp_path) == path
    assert Handler.requests == ["/whole"]
    assert [file.name for file in path.parent.iterdir()] == ["data.bin"]


def test_a_file_put_there_by_hand_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "data.bin").write_bytes(CONTENT)
    assert fetch(remote("http://127.0.0.1:1/whole"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("cut", r"some/data\.bin is missing and could not be downloaded from http.*/cut .*put the file at "),
        ("absent", r"could not be downloaded from .*/absent .*Not Found.*put the file at "),
        ("other", r"/other returned something other than some/data\.bin .*put the published file at "),
    ],
)
def test_what_is_not_the_whole_file_is_discarded(page: str, sentence: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        fetch(remote(f"{server}/{page}"), tmp_path)
    assert str(tmp_path / "some" / "data.bin") in str(caught.value)
    assert str(caught.value).endswith("or take the embedded one")
    assert list((tmp_path / "some").iterdir()) == []


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"could not be downloaded .*refused.*: put the file at .*, or take"):
        fetch(remote("http://127.0.0.1:1/whole"), tmp_path)


def test_another_file_in_its_place_is_refused_and_kept(server: str, tmp_path: Path) -> None:
    mine = tmp_path / "some" / "data.bin"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"data\.bin is not the published file .*remove it"):
        fetch(remote(f"{server}/whole"), tmp_path)
    assert mine.read_bytes() == b"mine"
    assert Handler.requests == []


def test_the_data_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    assert data_root() == tmp_path
    monkeypatch.setenv("TRIPTYCH_DATA", "~/data")
    assert data_root() == Path.home() / "data"
    monkeypatch.delenv("TRIPTYCH_DATA")
    assert data_root() == Path.home() / ".cache" / "triptych"
