"""Train an agent further, on its own episodes (Online Decision Transformer, Zheng 2022).

python -m decision.finetune DIR --out DIR2 --rounds N [--any.config.field VALUE ...]
python -m decision.finetune --out DIR2 --resume [--rounds MORE]

In each round the agent of DIR acts, drawing its actions, and then trains on its newest episodes and the best of its
data, with a third of its learning rates. DIR2 is a run folder like any other.
"""

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from core.checks import check_positive
from core.cli.arguments import named_path, parse_fields
from core.cli.exits import main
from core.optim.config import ScheduleConfig
from core.training.command import resumed_folder
from decision.config import OnlineConfig, TrainConfig, renamed
from decision.tasks.loop import train
from decision.trained import read_run

ROUNDS = 20
ONLINE = OnlineConfig(every=50, episodes=8)
SCHEDULE = ScheduleConfig(kind="constant", warmup=0.02)
SLOWER = 3  # learning rates are divided by this
BUDGET = "the budget is rounds times online.every"


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainConfig):
    """Settings of `decision.finetune`: those of a run, and the number of rounds."""

    steps: int | None = ROUNDS * ONLINE.every
    online: OnlineConfig = ONLINE
    rounds: int = ROUNDS
    """How often the agent acts; each round is followed by online.every steps of training."""

    def __post_init__(self) -> None:
        for name in ("minutes", "epochs"):
            if (given := getattr(self, name)) is not None:
                raise ValueError(f"{name} = {given} has no effect: {BUDGET}")
        super().__post_init__()
        check_positive(self, "rounds")
        check_positive(self.online, "every")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return super().unused() | {"steps": BUDGET, "init_from": "training starts from the folder that is named first"}


def start_from(folder: Path) -> FinetuneConfig:
    """The settings to start from the agent of a run folder, before those of the command line."""
    before, folder = read_run(folder), folder.resolve()
    optimizer = before.optimizer
    base = replace(
        before,
        out=folder.with_name(f"{folder.name}-online"),
        steps=ROUNDS * ONLINE.every,
        minutes=None,
        epochs=None,
        init_from=str(folder),
        resume=False,
        top_percent=None,
        eval_every=ONLINE.every,
        save_every=ONLINE.every,
        online=ONLINE,
        optimizer=replace(optimizer, lr=optimizer.lr / SLOWER, muon_lr=optimizer.muon_lr / SLOWER),
        schedule=SCHEDULE,
    )
    return with_rounds(base)


def resume(folder: Path) -> FinetuneConfig:
    """The settings to resume a run of `decision.finetune` with."""
    saved = read_run(folder)
    if not saved.online.every:
        raise ValueError(f"{folder} is a run of decision.train: resume it with python -m decision.train --resume")
    return with_rounds(replace(saved, out=folder))


def with_rounds(config: TrainConfig) -> FinetuneConfig:
    """The settings of a run with its budget in rounds."""
    settings: dict[str, Any] = {f.name: getattr(config, f.name) for f in fields(TrainConfig)}
    return FinetuneConfig(**settings, rounds=(config.steps or 0) // config.online.every)


def parse_command(argv: list[str]) -> TrainConfig:
    """The command line as a run. Raises ValueError of one sentence for anything wrong."""
    base, argv = FinetuneConfig(), renamed(argv)
    if argv and not argv[0].startswith("-"):
        base, argv = start_from(named_path(argv[0], "DIR")), argv[1:]
    elif folder := resumed_folder(argv):
        base = resume(folder)
    elif not {"-h", "--help"} & {*argv}:
        raise ValueError("name a run folder first: python -m decision.finetune DIR, or --out DIR2 --resume to resume")
    prog, summary = "python -m decision.finetune DIR", "Trains an agent further, on its own episodes, in rounds."
    config = parse_fields(base, argv, prog=prog, description=summary)
    settings = {f.name: getattr(config, f.name) for f in fields(TrainConfig)}
    return TrainConfig(**settings | {"steps": config.rounds * config.online.every})


if __name__ == "__main__":
    main(lambda: train(parse_command(sys.argv[1:])))
