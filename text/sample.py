"""Generate text with a trained model.

    python -m text.sample DIR --prompt P [--tokens N] [--temperature T] ...

DIR is a run folder, or a public model: a folder in Hugging Face's layout, or its name on the hub. Without --prompt it
asks for prompts on a terminal; elsewhere the prompt is read from standard input.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from core.checks import check_at_least, check_positive
from core.cli.arguments import TEXT, parse_fields, run_folder
from core.cli.exits import main
from core.decoding.beams import beam_search
from core.decoding.filters import Sampling
from core.decoding.generate import generate
from core.decoding.window import STOPPED
from core.devices import device_kind, resolve_precision
from core.messages import notice
from text.config import LanguageModellingConfig
from text.tokens.base import StreamingDecoder, Tokenizer, UnknownCharacterError
from text.trained import Trained, load_any
from text.using.terminal import converse, print_pieces

DESCRIPTION = (
    "Generates text. DIR is a run folder, or a public model: a folder in Hugging Face's layout, or its name on the hub "
    "(gpt2, say). Without --prompt it asks for prompts on a terminal, and elsewhere reads one from standard input."
)


@dataclass(frozen=True)
class SampleConfig(Sampling):
    """Settings of `text.sample`, beside those that say how the next token is chosen."""

    temperature: float = 0.8
    """Below 1 sharpens, above 1 flattens; 0 takes the most probable token."""
    prompt: str | None = field(default=None, metadata={TEXT: True})
    """The text to continue; by default it is asked for, or read from standard input."""
    tokens: int = 500
    """The most new tokens."""
    samples: int = 1
    """How many continuations to write."""
    seed: int = 0
    """Seed of the first continuation; each further one has the next seed."""
    beams: int = 0
    """Beam search with this many beams instead of sampling; 0 is off."""
    stop: tuple[str, ...] = field(default=(), metadata={TEXT: True})
    """Texts, any of which ends what is written; the tokenizer's end of text always does."""
    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "tokens", "samples")
        check_at_least(self, 0, "beams")
        if not all(self.stop):
            raise ValueError(f"stop = {self.stop!r} must not be empty: every text ends with that")

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        if self.beams:
            names = ("samples", "seed", *(f.name for f in fields(Sampling)))
            return dict.fromkeys(names, "beam search takes the most probable text and draws nothing at random")
        if self.temperature == 0:
            return dict.fromkeys(("samples", "seed"), "temperature = 0 draws nothing at random")
        return {}


def continuations(trained: Trained, prompt: str, options: SampleConfig) -> Iterator[str]:
    """The text in pieces, as it is generated; a line of dashes between two continuations."""
    tokenizer, device = trained.tokenizer, trained.device
    ids = prompt_ids(tokenizer, prompt)
    check_stops(tokenizer, options.stop)
    if options.beams:
        stops, ends = tokenizer.stops, written_ends(tokenizer, options.stop)
        [[best, *_]] = beam_search(
            trained.model, [ids], options.tokens, options.beams, eos=stops, ends=ends, device=device
        )
        yield from decoded(tokenizer, ids, iter(best.tokens), options.stop)
        return
    for seed in range(options.seed, options.seed + options.samples):
        if seed > options.seed:
            yield "\n" + "-" * 40 + "\n"
        steps = generate(
            trained.model, [ids], options.tokens, options, seeds=[seed], stop=tokenizer.stops, device=device
        )
        yield from decoded(tokenizer, ids, (int(step) for step in steps), options.stop)


def decoded(tokenizer: Tokenizer, prompt: list[int], tokens: Iterator[int], stops: Sequence[str] = ()) -> Iterator[str]:
    """The prompt, then what every token adds, in whole characters, up to the first stop.

    Tokens that begin or end a text are left out, as are those beyond the tokenizer's vocabulary, which have no text.
    """
    decode, shown = StreamingDecoder(tokenizer), shown_tokens(tokenizer)
    yield "".join(decode(token) for token in prompt if shown(token))

    def added() -> Iterator[str]:
        yield from (decode(token) for token in tokens if shown(token))
        yield decode.finish()

    yield from until(added(), stops)


def shown_tokens(tokenizer: Tokenizer) -> Callable[[int], bool]:
    """Whether a token is text that is shown."""
    hidden = {STOPPED, tokenizer.bos, tokenizer.eos, *tokenizer.stops}
    return lambda token: token not in hidden and token < tokenizer.vocab_size


def until(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a text up to the first of the stops in it, which ends it."""
    before = ""  # of the text so far, what may begin a stop
    for piece in pieces:
        text = before + piece
        if ends := [place + len(stop) for stop in stops if (place := text.find(stop)) >= 0]:
            yield text[len(before) : min(ends)]
            return
        yield piece
        before = text[-max(map(len, stops)) :] if stops else ""


def written_ends(tokenizer: Tokenizer, stops: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
    """Whether the last of some tokens completes one of the stops, if there are any."""
    marks, shown = [stop.encode() for stop in stops], shown_tokens(tokenizer)

    def ends(tokens: Sequence[int]) -> bool:
        tail, needed = b"", 0
        for token in filter(shown, reversed(tokens)):
            tail = tokenizer.piece(token) + tail
            needed = needed or len(tail) + max(map(len, marks))
            if len(tail) >= needed:
                break
        return any(mark in tail for mark in marks)

    return ends if marks else None


def check_stops(tokenizer: Tokenizer, stops: Sequence[str]) -> None:
    """Raises ValueError for a stop that the vocabulary cannot write; mentions one that was probably meant otherwise."""
    for stop in stops:
        try:
            tokenizer.encode(stop)
        except UnknownCharacterError as error:
            raise ValueError(f"stop = {stop!r} is never written: {error}") from error
        if "\\n" in stop:
            notice(f"stop = {stop!r} holds a backslash and an n; a shell writes a line end as $'\\n'")


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Ids of a prompt; of an empty one, the token that begins or ends texts, or a newline, or else token 0.

    Raises ValueError naming a character that is not in the vocabulary, and its position.
    """
    start = [] if tokenizer.bos is None else [tokenizer.bos]
    ids = start + tokenizer.encode(prompt).tolist()
    if ids:
        return ids
    if tokenizer.eos is not None:
        return [tokenizer.eos]
    try:
        return tokenizer.encode("\n").tolist()
    except UnknownCharacterError:
        return [0]


def sample(argv: list[str]) -> None:
    """The command."""
    name, rest = run_folder(argv, "text.sample")
    options = parse_fields(SampleConfig(), rest, prog="python -m text.sample DIR", description=DESCRIPTION)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may not have every character
    device = device_kind(options.device)
    trained = load_any(str(name), options.checkpoint, device)
    if not isinstance(trained.config, LanguageModellingConfig):
        raise ValueError(f"DIR holds a model for {trained.config.task}, not one that continues texts")
    if resolve_precision(options.precision, device) == "bf16":
        trained.model.bfloat16()  # once; autocast would convert every weight for every token
    if options.prompt is None and sys.stdin.isatty():
        invitation = "Type the beginning of a text, or nothing. Ctrl-C stops the model,"
        return converse(invitation, lambda prompt: continuations(trained, prompt, options))
    print_pieces(continuations(trained, options.prompt if options.prompt is not None else sys.stdin.read(), options))


if __name__ == "__main__":
    main(lambda: sample(sys.argv[1:]))
