"""Few-shot: a model that has read many small tasks as text does a new one, shown examples of it in its prompt.

A task is a secret alphabet and an order: each letter of a word stands for another, and the word may be turned round.

    fad>bce;cab>acd;...
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.claims.common import (
    Claim,
    Finding,
    Lab,
    fit,
    generator,
    next_token,
    parameters,
    percent,
    seeded,
    targets_of,
)
from benchmarks.claims.picture import Lines
from benchmarks.claims.verdict import Condition
from core.vocabulary import IGNORED
from text.models.gpt import GPT, GPTConfig
from text.presets import MUON, modern_core

LETTERS, WORD, SHOTS, BATCH = 6, 3, 9, 64
ARROW, END = LETTERS, LETTERS + 1
EACH = 2 * WORD + 2  # tokens of an example
SIZES = {"4 tasks": 4, "any task": 0}


def tasks(count: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Alphabets (count, LETTERS), each a permutation, and whether words are turned round, bool (count,)."""
    alphabets = torch.rand(count, LETTERS, generator=g).argsort(-1)
    return alphabets, torch.rand(count, generator=g) < 0.5


def texts(alphabets: Tensor, turned: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Examples of each task one after another, and the answers that are to be said: 2 x int64 (B, SHOTS EACH)."""
    rows = len(turned)
    words = torch.randint(LETTERS, (rows, SHOTS, WORD), generator=g)
    answers = alphabets.gather(1, words.flatten(1)).view_as(words)
    answers = torch.where(turned.view(-1, 1, 1), answers.flip(-1), answers)
    arrow, end = (torch.full((rows, SHOTS, 1), sign) for sign in (ARROW, END))
    ids = torch.cat((words, arrow, answers, end), dim=-1)  # (B, SHOTS, EACH)
    said = torch.full_like(ids, IGNORED)
    said[..., WORD : 2 * WORD] = answers  # what follows the arrow, and each letter but the last
    return ids.flatten(1), said.flatten(1)


def draw(known: tuple[Tensor, Tensor] | None, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts of new tasks, or of some that are known."""
    if known is None:
        return texts(*tasks(BATCH, g), g)
    chosen = torch.randint(len(known[1]), (BATCH,), generator=g)
    return texts(known[0][chosen], known[1][chosen], g)


def build() -> GPT:
    return GPT(GPTConfig(LETTERS + 2, SHOTS * EACH, "untied", modern_core(64, 3, 4)))


@torch.no_grad()
def right(model: nn.Module, rows: int) -> list[float]:
    """The share of whole answers that are right on new tasks, by the number of examples before: SHOTS numbers."""
    g = generator(0, "test")
    ids, said = texts(*tasks(rows, g), g)
    hits = (model(ids).argmax(-1) == said) | (said == IGNORED)
    return hits.unflatten(1, (SHOTS, EACH)).all(-1).float().mean(0).tolist()


def learned(count: int, seconds: float, rows: int, seed: int) -> list[float]:
    """Of a model that has seen so many tasks, 0 = ever new ones."""
    known = tasks(count, generator(seed, "tasks")) if count else None
    model = seeded(seed, build)
    fit(model, next_token, partial(draw, known), seconds, seed, count=targets_of, optimizer=MUON, precision="auto")
    return right(model, rows)


def best(rows: int) -> list[float]:
    """What is right of one who knows the order, and each letter as soon as it was shown; others are guessed."""
    words = torch.randint(LETTERS, (rows, SHOTS, WORD), generator=generator(0, "best"))
    shown = torch.nn.functional.one_hot(words, LETTERS).amax(2).cumsum(1) > 0  # (rows, SHOTS, LETTERS)
    before = torch.cat((torch.zeros(rows, 1, LETTERS, dtype=torch.bool), shown[:, :-1]), dim=1)
    known = before.gather(2, words)  # (rows, SHOTS, WORD)
    left = (LETTERS - before.sum(-1, keepdim=True)).clamp(min=1)
    return torch.where(known, 1.0, 1 / left).prod(-1).mean(0).tolist()


def measure(lab: Lab) -> Finding:
    seconds, rows = lab.seconds(len(SIZES)), 200 if lab.quick else 4000
    found = {name: lab.each_seed(name, partial(learned, count, seconds, rows)) for name, count in SIZES.items()}
    bound, shots = best(rows), range(SHOTS)
    shown = (0, 1, 2, 4, SHOTS - 1)
    table = [
        [f"trained on {name}", *(percent([one[n] for one in ones]) for n in shown)] for name, ones in found.items()
    ]
    table += [["one who knows the order", *(f"{100 * bound[n]:.1f} %" for n in shown)]]
    any_task, few = found["any task"], found["4 tasks"]
    noise = (0.25 / rows) ** 0.5
    return Finding(
        ["answers right on new tasks, after", *(f"{n} examples" for n in shown)],
        table,
        [Lines("new tasks", "examples in the prompt", "share of answers right", shots,
               {**{f"trained on {name}": ones for name, ones in found.items()}, "who knows the order": [bound]})],
        [
            Condition(f"after {SHOTS - 1} examples", tuple(one[-1] for one in any_task), "at least", 0.8, noise),
            Condition("without an example", tuple(one[0] for one in any_task), "at most", 0.05, noise),
            Condition(f"trained on 4 tasks, after {SHOTS - 1}", tuple(one[-1] for one in few), "at most", 0.2, noise),
        ],
        [f"{parameters(build()):,} parameters; {LETTERS} letters, words of {WORD}. Each letter of an answer is asked "
         "for given the true ones before it."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="A language model does a task that it was never trained on, from a few examples in its prompt.",
    hypothesis=f"Trained on ever new secret alphabets, it gets at least 80 % of words in an unseen one right after "
    f"{SHOTS - 1} examples, and at most 5 % without; trained on 4 alphabets alone, at most 20 % after {SHOTS - 1}.",
    equal="parameters and core-seconds",
    measure=measure,
    minutes=24,
    least=4,
)
