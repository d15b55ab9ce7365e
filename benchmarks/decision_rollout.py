"""Against transformers' Decision Transformer on a CPU: steps of an environment in evaluation, and training updates.

python -m benchmarks.decision_rollout [--parts rollout,update] [--rounds N] [--threads N]

- rollout: a model of the paper's size (3 blocks, 128 wide, 1 head, K = 20) with random weights, the same ones on both
  sides, acts in Hopper-v5 and CartPole-v1. Ours as `decision.rollout` does, in 64 environments at once, and in one;
  the peer's in the loop that its users write, one environment at a time, the last K steps read anew at every step. The
  environment with random actions is the limit. Episodes last as long as their seed says, half to all of --steps; where
  the environment would end one sooner it begins anew within it, since random weights do not stay on their feet.
- update: forward, loss, backward, clipping and fused AdamW on batches of 64 windows in Hopper's shapes, in float32 and
  by autocast in bfloat16; the same windows and, at first, the same weights on both sides. `ours in decision.train` is
  the step with all that a run does around it.

The last row of each table is the peer, by which the others are divided; an environment or a peer that is not installed
is left out. Each comparison replaces its own figures in benchmarks/results/decision_rollout.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import cycle
from typing import Any

import gymnasium
import numpy as np

from benchmarks.measure.harness import Comparison, Contestant, compare
from benchmarks.measure.options import add_results, check_known, names, parser_of
from benchmarks.measure.record import update
from benchmarks.peers.decision import PEER, SIZES, PeerActor, build, installed, peer_model, play_one
from core.cli.exits import main
from core.devices import keep_freed_memory
from decision.acting.episodes import roll_out
from decision.data.summary import Normaliser
from decision.environments.make import episode_seed, make, open_environments
from decision.environments.spaces import describe

NAME = "decision_rollout"
HERE, STEP = f"benchmarks.{NAME}", "benchmarks.steps.decision:train_step"
ENVIRONMENTS = ("Hopper-v5", "CartPole-v1")
PRECISIONS = ("fp32", "bf16")
TARGET = 1000.0  # return asked for
WARM_UP = 4  # steps of an episode that is not counted


# ---------------------------------------------------------------------------------------------- acting


class Lasting(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment whose episodes last half to all of `longest` steps, as their seed says."""

    def __init__(self, environment: gymnasium.Env[Any, Any], longest: int):
        super().__init__(environment)
        self.longest, self.left = longest, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode and decides how long it lasts."""
        self.left = int(np.random.default_rng(seed).integers(-(-self.longest // 2), self.longest, endpoint=True))
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step; where the environment ends too soon, what it shows is its next beginning."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.left -= 1
        if self.left and (terminated or truncated):
            observation, info = self.env.reset()
        return observation, reward, False, not self.left, info


def unscaled(environment: gymnasium.Env[Any, Any]) -> Normaliser:
    """Statistics that cost what any do and change no observation."""
    size = describe(environment.observation_space).size
    return Normaliser((size,), (0.0,) * size, (1.0,) * size, TARGET)


def ours(seed: int, environment: str, size: str, at_once: int, longest: int) -> dict[str, float]:
    """Steps per second of our evaluation: one episode in each of `at_once` environments."""
    keep_freed_memory()  # as the commands do
    with open_environments(environment, at_once) as environments:
        first = environments[0]
        model = build(SIZES[size], describe(first.observation_space), describe(first.action_space), seed)

        def play(steps: int) -> int:
            lasting = [Lasting(each, steps) for each in environments]
            return roll_out(model, unscaled(first), lasting, [TARGET], at_once, seed=seed).steps

        play(WARM_UP)
        return timed(lambda: play(longest))


def theirs(seed: int, environment: str, size: str, longest: int) -> dict[str, float]:
    """Steps per second of the peer's evaluation: our first episode."""
    with closing(make(environment)) as env:
        acted = describe(env.action_space)
        model = peer_model(SIZES[size], build(SIZES[size], describe(env.observation_space), acted, seed))

        def play(steps: int) -> int:
            actor = PeerActor(model, SIZES[size].context, acted, unscaled(env), TARGET)
            return play_one(actor, Lasting(env, steps), episode_seed(seed, 0))

        play(WARM_UP)
        return timed(lambda: play(longest))


def alone(seed: int, environment: str, longest: int) -> dict[str, float]:
    """Steps per second of the environment, under actions drawn beforehand."""
    with closing(make(environment)) as env:
        env.action_space.seed(seed)
        actions = cycle([env.action_space.sample() for _ in range(256)])

        def play(steps: int) -> int:
            lasting, played, ended = Lasting(env, steps), 0, False
            lasting.reset(seed=episode_seed(seed, 0))
            while not ended:
                ended = lasting.step(next(actions))[3]
                played += 1
            return played

        play(WARM_UP)
        return timed(lambda: play(longest))


def timed(play: Callable[[], int]) -> dict[str, float]:
    """Environment steps that `play()` says it took, per second of CPU and of wall time."""
    wall, core = time.perf_counter(), time.process_time()
    steps = play()
    wall, core = time.perf_counter() - wall, time.process_time() - core
    return {"environment_steps": steps, "steps_per_core_second": steps / core, "steps_per_second": steps / wall}


# ---------------------------------------------------------------------------------------------- comparisons


def compare_rollouts(options: argparse.Namespace) -> Iterator[Comparison]:
    """One comparison for each environment."""
    for environment in options.environments:
        where = {"environment": environment, "longest": options.steps}
        model = {"size": options.size, **where}
        sides = [
            Contestant("environment alone", f"{HERE}:alone", {**where, "longest": 50 * options.steps}),
            Contestant(f"ours, {options.at_once} at once", f"{HERE}:ours", {**model, "at_once": options.at_once}),
            Contestant("ours, 1 at once", f"{HERE}:ours", {**model, "at_once": 1}),
        ]
        peer = [Contestant(PEER, f"{HERE}:theirs", model)] * options.peer
        yield compare(f"rollout {environment}", [*sides, *peer], rounds=options.rounds, threads=options.threads)


def compare_updates(options: argparse.Namespace) -> Iterator[Comparison]:
    """In float32 and in bfloat16."""
    for precision in options.precisions:
        work = {"size": options.size, "batch": options.batch, "precision": precision, "steps": options.updates}
        sides = [
            Contestant("ours", STEP, {"side": "ours", **work}),
            Contestant("ours in decision.train", f"{STEP}_in_run", work),
        ]
        peer = [Contestant(PEER, STEP, {"side": PEER, **work})] * options.peer
        yield compare(f"update {precision}", [*sides, *peer], rounds=options.rounds, threads=options.threads)


PARTS = {"rollout": compare_rollouts, "update": compare_updates}
SHOWN = {
    "rollout": ("steps_per_core_second", "steps_per_second"),
    "update": ("updates_per_core_second", "growth_bytes"),
}


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a part or a precision that is none."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--parts", type=names, default=list(PARTS), help="of rollout,update")
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    add_results(parser)
    parser.add_argument("--environments", type=names, default=list(ENVIRONMENTS), help="rollout: ids of Gymnasium's")
    parser.add_argument("--at-once", type=int, default=64, help="rollout: environments that we act in at once")
    parser.add_argument("--steps", type=int, default=400, help="rollout: of the longest episode, at most 500")
    parser.add_argument("--batch", type=int, default=64, help="update: windows")
    parser.add_argument("--updates", type=int, default=30, help="update: measured in each process")
    parser.add_argument("--precisions", type=names, default=list(PRECISIONS), help="update: of fp32,bf16")
    parser.add_argument("--tiny", action="store_true", help="a model of 32 channels, 2 blocks and 4 steps, to try")
    options = parser.parse_args(argv)
    check_known(options, parts=PARTS, precisions=PRECISIONS)
    if not WARM_UP <= options.steps <= 500:
        raise ValueError(f"steps = {options.steps} must be {WARM_UP} to 500")
    if options.at_once < 2:
        raise ValueError(f"at_once = {options.at_once} must be 2 or more: one alone is measured anyway")
    options.size = "tiny" if options.tiny else "paper"
    return options


def run(options: argparse.Namespace) -> None:
    """Every part asked for, printed and saved as soon as it is measured."""
    options.environments = present(options.environments)
    options.peer = installed()
    if not options.peer:
        print(f"notice: {PEER} is not installed and is left out: pip install {PEER}", file=sys.stderr)
    for part in options.parts:
        for found in PARTS[part](options):
            print(f"\n## {found.name}, {options.threads} thread(s)\n\n{found.table(*SHOWN[part])}", flush=True)
            update(NAME, {found.name: found.as_dict()}, options.results)
    print(f"saved to {options.results / NAME}.json")


def present(environments: Sequence[str]) -> list[str]:
    """Those that can be made; the others are named in a notice."""
    found = []
    for environment in environments:
        try:
            make(environment).close()
            found.append(environment)
        except ValueError as reason:
            print(f"notice: {environment} is left out: {reason}", file=sys.stderr)
    return found


if __name__ == "__main__":
    main(lambda: run(parse()))
