"""Generate text with a trained model.

    python -m text.sample DIR --prompt P [--tokens N] [--temperature T] ...

DIR is a run folder, or a public model: a folder in Hugging Face's layout, or its name on the hub. Without --prompt it
asks for prompts on a terminal; elsewhere the prompt is read from standard input.
"""

import contextlib
import sys
from collections.abc import Iterator
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
from text.pretrained.start import is_run
from text.tokens.base import StreamingDecoder, Tokenizer, UnknownCharacterError
from text.trained import Trained, load, load_public


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
    stop: str = field(default="", metadata={TEXT: True})
    """Stop at this text, which must be a single token; the tokenizer's end of text always stops."""
    checkpoint: str = "best"
    """best, last, last-good, or a step."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "tokens", "samples")
        check_at_least(self, 0, "beams")

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
    stops = tokenizer.encode(options.stop).tolist()
    if len(stops) > 1:
        raise ValueError(f"stop = {options.stop!r} is {len(stops)} tokens, not one")
    stops += tokenizer.stops
    if options.beams:
        end = stops[0] if stops else None
        [[best, *_]] = beam_search(trained.model, [ids], options.tokens, options.beams, eos=end, device=device)
        yield from decoded(tokenizer, ids, iter(best.tokens))
        return
    for seed in range(options.seed, options.seed + options.samples):
        if seed > options.seed:
            yield "\n" + "-" * 40 + "\n"
        steps = generate(trained.model, [ids], options.tokens, options, seeds=[seed], stop=stops, device=device)
        yield from decoded(tokenizer, ids, (int(step) for step in steps))


def decoded(tokenizer: Tokenizer, prompt: list[int], tokens: Iterator[int]) -> Iterator[str]:
    """The prompt, then what every token adds, in whole characters.

    Tokens that begin or end a text are left out, as are those beyond the tokenizer's vocabulary, which have no text.
    """
    decode, hidden = StreamingDecoder(tokenizer), (STOPPED, tokenizer.bos, tokenizer.eos, *tokenizer.stops)
    yield "".join(decode(token) for token in prompt if token not in hidden)
    for token in tokens:
        if token not in hidden and token < tokenizer.vocab_size:
            yield decode(token)
    yield decode.finish()


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


def print_pieces(pieces: Iterator[str]) -> None:
    """Prints pieces of text as they arrive."""
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def converse(trained: Trained, options: SampleConfig) -> None:
    """Asks for prompts on a terminal until the end of input; after a bad one it says what is wrong and asks again."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history for `input`)
    print("Type the beginning of a text, or nothing. Ctrl-C stops the model, Ctrl-D quits.", file=sys.stderr)
    while True:
        try:
            prompt = input("> ")
        except EOFError:
            print()
            return
        try:
            print_pieces(continuations(trained, prompt, options))
        except KeyboardInterrupt:
            print()
        except ValueError as error:
            print(error, file=sys.stderr)


def sample(argv: list[str]) -> None:
    """The command."""
    folder, rest = run_folder(argv, "text.sample")
    options = parse_fields(SampleConfig(), rest, prog="python -m text.sample DIR", description="Generates text.")
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may not have every character
    device = device_kind(options.device)
    trained = load(folder, options.checkpoint, device) if is_run(folder) else load_public(str(folder), device)
    if resolve_precision(options.precision, device) == "bf16":
        trained.model.bfloat16()  # once; autocast would convert every weight for every token
    if options.prompt is None and sys.stdin.isatty():
        return converse(trained, options)
    print_pieces(continuations(trained, options.prompt if options.prompt is not None else sys.stdin.read(), options))


if __name__ == "__main__":
    main(lambda: sample(sys.argv[1:]))
