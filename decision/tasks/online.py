"""Learning from the model's own episodes as well, in rounds (Online Decision Transformer, Zheng 2022)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from core.cli.exits import StopRequest
from core.files.atomic import remove
from core.training.order import stream
from core.training.run import Run
from decision.acting.policy import ModelPolicy
from decision.collecting.recording import Recorder, record_episodes
from decision.data.store import Trajectories, stack
from decision.data.summary import default_targets
from decision.models.decision_transformer import DecisionTransformer
from decision.tasks.imitation import Imitation

FOLDER = "online"
"""Where a run folder keeps the episodes of each round: round-00000.npz, round-00001.npz, ..."""


class OnlineRounds:
    """Rounds of acting, each of which changes what the task learns from: its newest episodes and the best of the data.

    Round r comes before step r * every + 1 and is kept in the run folder, so that a resumed run learns from the same
    episodes. Whatever return was asked for, the model learns from the one that was reached. Without `online.every`
    there are no rounds.
    """

    def __init__(self, run: Run, task: Imitation):
        self.run, self.task, self.online = run, task, task.config.online
        self.rounds = 0
        self.newest: Trajectories | None = None
        self.collected = 0  # steps of all rounds
        if self.online.every and run.main:  # rounds beyond the step that a run resumes at are played again
            for path in self._path(0).parent.glob("round-*.npz"):
                if int(path.stem.removeprefix("round-")) > run.step // self.online.every:
                    remove(path)

    def act_when_due(self) -> None:
        """Plays the rounds that come before the next step, and adds their episodes to what is learnt from."""
        run, every = self.run, self.online.every
        while every and not (run.finished or run.stopping) and self.rounds <= run.step // every:
            self._learn_from(self._round(self.rounds))

    def figures(self) -> dict[str, float]:
        """What is logged of the rounds: the mean return of the newest, the steps of all."""
        if self.newest is None:
            return {}
        return {"online/return": float(self.newest.returns().mean()), "online/steps": self.collected}

    def _round(self, number: int) -> Trajectories:
        """The episodes of a round: those in the run folder, else played now by the main process if it is their turn."""
        path = self._path(number)
        if not self.run.processes.from_main(path.exists()):
            if self.run.step != number * self.online.every:
                raise ValueError(f"{path} is missing, from which the run has learnt")
            if self.run.main:
                self._play(number).save(path)
            self.run.accelerator.wait_for_everyone()
        return Trajectories.load(path)

    def _play(self, number: int) -> Trajectories:
        """Episodes of the model as it is now; their seeds follow from those of the run and the round."""
        online, data = self.online, self.task.windows.data
        target = default_targets(data.returns())["max + 20 %"] if online.target is None else online.target
        raw = stream(self.run.config.seed, FOLDER, number).random_raw(online.episodes)
        seeds = [int(word >> 33) for word in raw.tolist()]
        recorders = [Recorder(environment, StopRequest()) for environment in self.task.environments]
        model = self.run.state.model
        assert isinstance(model, DecisionTransformer)

        def behaviour(begun: Sequence[int]) -> ModelPolicy:
            targets = [target] * len(begun)
            normaliser = self.task.data_summary.normaliser
            return ModelPolicy(model, normaliser, targets, temperature=online.temperature, seeds=begun)

        parts = (seeds[i : i + len(recorders)] for i in range(0, len(seeds), len(recorders)))
        with self.run.evaluating(), torch.autocast(self.run.device.type, enabled=False):
            episodes = [episode for part in parts for episode in record_episodes(recorders, behaviour, part)]
        origin = {"provenance": {"round": number, "target": target, "seeds": seeds}}
        return stack(episodes, **data.metadata() | origin)

    def _learn_from(self, new: Trajectories) -> None:
        """Adds the newest episodes and drops the oldest; those of the data are the older, the lower their return."""
        data = self.task.windows.data
        if not self.rounds:
            data = data.select(data.returns().argsort(kind="stable").tolist())
        episodes = [*data, *new][-self.online.capacity :]
        self.task.windows = replace(self.task.windows, data=stack(episodes, **data.metadata()))
        self.newest, self.rounds, self.collected = new, self.rounds + 1, self.collected + new.steps

    def _path(self, number: int) -> Path:
        return self.run.folder / FOLDER / f"round-{number:05d}.npz"
