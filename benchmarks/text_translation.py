"""Against transformers on a CPU: beam search of an encoder-decoder, and a training step, with the same weights.

python -m benchmarks.text_translation [--run DIR] [--parts decode,step] [--rounds N] [--threads N]

- decode: sentences of Multi30k's test_2016 with beams of 5 and, unless --length-penalty says otherwise, no length
  penalty, since the two sides define theirs differently; from DIR, a run of `text.train multi30k`, which transformers
  reads as a MarianMT. Both sides sort by length, allow the same number of tokens and keep freed memory; each has the
  batch that suits it. Weights are float32 or bfloat16 on both sides. `same_hypotheses` is the part of the sentences
  whose best translation is that of transformers in the same precision, token by token; BLEU is that of the sentences.
  Without --run weights and sources are random.
- step: forward, mean cross-entropy, backward, clipping and fused AdamW of the preset multi30k's shape and its equal, a
  MarianMT, on one batch of random sentences of 8 to 24 tokens, in float32 and by autocast in bfloat16, dropout of 0.1.

Each comparison replaces its own figures in benchmarks/results/text_translation.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure.harness import Comparison, Contestant, compare
from benchmarks.measure.options import check_known, names, parser_of
from benchmarks.measure.parts import Measured, Part, add_parts, pace, run_parts
from benchmarks.steps.translating import prepare
from core.cli.exits import main
from core.files.downloads import data_root

NAME = "text_translation"
DECODE, STEP = "benchmarks.steps.translating:translate", "benchmarks.steps.text_models:train_step"
TEST = Path("multi30k") / "test_2016_flickr.en"


# ---------------------------------------------------------------------------------------------- comparisons


def compare_decoding(options: argparse.Namespace) -> Measured:
    """In every precision on both sides; ours in bfloat16 against theirs in float32 can be read off."""
    sentences = test_sentences(options)
    with TemporaryDirectory() as parent:
        folder = Path(parent)
        prepare(folder, options.run, sentences, options.tiny)
        search = {"beams": options.beams, "length_penalty": options.length_penalty, "folder": parent}
        sides = [
            Contestant(
                f"{side}, {precision}",
                DECODE,
                {
                    "side": side,
                    **search,
                    "precision": precision,
                    "rows": rows,
                    "result": str(folder / f"{side}-{precision}.json"),
                },
            )
            for precision in reversed(options.precisions)
            for side, rows in (("ours", options.rows), ("transformers", options.their_rows))
        ]
        measured = compare("decode", sides, **pace(options))
        yield measured, {"times_as_fast": times_as_fast(measured, options), **agreement(folder, options)}


def test_sentences(options: argparse.Namespace) -> list[str]:
    """The first sentences of test_2016, or as many empty ones for a random model. ValueError where there are none."""
    if options.run is None:
        return [""] * options.sentences
    file = data_root() / TEST
    if not file.is_file():
        raise ValueError(f"{file} is missing: TRIPTYCH_DATA names the folder with multi30k")
    return file.read_text(encoding="utf-8").splitlines()[: options.sentences]


def times_as_fast(measured: Comparison, options: argparse.Namespace) -> dict[str, float]:
    """By how much we are faster in core-seconds, both sides in the same precision: medians of the rounds."""
    ratios = {
        precision: measured.ratio(f"transformers, {precision}", f"ours, {precision}", "decoding_core_seconds")
        for precision in options.precisions
    }
    return {precision: ratio.median for precision, ratio in ratios.items() if ratio}


def agreement(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Which part of our hypotheses are those of transformers in the same precision; BLEU of all sides of a run."""
    found = {
        f"{side}, {precision}": json.loads((folder / f"{side}-{precision}.json").read_text())
        for precision in options.precisions
        for side in ("ours", "transformers")
    }
    pairs = {p: zip(found[f"ours, {p}"], found[f"transformers, {p}"], strict=True) for p in options.precisions}
    same = {precision: sum(a == b for a, b in pair) / options.sentences for precision, pair in pairs.items()}
    return {"same_hypotheses": same, **({"bleu_cased": bleu(found, options)} if options.run is not None else {})}


def bleu(found: Mapping[str, Sequence[Sequence[int]]], options: argparse.Namespace) -> dict[str, float]:
    """Of the hypotheses of every side."""
    from text.reports.bleu import cased
    from text.trained import load

    trained = load(options.run)
    special = {trained.config.model.pad, trained.config.model.start, trained.config.model.eos}
    file = (data_root() / TEST).with_suffix(".de")
    references = file.read_text(encoding="utf-8").splitlines()[: options.sentences]
    texts = {
        side: [trained.tokenizer.decode([i for i in row if i not in special]).strip() for row in rows]
        for side, rows in found.items()
    }
    return {side: cased(lines, references).score for side, lines in texts.items()}


def compare_steps(options: argparse.Namespace) -> Measured:
    """In float32 and in bfloat16."""
    for precision in options.precisions:
        work = {"family": "marian", "rows": options.batch, "precision": precision, "steps": options.steps}
        sides = [
            Contestant(side, STEP, {"side": side, **work, "tiny": options.tiny}) for side in ("ours", "transformers")
        ]
        yield compare(f"step {precision}", sides, **pace(options)), {}


PARTS = {
    "decode": Part(compare_decoding, 3, ("decoding_core_seconds", "sentences_per_core_second", "tokens")),
    "step": Part(compare_steps, 5, ("step_core_seconds", "tokens_per_core_second", "first_loss")),
}


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a part or precision that is none."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--run", type=Path, help="decode: a run of text.train multi30k; default random weights")
    add_parts(parser, PARTS)
    parser.add_argument("--precisions", type=names, default=["fp32", "bf16"], help="of fp32,bf16")
    parser.add_argument("--sentences", type=int, default=1000, help="decode")
    parser.add_argument("--beams", type=int, default=5, help="decode")
    parser.add_argument("--length-penalty", type=float, default=0.0, help="decode: each side's own")
    parser.add_argument("--rows", type=int, default=100, help="decode: sentences that we translate at once")
    parser.add_argument("--their-rows", type=int, default=50, help="decode: sentences that transformers does")
    parser.add_argument("--batch", type=int, default=128, help="step: pairs")
    parser.add_argument("--steps", type=int, default=10, help="step: measured in each process")
    parser.add_argument("--tiny", action="store_true", help="models of 32 channels and 2 blocks, to try")
    options = parser.parse_args(argv)
    check_known(options, parts=PARTS, precisions=("fp32", "bf16"))
    return options


if __name__ == "__main__":
    main(lambda: run_parts(NAME, PARTS, parse()))
