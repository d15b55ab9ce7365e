"""Against facebookresearch/DiT on a CPU: a training step of the blocks that draw, from the same weights.

python -m benchmarks.vision_generation --dit PATH [--rounds N] [--threads N]

PATH is a clone of facebookresearch/DiT. Six blocks 128 wide with 4 heads, modulated by a condition, over batches of 49
tokens, as `flow-mnist` has: forward, squared error, backward, clipping and fused AdamW, eager, in float32 and by
autocast in bfloat16. `ours` is DiT's block built of the core, with its weights (first_loss shows that it computes the
same); `ours, modern` is the block of our presets. What the models that are trained draw is measured by
`vision.evaluate`.

The figures are saved in benchmarks/results/vision_generation.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure.harness import Contestant, compare
from benchmarks.measure.options import check_known, names, parser_of
from benchmarks.measure.parts import Measured, Part, add_parts, pace, run_parts
from benchmarks.peers.dit import imported
from core.cli.exits import main

NAME = "vision_generation"
STEP = "benchmarks.steps.drawing:train_step"


def compare_steps(options: argparse.Namespace) -> Measured:
    """Each precision by itself."""
    for precision in options.precisions:
        work = {
            "clone": str(options.dit),
            "batch": options.batch,
            "tokens": options.tokens,
            "precision": precision,
            "steps": options.steps,
            "tiny": options.tiny,
        }
        sides = [
            Contestant(name, STEP, {"side": side, "shape": shape, **work})
            for name, side, shape in (
                ("ours", "ours", "dit"),
                ("ours, modern", "ours", "modern"),
                ("DiT", "theirs", "dit"),
            )
        ]
        yield compare(f"step {precision}", sides, **pace(options)), {}


PARTS = {"step": Part(compare_steps, 5, ("step_core_seconds", "images_per_core_second", "first_loss"))}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a part or precision that is none, or a folder that is no clone."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--dit", type=Path, required=True, help="a clone of facebookresearch/DiT")
    add_parts(parser, PARTS)
    parser.add_argument("--precisions", type=names, default=["fp32", "bf16"], help="of fp32,bf16")
    parser.add_argument("--batch", type=int, default=64, help="images of a step")
    parser.add_argument("--tokens", type=int, default=49, help="of an image")
    parser.add_argument("--steps", type=int, default=10, help="measured in each process")
    parser.add_argument("--tiny", action="store_true", help="blocks of 32 channels, to try")
    options = parser.parse_args(argv)
    check_known(options, parts=PARTS, precisions=("fp32", "bf16"))
    imported(options.dit)
    return options


if __name__ == "__main__":
    main(lambda: run_parts(NAME, PARTS, parse()))
