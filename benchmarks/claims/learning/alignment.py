"""Alignment: a model of film reviews is steered to write kind ones by what a classifier says of them (Ziegler 2019).

Three models learn from SST-2: one writes sentences, a judge tells kind ones from unkind, and a second judge, of another
tokenizer and seed, is never steered by. Then the writer goes on by policy gradient: what it writes is rewarded by the
judge's log-odds, less a weight times the log of how much more probable the sentence has become; the mean of a batch is
the baseline. Each weight gives a point of reward against KL(steered || original), in nats a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.claims.common import Claim, Draw, Finding, Lab, fit, percent, spread
from benchmarks.claims.materials.writing import LONGEST, VOCABULARY, Reward, judge, logs, write, writer
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import Condition
from core.optim.config import OptimizerConfig
from text.corpus.sequences import choose_tokenizer
from text.examples.labelled import load_labelled
from text.models.gpt import GPT
from text.tokens.base import Tokenizer

WEIGHTS, CHOSEN = (1.0, 0.5, 0.2, 0.0), 0.5
EPISODES, LONG = 128, 2  # sentences of a batch; the time of a writer or policy over that of a judge
POLICY = OptimizerConfig(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)


def episodes(policy: GPT, original: GPT, tokenizer: Tokenizer, reward: Reward) -> Draw:
    """Batches of what the policy writes now: ids and said (B, T), rewards and the original's log-probabilities (B,)."""

    @torch.no_grad()
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        policy.eval()
        written = write(policy, tokenizer, EPISODES, int(torch.randint(2**40, (), generator=g)))
        return written.ids, written.said, reward(written.texts), logs(original, written.ids, written.said)

    return draw


def policy_loss(weight: float, model: Any, ids: Tensor, said: Tensor, rewards: Tensor, before: Tensor) -> Tensor:
    """Its gradient is that of the mean reward less weight x KL, with the sign turned, summed over sentences (Williams
    1992): how much better than the mean of its batch a sentence is, times the gradient of its log-probability."""
    own = logs(model, ids, said)  # (B,)
    gained = rewards - weight * (own.detach() - before)
    return -((gained - gained.mean()) * own).sum()


@torch.no_grad()
def examined(policy: GPT, original: GPT, tokenizer: Tokenizer, judges: Sequence[Reward], rows: int) -> dict[str, Any]:
    """Shares that either judge takes for kind, mean log-odds, nats from the original, variety, and two sentences."""
    written = write(policy, tokenizer, rows, 10**6)
    own, other = (reward(written.texts) for reward in judges)
    words = [word for text in written.texts for word in text.split()]
    return {
        "kind": (own > 0).float().mean().item(),
        "kind, second judge": (other > 0).float().mean().item(),
        "reward": own.mean().item(),
        "kl": (logs(policy, written.ids, written.said) - logs(original, written.ids, written.said)).mean().item(),
        "words": len({*words}) / max(1, len(words)),
        "samples": [text.strip() for text in written.texts[:3]],
    }


def steered(seconds: float, rows: int, seed: int) -> dict[str, Any]:
    """The writer before, and steered by every weight: what `examined` says; and how often the judges are right."""
    data = load_labelled("sst2")
    with TemporaryDirectory() as parent:
        judges = [judge(Path(parent) / kind, kind, seconds, seed + 100 * n)
                  for n, kind in enumerate(("affixes", "bpe"))]  # fmt: skip
    test, tokenizer = data.tests["test"], choose_tokenizer("bpe", data.train.texts, data.fingerprint, VOCABULARY)
    right = [((said(test.texts) > 0) == torch.tensor(test.labels).bool()).float().mean().item() for said in judges]
    original = writer(data.train.texts, tokenizer, LONG * seconds, seed)
    found = {"before": examined(original, original, tokenizer, judges, rows)}
    for weight in WEIGHTS:
        policy = GPT(original.config)
        policy.load_state_dict(original.state_dict())
        draw = episodes(policy, original, tokenizer, judges[0])
        fit(policy, partial(policy_loss, weight), draw, LONG * seconds, seed, optimizer=POLICY, precision="auto")
        found[f"{weight:g}"] = examined(policy, original, tokenizer, judges, rows)
    return {"right": right, "found": found}


def sampled(found: list[dict[str, Any]]) -> list[str]:
    """What seed 0 writes before, and steered by each weight, in the words of the page."""
    return [f"Seed 0, {name(key)}: " + " / ".join(f'"{text}"' for text in one["samples"])
            for key, one in found[0]["found"].items()]  # fmt: skip


def name(key: str) -> str:
    return "before" if key == "before" else f"weight {key}"


def row(found: list[dict[str, Any]], key: str) -> list[str]:
    ones = [one["found"][key] for one in found]
    shares = (percent([one[share] for one in ones]) for share in ("kind", "kind, second judge"))
    numbers = (spread([one[number] for one in ones], digits) for number, digits in (("reward", 2), ("kl", 1)))
    return [name(key), *shares, *numbers, percent([one["words"] for one in ones])]


def measure(lab: Lab) -> Finding:
    found = lab.each_seed(
        "steered", partial(steered, lab.seconds(2 + LONG * (1 + len(WEIGHTS))), 64 if lab.quick else 1000)
    )
    keys, bars = ["before", *(f"{weight:g}" for weight in WEIGHTS)], (f"{CHOSEN:g}", f"{WEIGHTS[-1]:g}")
    get = lambda key, what: [one["found"][key][what] for one in found]  # noqa: E731
    distances = [sum(get(key, "kl")) / len(found) for key in keys]
    shares = {said: [[one["found"][key][what] for key in keys] for one in found]
              for said, what in (("the judge", "kind"), ("a second judge", "kind, second judge"))}  # fmt: skip
    rewards = {"": [[one["found"][key]["reward"] for key in keys] for one in found]}
    apart = [a - b for a, b in zip(get(bars[1], "kind"), get(bars[1], "kind, second judge"), strict=True)]
    right = [percent([one["right"][n] for one in found]) for n in range(2)]
    return Finding(
        ["", "kind, says the judge", "says a second judge", "mean log-odds", "nats from before", "different words"],
        [row(found, key) for key in keys],
        [
            Lines("the frontier", "KL, nats a sentence", "mean log-odds of the judge", distances, rewards),
            Lines("steered by one judge, seen by two", "KL, nats a sentence", "share that is kind", distances, shares),
        ],
        [
            Condition("share of kind sentences before", tuple(get("before", "kind")), "at most", 0.65, 0.016),
            Condition(f"share at weight {bars[0]}", tuple(get(bars[0], "kind")), "at least", 0.85, 0.011),
            Condition(f"nats from before at weight {bars[0]}", tuple(get(bars[0], "kl")), "at most", 10, 0.3),
            Condition("without the KL term: what the judge sees more than the second", tuple(apart), "at least", 0.02,
                      0.01),
        ],
        [f"Of the test sentences the judges classify {right[0]} and {right[1]} correctly. Each point: "
         f"{64 if lab.quick else 1000:,} sentences of at most {LONGEST} tokens.", *sampled(found)],
    )  # fmt: skip


CLAIM = Claim(
    sentence="A reward steers a language model, a KL term keeps it in its language; without one it pleases the judge "
    "alone.",
    hypothesis="From about half (at most 65 %), the share of sentences that the judge takes for kind rises to at least "
    f"85 % at most 10 nats a sentence from the original, with a KL weight of {CHOSEN:g}; without the KL term the judge "
    "takes at least 2 points more for kind than a second judge does, which wasn't steered by.",
    equal="the writer, and core-seconds of steering",
    measure=measure,
    minutes=36,
    least=12,
    needs=("sst2/train.tsv", "sst2/glue-train.tsv"),
)
