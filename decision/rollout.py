"""Let an agent act, and see what it reaches of the returns asked for.

python -m decision.rollout DIR [--target-return R...] [--episodes N] [--video DIR] [--json]

Every target is tried in the same episodes: one per seed, and each of them counts, however long it lasts. The default
targets are those of the data: its median, 90 %, best return, and 20 % above the best.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.cli.exits import main
from core.files.figures import save_figure
from core.training.trained import print_json
from decision.reports.films import Format, check_films, film_targets
from decision.reports.options import (
    ActingOptions,
    act,
    choose_environment,
    choose_targets,
    heading,
    place_to_write,
    read_command,
    record_of,
    require_writable,
)
from decision.reports.tables import figures, parts_of, save_episodes, sentences, table, targets_and_returns
from decision.trained import Trained

PICTURE = "rollout.png"
"""Targets against returns, in the run folder; rollout.json beside it has every episode."""


@dataclass(frozen=True)
class RolloutConfig(ActingOptions):
    """Settings of `decision.rollout`."""

    episodes: int = 20
    """Episodes for each target."""
    video: Path | None = None
    """Folder for a film of the first episode of each target; default no films."""
    video_format: Format = "gif"
    """Format of the films."""

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return {} if self.video else {"video_format": "--video names no folder"}


def report(trained: Trained, options: RolloutConfig, folder: Path) -> dict[str, Any]:
    """Acts, draws a picture into the folder, films if asked to, then prints a table; returns all figures.

    Raises ValueError, before the first step, for anything that stands in the way of one of these.
    """
    targets, summary, place = choose_targets(options, trained), trained.summary, place_to_write(options, folder)
    if options.video:
        require_writable(options.video)
        check_films(trained, options, options.video_format)
    rollouts = act(trained, options, list(targets))
    measured, written = figures(rollouts, targets, summary), []
    if place:
        title = f"{choose_environment(options, trained)}, {options.episodes} episodes" + " a target" * bool(targets)
        save_figure(targets_and_returns(rollouts.results, summary.returns, title), place / PICTURE)
        save_episodes(rollouts, (place / PICTURE).with_suffix(".json"))
        measured["picture"] = str(place / PICTURE)
        written = [place / PICTURE]
    if options.video:
        films = film_targets(trained, options, list(targets), options.video, options.video_format)
        for part, result, film in zip(parts_of(rollouts), rollouts.results, films, strict=True):
            measured[part] |= {"film": str(film), "film_return": float(result.episodes.returns[0])}
        written += films
    print(heading(options, trained), table(rollouts, targets, summary), sep="\n")
    print(*sentences(rollouts, summary), *written, sep="\n")
    return measured


def rollout(argv: list[str]) -> None:
    """The command."""
    description = "Lets an agent act in its environment, with one target return after the other."
    folder, options, trained = read_command(argv, RolloutConfig(), "decision.rollout", description)
    measured = report(trained, options, folder)
    if options.json:
        print_json(record_of(options, trained) | measured)


if __name__ == "__main__":
    main(lambda: rollout(sys.argv[1:]))
