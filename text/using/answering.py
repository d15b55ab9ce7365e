"""A model that answers: what was said, written down by a chat template, is continued up to the end of an answer."""

from collections.abc import Iterator, Sequence

import torch

from core.decoding.filters import Sampling
from core.decoding.generate import generate
from core.decoding.window import STOPPED, Decodable
from text.conversations.encode import encode_located
from text.conversations.messages import Message
from text.conversations.template import ChatTemplate, check_message, special_names
from text.tokens.base import Ids, StreamingDecoder, Tokenizer


class Answering:
    """A model, its tokenizer and its template."""

    def __init__(
        self, model: Decodable, tokenizer: Tokenizer, template: ChatTemplate, device: torch.device | str = "cpu"
    ):
        self.model, self.tokenizer, self.template, self.device = model, tokenizer, template, device

    def answer(
        self, messages: Sequence[Message], sampling: Sampling | None = None, tokens: int = 500, seed: int = 0
    ) -> Iterator[str]:
        """The answer to what was said last, in pieces, as it is generated.

        Of what was said, the oldest questions and answers are left out until it fits the context with a quarter of it
        free. Raises ValueError, before the first piece, where the last question alone does not fit.
        """
        ids = self.prompt(messages)
        room = min(tokens, self.model.context - len(ids))
        steps = generate(
            self.model,
            [ids.tolist()],
            room,
            sampling,
            seeds=[seed],
            stop=self.tokenizer.stops,
            device=self.device,
        )
        return self._shown(int(step) for step in steps)

    def prompt(self, messages: Sequence[Message]) -> Ids:
        """The tokens of what is remembered of a conversation, and of how an answer begins: int64 (T,)."""
        names = special_names(self.tokenizer)
        for message in messages:
            check_message(message, names)
        context = self.model.context
        first, turns = (messages[:1], messages[1:]) if messages[0].role == "system" else ((), messages)
        for forgotten in range(0, len(turns), 2):
            kept = [*first, *turns[forgotten:]]
            ids, _ = encode_located(self.tokenizer, self.template.prompt(kept))
            last = forgotten + 2 >= len(turns)
            if len(ids) <= (context - 1 if last else context * 3 // 4):
                return ids
        raise ValueError(f"what is asked has {len(ids)} tokens, of which {context - 1} fit beside an answer")

    def _shown(self, steps: Iterator[int]) -> Iterator[str]:
        decode, hidden = StreamingDecoder(self.tokenizer), {STOPPED, self.tokenizer.bos, *self.tokenizer.stops}
        shown = (step for step in steps if step not in hidden and step < self.tokenizer.vocab_size)

        def pieces() -> Iterator[str]:
            yield from (decode(step) for step in shown)
            yield decode.finish()

        return before(pieces(), self.template.end)


def before(pieces: Iterator[str], end: str) -> Iterator[str]:
    """The pieces of a text up to the first `end` in it, which is left out; "" ends nothing."""
    held = ""  # what may begin an end
    for piece in pieces:
        held += piece
        if end and (place := held.find(end)) >= 0:
            yield held[:place]
            return
        possible = next((n for n in range(min(len(end) - 1, len(held)), 0, -1) if end.startswith(held[-n:])), 0)
        yield held[: len(held) - possible]
        held = held[len(held) - possible :]
    yield held
