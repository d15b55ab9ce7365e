"""Talk with a trained model in the terminal.

    python -m text.chat DIR [--system "You are brief."] [--temperature T] ...
    python -m text.chat DIR --message "What is a token?"

DIR is a run folder of the task `instructions`, or a public model with a chat template: a folder in Hugging Face's
layout, or its name on the hub. What was said is remembered as far as the context reaches.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from core.checks import check_choices, check_positive
from core.cli.arguments import TEXT, parse_fields, run_folder
from core.cli.exits import main
from core.decoding.filters import Sampling
from core.devices import device_kind, resolve_precision
from text.conversations.messages import Message
from text.conversations.template import saved_template
from text.models.gpt import GPT
from text.pretrained.start import start_folder
from text.trained import load_any
from text.using.answering import Answering
from text.using.terminal import converse, print_pieces

DESCRIPTION = (
    "Talks with a model. DIR is a run folder of the task instructions, or a public model with a chat template: a "
    "folder in Hugging Face's layout, or its name on the hub. Without --message it asks for messages on a terminal; "
    "elsewhere it reads one from standard input."
)


@dataclass(frozen=True)
class ChatConfig(Sampling):
    """Settings of `text.chat`, beside those that say how the next token is chosen."""

    temperature: float = 0.7
    """Below 1 sharpens, above 1 flattens; 0 takes the most probable token."""
    message: str | None = field(default=None, metadata={TEXT: True})
    """What to say; by default it is asked for, or read from standard input."""
    system: str = field(default="", metadata={TEXT: True})
    """What the model is told before the conversation."""
    tokens: int = 500
    """The most tokens of an answer."""
    seed: int = 0
    """Seed of the first answer; each further one has the next seed."""
    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        check_positive(self, "tokens")


def say(answering: Answering, history: list[Message], options: ChatConfig, words: str) -> Iterator[str]:
    """The answer to some words, in pieces; both are then part of the history. ValueError for words that do not fit.

    Every answer has a seed of its own.
    """
    seed = options.seed + sum(message.role == "user" for message in history)
    asked = Message("user", words.strip())
    if not asked.content:
        raise ValueError("the message is empty: say something")
    said: list[str] = []
    for piece in answering.answer([*history, asked], options, options.tokens, seed):
        said.append(piece)
        yield piece
    history += [asked, Message("assistant", "".join(said).strip())]


def chat(argv: list[str]) -> None:
    """The command."""
    name, rest = run_folder(argv, "text.chat")
    options = parse_fields(ChatConfig(), rest, prog="python -m text.chat DIR", description=DESCRIPTION)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may not have every character
    device = device_kind(options.device)
    trained = load_any(str(name), options.checkpoint, device)
    if not isinstance(trained.model, GPT):
        raise ValueError(f"DIR holds a model for {trained.config.task}, not one that answers")
    template = saved_template(start_folder(str(name)), trained.tokenizer)
    if resolve_precision(options.precision, device) == "bf16":
        trained.model.bfloat16()  # once; autocast would convert every weight for every token
    answering = Answering(trained.model, trained.tokenizer, template, trained.device)
    history = [Message("system", options.system.strip())] if options.system.strip() else []
    if options.message is None and sys.stdin.isatty():
        return converse("Say something. Ctrl-C stops an answer,", partial(say, answering, history, options))
    words = options.message if options.message is not None else sys.stdin.read()
    print_pieces(say(answering, history, options, words))


if __name__ == "__main__":
    main(lambda: chat(sys.argv[1:]))
