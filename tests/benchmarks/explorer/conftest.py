"""A real browser, without a window and without a network, and two pages that the tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.explorer.runs import Run
from tests.benchmarks.explorer.panels import CORE, PROSE, VIT, agent, gpt, images, text_run, translator
from tests.benchmarks.explorer.variants import GROUPS, Computed
from tests.benchmarks.explorer.visits import Visit, visited, write
from text.models.encoder import ClassifierConfig, MaskedLMConfig
from text.tokens.bpe import BPETokenizer

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright: the distribution's, or the one that Playwright brought; skips without them."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with driver.sync_playwright() as started:
        try:
            opened = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        except driver.Error as error:
            pytest.skip(f"there is no Chromium (apt-get install chromium): {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def panels(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """The page of all panels, opened once."""
    folder = tmp_path_factory.mktemp("panels")
    with visited(browser, write(folder / "page.html", all_panels(folder))) as visit:
        yield visit


@pytest.fixture
def visit(panels: Visit) -> Iterator[Visit]:
    """The page of all panels, as it is when it has just been opened."""
    panels.start_anew()
    yield panels
    panels.check()


@pytest.fixture(scope="session")
def computed(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computed]:
    """The page of every variant of every model, opened once."""
    made = {name: group() for name, group in GROUPS.items()}
    runs = [run for group in made.values() for run in group]
    with visited(browser, write(tmp_path_factory.mktemp("variants") / "page.html", runs)) as visit:
        yield Computed(visit, made)


def all_panels(folder: Path) -> list[Run]:
    """A run of every kind, and some that tests need."""
    bpe = BPETokenizer.train(["the cat sat on the mat " * 20], 270).extended(["<mask>"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPTYCH_DATA", str(folder))  # where decoded images are kept
        pictures = images(replace(VIT, image_size=12), data=example_images(folder / "shapes"))
    return [
        gpt(),
        pictures,
        agent(),
        translator(),
        text_run(MaskedLMConfig(context=32, core=CORE), bpe, "masked", "the cat sat on the mat"),
        text_run(ClassifierConfig(context=32, labels=("good", "bad"), core=CORE), name="labels"),
        agent("by hand", env="Other-v0"),
        gpt("prose", BPETokenizer.train([PROSE * 30], 330)),
        gpt("long", context=512),
    ]


def example_images(folder: Path) -> Path:
    """A test image of each class."""
    rng = np.random.default_rng(0)
    for label in range(VIT.classes):
        (folder / "test" / f"class {label}").mkdir(parents=True)
        pixels = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "test" / f"class {label}" / "one.png")
    return folder
