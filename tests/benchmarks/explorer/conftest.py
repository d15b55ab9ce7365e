"""A real browser, without a window and without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright: the distribution's, or the one that Playwright brought; skips without them."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with driver.sync_playwright() as started:
        try:
            opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except driver.Error as error:
            pytest.skip(f"there is no Chromium (apt-get install chromium): {str(error).splitlines()[0]}")
        yield opened
        opened.close()
