"""JSON files: replaced as a whole or not at all, and read as one object."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files.atomic import write_text


def as_json(value: Mapping[str, Any]) -> str:
    """`value` as the text of a JSON file; ValueError for a number that is not finite."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces `path` by `value`, at once and durably."""
    write_text(path, as_json(value))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; ValueError naming the file if it is missing or holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"there is no {path.name} in {path.parent}") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value
