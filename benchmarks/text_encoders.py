"""Against sentence-transformers and transformers on a CPU: vectors of texts, and a training step of an encoder.

python -m benchmarks.text_encoders [--model FOLDER] [--parts encode,step] [--rounds N] [--threads N]

- encode: texts of random words, of log-normal lengths (median 24 words, at most 250), by the weights in FOLDER, those
  of all-MiniLM-L6-v2 for example; without it by random weights in that shape. sentence-transformers with its defaults,
  which sorts by characters and pads 32 at a time; where it is not installed, the same loop over transformers' model.
  Ours also with weights in bfloat16. `difference` is the largest between numbers of the vectors in float32.
- step: forward, mean cross-entropy of the 15 % of the tokens that are hidden, backward, clipping and fused AdamW of
  masked language models 256 wide, of 4 blocks, in BERT's and in ModernBERT's layout, on one batch of windows of 128
  tokens, from the same weights, in float32 and by autocast in bfloat16.

Each comparison replaces its own figures in benchmarks/results/text_encoders.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measure.harness import Contestant, compare
from benchmarks.measure.options import check_known, names, parser_of
from benchmarks.measure.parts import Measured, Part, add_parts, pace, run_parts
from benchmarks.peers.sentence_encoding import installed
from benchmarks.steps.encoding import random_model
from core.cli.exits import main

NAME = "text_encoders"
ENCODE, STEP = "benchmarks.steps.encoding:encode", "benchmarks.steps.text_models:train_step"


# ---------------------------------------------------------------------------------------------- comparisons


def compare_encoding(options: argparse.Namespace) -> Measured:
    """Ours in float32 and bfloat16, theirs in float32."""
    peer = "sentence-transformers" if installed() else "its loop"
    with TemporaryDirectory() as parent:
        folder = options.model or Path(parent) / "model"
        if options.model is None:
            random_model(folder, options.tiny, seed=0)
        sides = [
            Contestant(
                name,
                ENCODE,
                {
                    "side": side,
                    "folder": str(folder),
                    "texts": options.texts,
                    "precision": precision,
                    "result": str(Path(parent) / f"{side}-{precision}.npy"),
                },
            )
            for name, side, precision in (
                ("ours, bf16", "ours", "bf16"),
                ("ours", "ours", "fp32"),
                (peer, "theirs", "fp32"),
            )
        ]
        measured = compare("encode", sides, **pace(options))
        ours, theirs = (np.load(Path(parent) / f"{side}-fp32.npy") for side in ("ours", "theirs"))
        yield measured, {"difference": float(np.abs(ours - theirs).max())}


def compare_steps(options: argparse.Namespace) -> Measured:
    """Each family in float32 and in bfloat16."""
    for family in options.families:
        for precision in options.precisions:
            work = {"family": family, "rows": options.batch, "precision": precision, "steps": options.steps}
            sides = [
                Contestant(side, STEP, {"side": side, **work, "tiny": options.tiny})
                for side in ("ours", "transformers")
            ]
            yield compare(f"step {family} {precision}", sides, **pace(options)), {}


PARTS = {
    "encode": Part(compare_encoding, 3, ("encoding_core_seconds", "texts_per_core_second")),
    "step": Part(compare_steps, 5, ("step_core_seconds", "tokens_per_core_second", "first_loss")),
}


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a part, family or precision that is none, or a folder without a vocabulary."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--model", type=Path, help="encode: a folder in sentence-transformers' layout")
    add_parts(parser, PARTS)
    parser.add_argument("--texts", type=int, default=256, help="encode")
    parser.add_argument("--families", type=names, default=["bert", "modernbert"], help="step: of bert,modernbert")
    parser.add_argument("--precisions", type=names, default=["fp32", "bf16"], help="step: of fp32,bf16")
    parser.add_argument("--batch", type=int, default=32, help="step: windows")
    parser.add_argument("--steps", type=int, default=10, help="step: measured in each process")
    parser.add_argument("--tiny", action="store_true", help="models of 32 channels and 2 blocks, to try")
    options = parser.parse_args(argv)
    check_known(options, parts=PARTS, families=("bert", "modernbert"), precisions=("fp32", "bf16"))
    if options.model is not None and not (options.model / "vocab.txt").is_file():
        raise ValueError(f"model = {str(options.model)!r} holds no vocab.txt")
    return options


if __name__ == "__main__":
    main(lambda: run_parts(NAME, PARTS, parse()))
