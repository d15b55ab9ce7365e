"""Image sets loaded with a cache of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vision.data.loading import Load
from vision.data.load import Data, load_data


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """load_data at size 14, which stores 16 x 16 pixels, with the cache in a folder of this test."""

    def load(folder: Path | str, **options: object) -> Data:
        return load_data(str(folder), **{"size": 14, "root": tmp_path / "data"} | options)  # type: ignore[arg-type]

    return load
