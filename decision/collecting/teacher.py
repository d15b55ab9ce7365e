"""An agent is trained until its episodes return as much as a level asks for, on a scale from random to expert."""

from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.cli.exits import RunFailure
from core.messages import notice, number
from core.training.order import stream
from decision.collecting.agents import Agent
from decision.collecting.config import CollectConfig
from decision.collecting.recording import RandomPolicy, Recorder, Recording, record_episodes
from decision.data.store import Episode
from decision.data.summary import reference_scores
from decision.environments.spaces import describe

FILE = "agent.pt"
RECENT = 40  # episodes that an agent's return is the mean of
MEDIUM = 1 / 3  # of the way from a random to an expert policy
EPISODES = 100  # by which the return of a random policy is measured, or fewer
STEPS = 20_000  # once they have this many steps


class Teacher:
    """An agent that is trained to a return, which is measured over its last episodes."""

    def __init__(self, config: CollectConfig, recorders: Sequence[Recorder], recording: Recording, goal: float | None):
        self.config, self.recorders, self.recording, self.goal = config, recorders, recording, goal
        self.agent = Agent(config.policy, recorders, config.seed)
        self.recent: deque[float] = deque(maxlen=RECENT)

    def train(self) -> None:
        """Trains until the goal is reached, or to the end of the budget; a replay records all episodes.

        Raises RunFailure if the goal is not reached, unless the level is expert, which is then whatever was reached.
        """
        with progress_bar(0, self.config.train_steps, f"training {self.config.policy}") as self.bar:
            budget = self.config.train_steps
            self.agent.model.learn(budget, callback=lambda *_: self._continue(), reset_num_timesteps=False)
        if self._reached():
            return
        reached = f"{number(self.recent_return())} in {self.agent.steps:,} steps of training"
        goal = "that of an expert is unknown" if self.goal is None else f"not {number(self.goal)}"
        sentence = f"{self.config.policy} reached a return of {reached}, {goal}"
        if self.config.level != "expert":
            raise RunFailure(f"{sentence}: allow more --train-steps, or ask for a lower --level")
        notice(f"{sentence}: this is taken for the expert")

    def recent_return(self) -> float:
        """The mean return of the last episodes; 0 before the first."""
        return float(np.mean(self.recent)) if self.recent else 0.0

    def _continue(self) -> bool:
        """Takes the finished episodes; whether training continues."""
        episodes = [episode for recorder in self.recorders for episode in recorder.take()]
        self.recent.extend(float(episode.rewards.sum(dtype=np.float64)) for episode in episodes)
        if self.config.is_replay:
            self.recording.add(episodes)
        goal = "" if self.goal is None else f" of {number(self.goal)}"
        self.bar.set_postfix_str(f"return {number(self.recent_return())}{goal}", refresh=False)
        self.bar.update(self.agent.steps - self.bar.n)
        return not self._reached()

    def _reached(self) -> bool:
        return self.goal is not None and len(self.recent) == RECENT and self.recent_return() >= self.goal


def trained_agent(
    config: CollectConfig, recorders: Sequence[Recorder], recording: Recording, goal: float | None
) -> tuple[Agent, dict[str, Any]]:
    """The agent of an interrupted recording, or a new one, and how it was trained."""
    path = saved_agent(recording)
    if path.exists():
        agent = Agent(config.policy, recorders, config.seed)
        return agent, agent.load(path)
    teacher = Teacher(config, recorders, recording, goal)
    teacher.train()
    notes = {"trained_steps": teacher.agent.steps, "trained_return": teacher.recent_return()}
    if not config.is_replay:
        recording.flush()
        teacher.agent.save(path, **notes)
    return teacher.agent, notes


def saved_agent(recording: Recording) -> Path:
    """Where a recording keeps its agent, once it is trained."""
    return recording.folder / FILE


def find_goal(config: CollectConfig, reference: tuple[float, float] | None) -> float | None:
    """The return that a level stands for; None where an expert's is unknown, ValueError for the medium level then."""
    if config.level not in ("medium", "expert"):
        return float(config.level)
    if reference is None:
        if config.level == "medium":
            raise ValueError(f"the return of an expert in {config.env} is unknown: give --level as a number")
        return None
    random, expert = reference
    return expert if config.level == "expert" else random + MEDIUM * (expert - random)


def progress_bar(done: int, total: int, name: str) -> Any:
    """A bar that counts steps, on a terminal."""
    from tqdm import tqdm

    return tqdm(initial=done, total=total, desc=name, unit="steps", unit_scale=True, disable=None)


def find_reference(config: CollectConfig, recorders: Sequence[Recorder]) -> tuple[float, float] | None:
    """Returns of a random and an expert policy: D4RL's, or measured and the environment's own threshold."""
    threshold = None if recorders[0].spec is None else recorders[0].spec.reward_threshold
    published = reference_scores(config.env)
    if published is not None or threshold is None:
        return published
    return reference_of(random_return(config, recorders), float(threshold))


def random_return(config: CollectConfig, recorders: Sequence[Recorder]) -> float:
    """The mean return of a random policy, measured."""
    behaviour, seed = partial(RandomPolicy, describe(recorders[0].action_space)), first_seed(config.seed + 1)
    episodes: list[Episode] = []
    while len(episodes) < EPISODES and sum(len(episode.rewards) for episode in episodes) < STEPS:
        episodes += record_episodes(recorders[:1], behaviour, [seed + len(episodes)])
    return float(np.mean([episode.rewards.sum(dtype=np.float64) for episode in episodes]))


def reference_of(random: float, expert: float) -> tuple[float, float] | None:
    """A scale of returns, unless the random policy is as good as the expert."""
    return (random, expert) if random < expert else None


def first_seed(seed: int) -> int:
    """The seed of the first episode; the next ones count up from it. Evaluations use other seeds."""
    return int(stream(seed, "collected").random_raw() >> np.uint64(34))
