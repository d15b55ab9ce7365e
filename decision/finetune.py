"""Go on training an agent with what it does itself (Online Decision Transformer, Zheng 2022).

python -m decision.finetune DIR --out DIR2 --rounds N [--any.config.field VALUE ...]
python -m decision.finetune --out DIR2 --resume [--rounds MORE]

In each round the agent of DIR acts, drawing its actions, and then trains on the newest of its own episodes and the
best of its data, with a third of the learning rates that it had. DIR2 is a run folder like any other.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from core.checks import check_positive
from core.cli.arguments import parse_fields
from core.cli.exits import main
from core.optim.config import ScheduleConfig
from core.training.command import resumed_folder
from decision.config import OnlineConfig, TrainConfig
from decision.train import train
from decision.trained import read_run

ROUNDS = 20
ONLINE = OnlineConfig(every=50, episodes=8)
SCHEDULE = ScheduleConfig(kind="constant", warmup=0.02)
GENTLER = 3  # times lower rates than at first
BUDGET = "the budget is rounds times online.every"


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainConfig):
    """Settings of `decision.finetune`: those of a run, and how many rounds it has."""

    steps: int | None = ROUNDS * ONLINE.every
    online: OnlineConfig = ONLINE
    rounds: int = ROUNDS
    """Times that the agent acts; each is followed by online.every steps of training."""

    def __post_init__(self) -> None:
        if self.minutes is not None:
            raise ValueError(f"minutes = {self.minutes} has no effect: {BUDGET}")
        super().__post_init__()
        check_positive(self, "rounds")
        check_positive(self.online, "every")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        return super().unused() | {"steps": BUDGET, "init_from": "the folder that is named first is where it starts"}

    def as_run(self) -> TrainConfig:
        """The run that it stands for."""
        settings = {f.name: getattr(self, f.name) for f in fields(TrainConfig)}
        return TrainConfig(**settings | {"steps": self.rounds * self.online.every})


def beginning(folder: Path) -> FinetuneConfig:
    """The settings to begin from the agent in a run folder, but for what is given on the command line."""
    before, folder = read_run(folder), folder.resolve()
    rates = before.optimizer
    base = replace(
        before,
        out=folder.with_name(f"{folder.name}-online"),
        steps=ROUNDS * ONLINE.every,
        minutes=None,
        init_from=str(folder),
        resume=False,
        top_percent=None,
        eval_every=ONLINE.every,
        save_every=ONLINE.every,
        online=ONLINE,
        optimizer=replace(rates, lr=rates.lr / GENTLER, muon_lr=rates.muon_lr / GENTLER),
        schedule=SCHEDULE,
    )
    return with_rounds(base)


def continuation(folder: Path) -> FinetuneConfig:
    """The settings to go on in a folder that an earlier call wrote."""
    saved = read_run(folder)
    if not saved.online.every:
        raise ValueError(f"{folder} is a run of decision.train, which goes on with: python -m decision.train --resume")
    return with_rounds(replace(saved, out=folder))


def with_rounds(config: TrainConfig) -> FinetuneConfig:
    """A run of online training, its budget in rounds."""
    settings: dict[str, Any] = {f.name: getattr(config, f.name) for f in fields(TrainConfig)}
    return FinetuneConfig(**settings, rounds=(config.steps or 0) // config.online.every)


def parse_command(argv: list[str]) -> TrainConfig:
    """The command line as a run. Raises ValueError of one sentence for anything wrong."""
    base = FinetuneConfig()
    if argv and not argv[0].startswith("-"):
        base, argv = beginning(Path(argv[0])), argv[1:]
    elif folder := resumed_folder(argv):
        base = continuation(folder)
    elif not {"-h", "--help"} & {*argv}:
        raise ValueError("name a run folder first: python -m decision.finetune DIR, or --out DIR2 --resume to go on")
    prog, what = "python -m decision.finetune DIR", "Goes on training an agent with what it does itself, in rounds."
    return parse_fields(base, argv, prog=prog, description=what).as_run()


if __name__ == "__main__":
    main(lambda: train(parse_command(sys.argv[1:])))
