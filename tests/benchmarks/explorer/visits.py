"""Pages that are opened from disk in a browser, and what happens there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    def until(self, expression: str, seconds: float = 60.0) -> None:
        """Waits until an expression is true of the page, which asks itself."""
        asking = f"""async (milliseconds) => {{
          const end = performance.now() + milliseconds;
          while (!({expression}) && performance.now() < end) await new Promise((after) => setTimeout(after, 25));
          return Boolean({expression});
        }}"""
        assert self.page.evaluate(asking, 1000 * seconds), f"not in {seconds:g} s: {expression}"

    def open(self, name: str) -> None:
        """Opens the tab of a run, by a click."""
        self.page.get_by_role("tab", name=name, exact=True).click()
        self.settle()

    def start_anew(self, width: int = 1100, theme: str = "light") -> None:
        """As if the page had just been opened: its first tab, without anything cut, typed or chosen."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        self.ask(
            """(explorer) => {
              explorer.sessions.length = 0;
              delete document.documentElement.dataset.theme;
              return explorer.open(0);
            }"""
        )
        self.settle()

    def check(self) -> None:
        """Raises AssertionError where the page had an error, or asked for anything but itself."""
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@contextmanager
def visited(browser: Any, file: Path) -> Iterator[Visit]:
    """A page while it is open."""
    page = browser.new_page(viewport={"width": 1100, "height": 900}, reduced_motion="reduce", offline=True)
    visit = Visit(page)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("console", lambda said: said.type == "error" and visit.complaints.append(said.text))
    page.goto(file.as_uri())
    visit.until("window.explorer?.current?.current")
    visit.settle()
    yield visit
    page.close()
    visit.check()


def write(file: Path, runs: Sequence[Run]) -> Path:
    """A page of some runs."""
    file.write_text(assemble(runs), "utf-8")
    return file
