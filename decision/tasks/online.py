"""What a run learns from: its data, and what its own model has done since (Online Decision Transformer, Zheng 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.cli.signals import StopRequest
from core.files.downloads import remove
from core.training.order import stream
from core.training.run import Run
from decision.acting.policy import Actors
from decision.collect import wave
from decision.collecting.recording import Recorder
from decision.data.load import Trajectories, default_targets
from decision.data.store import stack
from decision.models.decision_transformer import DecisionTransformer
from decision.tasks.imitation import Imitation

if TYPE_CHECKING:
    pass

FOLDER = "online"
"""Where a run folder keeps the episodes of each round: round-00000.npz, round-00001.npz, ..."""


class Experience:
    """Windows of the data; with `online.every`, of the newest episodes of the model's own and the best of the data.

    Round r of acting comes before step r * every + 1, and is kept in the run folder, so that a resumed run learns
    from the same. Whatever return its episodes were asked for, they teach the one that they reached.
    """

    def __init__(self, run: Run, task: Imitation):
        self.run, self.task, self.online = run, task, task.config.online
        self.rounds = 0
        self.newest: Trajectories | None = None
        self.collected = 0  # steps of all rounds
        if self.online.every and run.main:  # a run that goes on from an earlier step has other rounds ahead
            for path in self._path(0).parent.glob("round-*.npz"):
                if int(path.stem.removeprefix("round-")) > run.step // self.online.every:
                    remove(path)

    def act_when_due(self) -> None:
        """Acts the rounds that come before the next step, and goes on with what they taught."""
        while self.online.every and not self._at_the_end and self.rounds <= self.run.step // self.online.every:
            self._add(self.round(self.rounds))

    @property
    def _at_the_end(self) -> bool:
        return self.run.finished or self.run.stopping

    def figures(self) -> dict[str, float]:
        """Of what was collected: the mean return of the newest round, the steps of all."""
        if self.newest is None:
            return {}
        return {"online/return": float(self.newest.returns().mean()), "online/steps": self.collected}

    def round(self, number: int) -> Trajectories:
        """The episodes of a round, acted now by the main process unless they are in the run folder.

        Raises ValueError when those of an earlier round are missing.
        """
        path = self._path(number)
        if not self.run.processes.from_main(path.exists()):
            if self.run.step != number * self.online.every:
                raise ValueError(f"{path} is missing, from which the run has learnt")
            if self.run.main:
                self.act(number).save(path)
            self.run.processes.wait()
        return Trajectories.load(path)

    def act(self, number: int) -> Trajectories:
        """Episodes of the model as it is now, their seeds those of the run and the round."""
        online, target = self.online, self.target()
        raw = stream(self.run.config.seed, FOLDER, number).random_raw(online.episodes)
        seeds = [int(word >> 33) for word in raw.tolist()]
        recorders = [Recorder(environment, StopRequest()) for environment in self.task.environments]

        model = self.run.state.model
        assert isinstance(model, DecisionTransformer)

        def actors(begun: Sequence[int]) -> Actors:
            targets = [target] * len(begun)
            return Actors(model, self.task.windows.normaliser, targets, temperature=online.temperature, seeds=begun)

        parts = (seeds[i : i + len(recorders)] for i in range(0, len(seeds), len(recorders)))
        with self.run.evaluating(), torch.autocast(self.run.device.type, enabled=False):
            episodes = [episode for part in parts for episode in wave(recorders, actors, part)]
        told = {"provenance": {"round": number, "target": target, "seeds": seeds}}
        return stack(episodes, **self.task.windows.data.about() | told)

    def target(self) -> float:
        """What is asked for in the next round."""
        if self.online.target is not None:
            return self.online.target
        return default_targets(self.task.windows.data.returns())["max + 20 %"]

    def _add(self, found: Trajectories) -> None:
        """Goes on with the newest episodes; those of the data count as older, the better the newer."""
        known = self.task.windows.data
        if not self.rounds:
            known = known.select(known.returns().argsort(kind="stable").tolist())
        episodes = [*known, *found][-self.online.capacity :]
        self.task.windows = replace(self.task.windows, data=stack(episodes, **known.about()))
        self.newest, self.rounds, self.collected = found, self.rounds + 1, self.collected + found.steps

    def _path(self, number: int) -> Path:
        return self.run.folder / FOLDER / f"round-{number:05d}.npz"
