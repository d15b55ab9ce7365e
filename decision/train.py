"""Train an agent from trajectories.

python -m decision.train PRESET --data FILE --out DIR [--any.config.field VALUE ...]
python -m decision.train --data FILE [--env ID] --out DIR
python -m decision.train --out DIR --resume

Without a preset, model and budget follow from the size of the data. `--model.returns none` is behaviour cloning, with
`--top-percent 10` of the best tenth (10 %BC).
"""

import sys

from core.cli.arguments import Parser, given_fields, normalised, with_fields
from core.cli.exits import main
from core.messages import notice
from core.training.command import parse, resumed_folder
from core.training.config import BUDGETS
from core.training.folder import as_restarted
from decision.config import TrainConfig, renamed
from decision.presets import PRESETS, fitted
from decision.tasks.loop import read_data, train
from decision.trained import require_run

SHOWN = (
    *(
        "data",
        "env",
        "env_args",
        "out",
        "resume",
        *BUDGETS,
        "batch_size",
        "seed",
        "device",
        "init_from",
        "adapter.kind",
    ),
    *("adapter.kind", "top_percent", "eval_episodes", "eval_targets", "optimizer.muon_lr"),
    *("model.context", "model.returns", "model.head", "model.core.dim", "model.core.depth"),
)
"""What `--help` lists without a preset."""


def parse_command(argv: list[str]) -> TrainConfig:
    """The command line as a run. Raises ValueError of one sentence for anything wrong."""
    argv = renamed(argv)
    if folder := resumed_folder(argv):
        require_run(folder)
    elif argv and argv[0].startswith("-") and (config := parse_own(argv)):
        return config
    return parse(TrainConfig, PRESETS, argv, description="Trains an agent from trajectories.")


def parse_own(argv: list[str]) -> TrainConfig | None:
    """A command line without a preset as a run on its data; None where it names none."""
    parser = Parser(add_help=False)
    parser.add_argument("--data")
    parser.add_argument("--env", default="")
    named, _ = parser.parse_known_args([normalised(word) for word in argv])
    if not getattr(named, "data", ""):
        return None
    data = read_data(named.data)
    base = fitted(data, named.data, named.env)
    size = f"{len(data):,} episodes of {data.steps:,} steps"
    summary = (
        f"Trains an agent from trajectories. The defaults below were chosen for the {size} of {named.data}; with a "
        "preset, --help lists all settings."
    )
    given = given_fields(base, argv, prog="python -m decision.train", description=summary, shown=SHOWN)
    if {*BUDGETS} & given.keys():  # a budget of one kind replaces that of another
        given = dict.fromkeys(BUDGETS) | given
    config = as_restarted(with_fields(base, given))
    blocks = f"{config.model.core.depth} blocks of {config.model.core.dim} channels, {config.model.context} steps each"
    acted = "" if config.acts else "; its environment is unknown, name one with --env to evaluate"
    notice(f"no preset: {blocks}, chosen for {size}; --help lists what can be set{acted}")
    return config


if __name__ == "__main__":
    main(lambda: train(parse_command(sys.argv[1:])))
