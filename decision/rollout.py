"""Let an agent act, and see what it reaches of the returns asked for.

python -m decision.rollout DIR [--target-return R...] [--episodes N] [--video DIR] [--json]

Every target is tried in the same episodes: one per seed, and each of them counts, however long it lasts. The default
targets are those of the data: its median, 90 %, best return, and 20 % above the best.
"""

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.cli.exits import main
from core.files.figures import save_figure
from core.training.trained import print_json
from decision.reports.films import Format, check_format, film_targets, make_filmed
from decision.reports.options import (
    ActingOptions,
    act,
    choose_environment,
    choose_targets,
    limits,
    read_command,
    record_of,
    require_writable,
)
from decision.reports.tables import figures, part_of, save_episodes, sentences, table, targets_and_returns
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
    """Acts, films if asked to, prints a table, draws a picture into the folder; returns all figures.

    Raises ValueError, before the first step, for anything that stands in the way of one of these.
    """
    targets, summary, picture = choose_targets(options, trained), trained.summary, folder / PICTURE
    for place in filter(None, (folder, options.video)):
        require_writable(place)
    environment = choose_environment(options, trained)
    with make_filmed(environment, **limits(trained.model, options)) if options.video else nullcontext() as filmed:
        if filmed:
            check_format(options.video_format)
            filmed.reset(seed=0)  # which fails where there are no pictures
        rollouts = act(trained, options, list(targets))
        print(table(rollouts, targets, summary), *sentences(rollouts, summary), sep="\n")
        title = f"{environment}, {options.episodes} episodes" + " a target" * bool(targets)
        save_figure(targets_and_returns(rollouts.results, summary.returns, title), picture)
        save_episodes(rollouts, picture.with_suffix(".json"))
        measured = figures(rollouts, targets, summary) | {"picture": str(picture)}
        print(picture)
        if filmed and options.video:
            films = film_targets(filmed, trained, options, list(targets), options.video, options.video_format)
            for result in rollouts.results:
                print(films[result.target])
                first = {"film": str(films[result.target]), "film_return": float(result.episodes.returns[0])}
                measured[part_of(result)] |= first
    return measured


def rollout(argv: list[str]) -> None:
    """The command."""
    description = "Lets an agent act in its environment, with one target return after the other."
    folder, options, trained = read_command(argv, RolloutConfig(), "decision.rollout", description)
    environment = choose_environment(options, trained)
    print(f"{environment}, checkpoint of step {trained.step}: {options.episodes} episodes for each target")
    measured = report(trained, options, folder)
    if options.json:
        print_json(record_of(options, trained) | measured)


if __name__ == "__main__":
    main(lambda: rollout(sys.argv[1:]))
