"""Evaluate an agent in its environment: what it reaches of each return asked for, beside the returns of its data.

python -m decision.evaluate DIR [--checkpoint best|last|last-good|last-K|STEP] [--episodes N] [--target-return R...]
                                [--json]

The episodes begin otherwise than those by which the best checkpoint was chosen.
"""

import sys
from dataclasses import dataclass, replace

from core.cli.exits import main
from core.files.json_files import write_json
from core.training.trained import flat, print_json
from decision.reports.options import (
    ActingOptions,
    act,
    choose_targets,
    heading,
    place_to_write,
    read_command,
    record_of,
)
from decision.reports.tables import figures, save_episodes, sentences, table


@dataclass(frozen=True)
class EvaluateConfig(ActingOptions):
    """Settings of `decision.evaluate`."""

    target_return: tuple[float, ...] = ()
    """Returns to ask for, in the unit of the environment; default the run's eval_targets, else those of the data."""


def evaluate_run(argv: list[str]) -> None:
    """The command: results are written before anything is printed."""
    description = "Evaluates a run by acting in its environment."
    folder, options, trained = read_command(argv, EvaluateConfig(), "decision.evaluate", description)
    if trained.model.config.returns == "token":
        options = replace(options, target_return=options.target_return or trained.config.eval_targets)
    targets, place = choose_targets(options, trained), place_to_write(options, folder / "evaluation")
    rollouts = act(trained, options, list(targets))
    measured = record_of(options, trained) | figures(rollouts, targets, trained.summary)
    if place:
        save_episodes(rollouts, place / "episodes.json")
        write_json(place / "figures.json", flat(measured))
    print(f"{heading(options, trained)}\n")
    print(table(rollouts, targets, trained.summary), "", *sentences(rollouts, trained.summary), sep="\n")
    if options.json:
        print_json(measured)


if __name__ == "__main__":
    main(lambda: evaluate_run(sys.argv[1:]))
