"""Pages that are opened from disk in a browser, and what happens there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.explorer.page import assemble
from benchmarks.explorer.runs import Run


@dataclass
class Visit:
    """An open page. requests: addresses that were asked for; complaints: errors of the page."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def ask(self, script: str, value: Any = None) -> Any:
        """What a function of the page, `(explorer, value) => ...`, returns."""
        return self.page.evaluate(f"value => ({script})(window.explorer, value)", value)

    def settle(self) -> None:
        """Waits until everything is computed and drawn."""
        self.until("!document.querySelector('.busy')")
        self.page.wait_for_timeout(20)

    def until(self, expression: str, seconds: float = 20.0) -> None:
        """Waits until an expression is true of the page, whose own rules let no text be run as a script."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"not in {seconds:g} s: {expression}"
            self.page.wait_for_timeout(20)


@contextmanager
def visited(browser: Any, file: Path, width: int = 1100, theme: str = "light") -> Iterator[Visit]:
    """A page while it is open. Afterwards it must have had no error, and must have asked for nothing but itself."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
    visit = Visit(page)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("console", lambda said: said.type == "error" and visit.complaints.append(said.text))
    page.goto(file.as_uri())
    visit.settle()
    yield visit
    page.close()
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))] == []


def write(file: Path, *runs: Run) -> Path:
    """A page of some runs."""
    file.write_text(assemble(runs), "utf-8")
    return file
