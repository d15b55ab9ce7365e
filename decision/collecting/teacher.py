"""An agent is trained until its episodes return as much as a level asks for."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.cli.errors import Interrupted, RunFailure
from core.messages import number
from decision.collecting.agents import Agent
from decision.collecting.recording import Recorder, Recording

if TYPE_CHECKING:
    from decision.collect import CollectConfig

AGENT = "agent.pt"
RECENT = 40  # episodes over which an agent's return is taken
MEDIUM = 1 / 3  # of the way from a random to an expert policy


class Training:
    """An agent on its way to a return, which is taken over its last episodes.

    It is kept in the recording's folder from time to time, so that training goes on where it was interrupted (see
    `CollectConfig.resumes` for when it does not): with other draws and in new episodes, those that were under way
    being lost. SAC's memory of past steps is filled from the recorded episodes.
    """

    def __init__(self, config: CollectConfig, recorders: Sequence[Recorder], recording: Recording, goal: float | None):
        self.config, self.recorders, self.recording, self.goal = config, recorders, recording, goal
        self.path = recording.folder / AGENT
        self.agent = Agent(config.policy, recorders, config.seed)
        known: dict[str, Any] = {"parts": 0, "recent": [], "done": False}
        if self.path.exists():
            known = self.agent.load(self.path)
        self.done: bool = known["done"]
        self.recent: deque[float] = deque(known["recent"], maxlen=RECENT)
        if not self.done:
            recording.rewind(known["parts"])
            if config.policy == "sac" and recording.parts:
                self.agent.remember(recording.kept())

    def run(self) -> None:
        """Trains until the goal is reached, or to the end of the budget.

        Raises RunFailure if that does not suffice for it; an expert is then what the budget made, and a notice says so.
        """
        if self.done:
            return
        try:
            with progress(self.agent.steps, self.config.train_steps, f"training {self.config.policy}") as self.bar:
                self.agent.train(self.config.train_steps, self.go_on)
        except Interrupted:
            self.save()
            raise
        self.done = self.reached() or self.config.level == "expert"
        self.save()
        if not self.reached():
            self.fall_short()

    def fall_short(self) -> None:
        """Says what was reached instead of the goal; raises RunFailure unless the level is expert."""
        reached = f"{number(self.recent_return())} in {self.agent.steps:,} steps of training"
        told = f"{self.config.policy} reached a return of {reached}, "
        told += "an expert's is not known" if self.goal is None else f"not {number(self.goal)}"
        if self.done:
            print(f"notice: {told}: this is taken for the expert", file=sys.stderr, flush=True)
        else:
            way = "go on" if self.config.resumes else "begin anew"
            raise RunFailure(f"{told}: {way} with more --train-steps, or take another --out and a lower --level")

    def go_on(self) -> bool:
        """Takes what was finished; whether the goal is still ahead."""
        episodes = [episode for recorder in self.recorders for episode in recorder.take()]
        self.recent.extend(float(episode.rewards.sum(dtype=np.float64)) for episode in episodes)
        if self.config.record == "replay":
            self.recording.add(episodes)
        if self.recording.due:
            self.save()
        wanted = "" if self.goal is None else f" of {number(self.goal)}"
        self.bar.set_postfix_str(f"return {number(self.recent_return())}{wanted}", refresh=False)
        self.bar.update(self.agent.steps - self.bar.n)
        return not self.reached()

    def recent_return(self) -> float:
        """The mean return of the last episodes; 0 before the first."""
        return float(np.mean(self.recent)) if self.recent else 0.0

    def reached(self) -> bool:
        """Whether the goal is."""
        return self.goal is not None and len(self.recent) == RECENT and self.recent_return() >= self.goal

    def save(self) -> None:
        """Writes the episodes so far, and the agent that had them."""
        self.recording.flush()
        if self.config.resumes or self.done:
            self.agent.save(self.path, parts=self.recording.parts, recent=list(self.recent), done=self.done)


def goal(config: CollectConfig, reference: tuple[float, float] | None) -> float | None:
    """The return that a level stands for; None where an expert's is not known.

    Raises ValueError for a medium level where there is no scale.
    """
    if config.level not in ("medium", "expert"):
        return float(config.level)
    if reference is None:
        if config.level == "medium":
            raise ValueError(f"there is no expert's return known for {config.env}: give --level as a number")
        return None
    random, expert = reference
    return expert if config.level == "expert" else random + MEDIUM * (expert - random)


def progress(done: int, total: int, name: str) -> Any:
    """A bar that counts steps, on a terminal."""
    from tqdm import tqdm

    return tqdm(initial=done, total=total, desc=name, unit="steps", unit_scale=True, disable=None)
