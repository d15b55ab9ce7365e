"""Six small skills as questions and answers, made by rule: what `--data skills` names, and needs no file."""

from collections.abc import Callable

import numpy as np

from core.training.order import stream
from text.conversations.messages import Conversation, Message

SKILLS: dict[str, Callable[[str], str]] = {
    "Write in capitals": str.upper,
    "Say twice": lambda word: f"{word} {word}",
    "Put dashes into": "-".join,
    "Give the first letter of": lambda word: word[0],
    "Give the last letter of": lambda word: word[-1],
    "Write backwards": lambda word: word[::-1],
}
LETTERS, SHORTEST, LONGEST = "abcdefghijklmnopqrstuvwxyz", 3, 6


def skills(count: int = 6000) -> list[Conversation]:
    """So many different questions, each with its answer: always the same."""
    draw, found = np.random.RandomState(stream(0, "skills")), dict[str, str]()
    while len(found) < count:
        name = [*SKILLS][draw.randint(len(SKILLS))]
        word = "".join(LETTERS[place] for place in draw.randint(len(LETTERS), size=draw.randint(SHORTEST, LONGEST + 1)))
        found[f"{name}: {word}"] = SKILLS[name](word)
    return [(Message("user", asked), Message("assistant", said)) for asked, said in found.items()]
