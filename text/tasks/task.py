"""What the training loop of text asks of a task, beside what every panel's loop asks."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from core.training.run import Run
from core.training.task import Task


class TextTask(Task, Protocol):
    """A task of text; `text.train` asks nothing else of it."""

    use: str
    """What the trained model is for, as the end of a sentence that the run folder follows."""

    def save_data(self, folder: Path) -> None:
        """Keeps in a run folder what the model needs to be used, and a record of its data."""

    def show(self, run: Run) -> None:
        """Leaves in the run folder an example of what the model does at this step; by default none."""
        return
