"""Shortest walks: what imitation, a return that is asked for, preferences and a reward each make of random walks.

One graph a seed, and 1,000 random walks through it, are what there is to learn from. A language model of places
imitates them (behaviour cloning); a Decision Transformer does, and is then asked for the return of a shortest walk.
From the imitator go on: DPO (Rafailov 2023), of two of its own walks from one start preferring the shorter; and policy
gradient (Williams 1992) with the mean of the walks from the same start as its baseline.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.claims.common import (
    Claim,
    Draw,
    Finding,
    Lab,
    fit,
    generator,
    next_token,
    percent,
    seeded,
    targets_of,
)
from benchmarks.claims.materials.walks import (
    Map,
    agent,
    draw_map,
    guided,
    mean_optimality,
    returned,
    rows,
    scores,
    stroll,
    walked,
    walker,
    windows,
)
from benchmarks.claims.picture import Bars
from benchmarks.claims.verdict import Condition
from core.optim.config import OptimizerConfig
from decision.data.windows import Window
from text.models.gpt import GPT
from text.presets import MUON
from text.tasks.chatting.preferences import preference_loss, row_logs

WALKS, BATCH, EACH, BETA, DRAWN = 1000, 64, 8, 0.1, 20
FINE = OptimizerConfig(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
METHODS = (
    "the walks learned from",
    "imitation, drawn",
    "imitation",
    "a return asked for",
    "preferences",
    "policy gradient",
)


def imitated(walks: list[list[int]], g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some of the walks, as a language model reads them."""
    return rows([walks[n] for n in torch.randint(len(walks), (BATCH,), generator=g).tolist()])


def conditioned(graph: Map, walks: list[list[int]], g: torch.Generator) -> Window:
    """Some of the walks, as an agent sees them, with the returns that they had."""
    chosen = [walks[n] for n in torch.randint(len(walks), (BATCH,), generator=g).tolist()]
    return windows(chosen, [returned(graph, walk) for walk in chosen])


def agent_loss(model: Any, *tensors: Tensor) -> Tensor:
    """Cross-entropy of the steps that were taken, summed."""
    window = Window(*tensors)
    losses: Tensor = model.head.loss(model(window), window.actions)  # (B, STEPS)
    return losses.masked_fill(~window.valid(), 0.0).sum()


def logs(model: Any, ids: Tensor, following: Tensor) -> Tensor:
    """Log-probabilities of whole walks: 2 x int64 (B, STEPS) -> (B,)."""
    return row_logs(model, ids, following, torch.zeros_like(ids))


def own_walks(policy: GPT, graph: Map, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """EACH walks of the policy from some starts, one start after another, and how good they are."""
    starts = torch.tensor(graph.starts)[torch.randint(len(graph.starts), (BATCH // EACH,), generator=g)]
    found = walked(policy, starts.repeat_interleave(EACH).tolist(), int(torch.randint(2**40, (), generator=g)))
    return *rows(found), scores(graph, found)


def preferred(policy: GPT, before: GPT, graph: Map) -> Draw:
    """Pairs of the policy's walks from one start, the better one first, and what the imitator says of them."""

    @torch.no_grad()
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        ids, following, good = own_walks(policy, graph, g)
        order = good.unflatten(0, (-1, EACH)).argsort(1, descending=True)  # (starts, EACH)
        order = order + EACH * torch.arange(len(order)).unsqueeze(1)
        first, last = order[:, : EACH // 2].flatten(), order.flip(1)[:, : EACH // 2].flatten()
        apart = good[first] > good[last]
        pairs = torch.cat((first[apart], last[apart])) if apart.any() else torch.cat((first[:1], last[:1]))
        return ids[pairs], following[pairs], logs(before, ids[pairs], following[pairs])

    return draw


def dpo(model: Any, ids: Tensor, following: Tensor, before: Tensor) -> Tensor:
    """The loss of all pairs."""
    ratios = logs(model, ids, following) - before
    return preference_loss(ratios, (ids >= 0).sum(1), "dpo", BETA).sum()


def rewarded(policy: GPT, graph: Map) -> Draw:
    """The policy's walks, and by how much each is better than the mean of those from its start."""

    @torch.no_grad()
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        ids, following, good = own_walks(policy, graph, g)
        groups = good.unflatten(0, (-1, EACH))  # (starts, EACH)
        return ids, following, (groups - groups.mean(1, keepdim=True)).flatten()

    return draw


def reinforce(model: Any, ids: Tensor, following: Tensor, advantages: Tensor) -> Tensor:
    """Its gradient is that of the mean optimality, with the sign turned, summed over walks."""
    return -(advantages * logs(model, ids, following)).sum()


def learned(seconds: float, seed: int) -> dict[str, float]:
    """Mean optimality of the walks of every method from every start, the most probable way or drawn."""
    graph = draw_map(seed)
    walks = stroll(graph, WALKS, generator(seed, "walks"))
    imitator, asked = seeded(seed, walker), seeded(seed, agent)
    learn = partial(fit, seconds=seconds, seed=seed, optimizer=MUON, precision="auto")
    learn(imitator, next_token, partial(imitated, walks), count=targets_of)
    learn(asked, agent_loss, partial(conditioned, graph, walks), count=lambda *b: b[-1].sum())
    found = {
        "the walks learned from": mean_optimality(graph, walks),
        "imitation, drawn": mean_optimality(graph, walked(imitator, graph.starts * DRAWN, seed)),
        "imitation": mean_optimality(graph, walked(imitator, graph.starts)),
        "a return asked for": mean_optimality(graph, guided(asked, graph, graph.starts)),
    }
    for name, draws, loss in (
        ("preferences", lambda policy: preferred(policy, imitator, graph), dpo),
        ("policy gradient", lambda policy: rewarded(policy, graph), reinforce),
    ):
        policy = walker()
        policy.load_state_dict(imitator.state_dict())
        fit(policy, loss, draws(policy), 2 * seconds, seed, optimizer=FINE, precision="auto")
        found[name] = mean_optimality(graph, walked(policy, graph.starts))
    return found


def measure(lab: Lab) -> Finding:
    found = lab.each_seed("walks", partial(learned, lab.seconds(6)))
    values = {name: tuple(one[name] for one in found) for name in METHODS}
    return Finding(
        ["from each start to the goal", "optimality"],
        [[name, percent(values[name])] for name in METHODS],
        [Bars("walks to the goal", "optimality", values)],
        [
            Condition("imitation, drawn", values["imitation, drawn"], "at most", 0.7, 0.02),
            *(Condition(name, values[name], "at least", 0.95, 0.01) for name in METHODS[3:]),
        ],
        ["All but the first two rows take the most probable step. Preferences and policy gradient see walks of their "
         "own, imitation and the Decision Transformer only the random ones."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="Imitation repeats what it saw; asked for more, or told which of two is better, a model does better.",
    hypothesis="Drawn from an imitator of random walks, walks have at most 70 % of what is possible; a Decision "
    "Transformer asked for the shortest, preferences and policy gradient each have at least 95 %.",
    equal="the walks, the blocks, and core-seconds of imitation; those of going on",
    measure=measure,
    minutes=15,
    least=3,
    seeds=5,
)
