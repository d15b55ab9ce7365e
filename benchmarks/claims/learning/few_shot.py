"""Few-shot: a model that has read many small tasks as text does a new one, shown examples of it in its prompt.

A task is a secret alphabet, in which each letter of a word stands for another or for itself:

    fad>bce;cab>acd;...

In training, how many letters stand for others varies from task to task, from none (copying) to all. Where it may be
all of them in every task, nothing is learned in the same time (docs/lab-notes.md).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.claims.common import (
    FASTER,
    Claim,
    Draw,
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
from benchmarks.claims.verdict import Condition, share_noise
from core.vocabulary import IGNORED
from text.models.gpt import GPT, GPTConfig
from text.presets import modern_core

LETTERS, WORD, SHOTS, BATCH = 6, 3, 9, 16
ARROW, END = LETTERS, LETTERS + 1
EACH = 2 * WORD + 2  # tokens of an example
Kind = Literal["any task", "any task, hard alone", "4 tasks"]
KINDS: tuple[Kind, ...] = ("any task", "any task, hard alone", "4 tasks")


def hard(count: int, g: torch.Generator) -> Tensor:
    """Alphabets of which every letter may stand for any: permutations (count, LETTERS)."""
    return torch.rand(count, LETTERS, generator=g).argsort(-1)


def mixed(count: int, g: torch.Generator) -> Tensor:
    """Alphabets in which so many letters are permuted, none to all, and the others stand for themselves."""
    letters, moved = hard(count, g), torch.randint(LETTERS + 1, (count, 1), generator=g)
    places = torch.arange(LETTERS).expand(count, -1)
    among = torch.where(places < moved, torch.rand(count, LETTERS, generator=g), 1.0 + places).argsort(-1)
    return torch.empty_like(letters).scatter(1, letters, letters.gather(1, among))


def held_out(alphabets: Tensor) -> Tensor:
    """Whether they are kept for testing, a fifth of all: (B, LETTERS) -> bool (B,)."""
    return (alphabets * torch.arange(LETTERS) ** 2).sum(-1) % 5 == 1


def tasks(draw: Callable[[int, torch.Generator], Tensor], count: int, g: torch.Generator, test: bool) -> Tensor:
    """Alphabets (count, LETTERS) that are held out, or are not."""
    drawn = draw(20 * count, g)
    return drawn[held_out(drawn) == test][:count]


def texts(alphabets: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Examples of each task one after another, and the answers that are to be said: 2 x int64 (B, SHOTS EACH)."""
    rows = len(alphabets)
    words = torch.randint(LETTERS, (rows, SHOTS, WORD), generator=g)
    answers = alphabets.gather(1, words.flatten(1)).view_as(words)
    arrow, end = (torch.full((rows, SHOTS, 1), sign) for sign in (ARROW, END))
    ids = torch.cat((words, arrow, answers, end), dim=-1)  # (B, SHOTS, EACH)
    said = torch.full_like(ids, IGNORED)
    said[..., WORD : 2 * WORD] = answers  # what follows the arrow, and each letter but the last
    return ids.flatten(1), said.flatten(1)


def training_draw(kind: Kind, seed: int) -> Draw:
    """Texts of new tasks, or of some that are known."""
    known = tasks(hard, 4, generator(seed, "tasks"), test=False)

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        if kind == "4 tasks":
            return texts(known[torch.randint(len(known), (BATCH,), generator=g)], g)
        return texts(tasks(mixed if kind == "any task" else hard, BATCH, g, test=False), g)

    return draw


def build() -> GPT:
    return GPT(GPTConfig(LETTERS + 2, SHOTS * EACH, "untied", modern_core(64, 2, 4)))


@torch.no_grad()
def right(model: nn.Module, rows: int) -> list[float]:
    """The share of whole answers that are right in new, hard tasks, by the number of examples before: SHOTS numbers."""
    g = generator(0, "test")
    ids, said = texts(tasks(hard, rows, g, test=True), g)
    hits = (model(ids).argmax(-1) == said) | (said == IGNORED)
    return hits.unflatten(1, (SHOTS, EACH)).all(-1).float().mean(0).tolist()


def learned(kind: Kind, seconds: float, rows: int, seed: int) -> list[float]:
    model = seeded(seed, build)
    fit(model, next_token, training_draw(kind, seed), seconds, seed, count=targets_of, optimizer=FASTER)
    return right(model, rows)


def best(rows: int) -> list[float]:
    """What is right of one who knows each letter as soon as it was shown; others are guessed."""
    words = torch.randint(LETTERS, (rows, SHOTS, WORD), generator=generator(0, "best"))
    shown = torch.nn.functional.one_hot(words, LETTERS).amax(2).cumsum(1) > 0  # (rows, SHOTS, LETTERS)
    before = torch.cat((torch.zeros(rows, 1, LETTERS, dtype=torch.bool), shown[:, :-1]), dim=1)
    known = before.gather(2, words)  # (rows, SHOTS, WORD)
    left = (LETTERS - before.sum(-1, keepdim=True)).clamp(min=1)
    return torch.where(known, 1.0, 1 / left).prod(-1).mean(0).tolist()


def measure(lab: Lab) -> Finding:
    seconds, rows = lab.seconds(len(KINDS)), 200 if lab.quick else 4000
    found = {kind: lab.each_seed(kind, partial(learned, kind, seconds, rows)) for kind in KINDS}
    bound, shots, shown = best(rows), range(SHOTS), (0, 1, 2, 4, SHOTS - 1)
    table = [
        [f"trained on {kind}", *(percent([one[n] for one in ones]) for n in shown)] for kind, ones in found.items()
    ]
    table += [["who remembers every letter", *(f"{100 * bound[n]:.1f} %" for n in shown)]]
    any_task, few = found["any task"], found["4 tasks"]
    noise = share_noise(rows)
    return Finding(
        ["answers right on new tasks, after", *(f"{n} examples" for n in shown)],
        table,
        [Lines("new tasks", "examples in the prompt", "share of answers right", shots,
               {**{f"trained on {kind}": ones for kind, ones in found.items()}, "who remembers": [bound]})],
        [
            Condition(f"after {SHOTS - 1} examples", tuple(one[-1] for one in any_task), "at least", 0.8, noise),
            Condition("without an example", tuple(one[0] for one in any_task), "at most", 0.05, noise),
            Condition(f"trained on 4 tasks, after {SHOTS - 1}", tuple(one[-1] for one in few), "at most", 0.2, noise),
        ],
        [f"{parameters(build()):,} parameters; {LETTERS} letters, words of {WORD}. Each letter of an answer is asked "
         "for given the true ones before it. Tested on alphabets of which every letter may stand for any, of a fifth "
         "of all that no training draws.",
         "The second try: in the first, all tasks were hard, and words could be turned round as well; after 4 "
         "core-minutes 3.6 % were right with 8 examples."],
    )  # fmt: skip


CLAIM = Claim(
    sentence="A language model does a task that it was never trained on, from a few examples in its prompt.",
    hypothesis=f"Trained on ever new secret alphabets, it gets at least 80 % of words in an unseen one right after "
    f"{SHOTS - 1} examples, and at most 5 % without; trained on 4 alphabets alone, at most 20 % after {SHOTS - 1}.",
    equal="parameters and core-seconds",
    measure=measure,
    minutes=15,
    least=4,
)
