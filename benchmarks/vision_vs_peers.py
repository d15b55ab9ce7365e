"""Against timm, vit-pytorch and torchvision, side by side on a CPU: a training step, and an epoch with its data.

python -m benchmarks.vision_vs_peers [--parts step,epoch] [--rounds N] [--threads N]

- step: forward, cross-entropy, backward, clipping and fused AdamW of a Vision Transformer (32 pixels, patches of 4,
  192 wide, 6 blocks, 3 heads, mean pooling) on one batch of 128 random images; eager and compiled, in float32 and by
  autocast in bfloat16. One loop for all, so that only the models differ; `ours` is timm's block with learned positions,
  `ours, modern` the block of our presets, `ours in vision.train` the first one with all that `Run` does around a step.
- epoch: CIFAR-10 cropped, flipped, changed by two operations of RandAugment, normalised, partly erased, and batched:
  our uint8 tensors varied a batch at a time against a torchvision dataset, transforms and DataLoader; the data alone,
  and with the same training step of a small model behind both.

The last row of each table is the peer that is fastest by it, by which the others are divided. A peer that is not
installed (pip install -e .[peers]) is left out. Each comparison replaces its own figures in
benchmarks/results/vision_vs_peers.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

from benchmarks.measure.harness import Comparison, Contestant, compare
from benchmarks.measure.options import check_known, integers, names, parser_of
from benchmarks.measure.parts import Measured, Part, add_parts, measured, pace
from benchmarks.measure.record import update
from benchmarks.peers.vision import PACKAGES, installed
from core.cli.exits import main

NAME = "vision_vs_peers"
STEP, EPOCH = "benchmarks.steps.vision:train_step", "benchmarks.steps.vision_epoch:epoch"
WAYS = {
    "eager-fp32": ("off", "fp32"),
    "eager-bf16": ("off", "bf16"),
    "compiled-fp32": ("default", "fp32"),
    "compiled-bf16": ("default", "bf16"),
}


# ---------------------------------------------------------------------------------------------- comparisons


def compare_steps(options: argparse.Namespace) -> Measured:
    """Eager and compiled, in float32 and bfloat16; with each comparison the names of the peers in it."""
    plain, modern = ("tiny", "tiny-modern") if options.tiny else ("plain", "modern")
    for way in options.ways:
        compiled, precision = WAYS[way]
        work = {"shape": plain, "batch": options.batch, "compiled": compiled, "precision": precision}
        work["steps"] = options.steps
        sides = [
            Contestant("ours", STEP, {"side": "ours", **work}),
            Contestant("ours, modern", STEP, {"side": "ours", **work, "shape": modern}),
            Contestant("ours in vision.train", f"{STEP}_in_run", work),
            *(Contestant(peer, STEP, {"side": peer, **work}) for peer in options.peers),
        ]
        yield compare(f"step {way}", sides, **pace(options)), {"peers": options.peers}


def compare_epochs(options: argparse.Namespace) -> Measured:
    """The data alone, then with a model that learns; with each comparison the names of the peers in it."""
    loaders = {f"torchvision, {n} workers": n for n in options.workers}
    for shape in ("none", "tiny" if options.tiny else "small"):
        work = {"images": options.images, "batch": options.batch, "shape": shape}
        theirs = {"side": "torchvision", **work}
        sides = [
            Contestant("ours", EPOCH, {"side": "ours", **work}),
            *(Contestant(name, EPOCH, {**theirs, "workers": n}) for name, n in loaders.items()),
        ]
        kind = "data alone" if shape == "none" else "with a training step"
        yield compare(f"epoch, {kind}", sides, **pace(options)), {"peers": list(loaders)}


def against_fastest(comparison: Comparison, peers: Sequence[str], metric: str) -> Comparison:
    """The comparison with its fastest peer by a metric in the last row, by which all others are divided."""
    if not peers:
        return comparison
    fastest = max(peers, key=lambda peer: comparison.spread(peer, metric).median)
    return replace(comparison, contestants=tuple(sorted(comparison.contestants, key=lambda side: side.name == fastest)))


CORE, WALL = "images_per_core_second", "images_per_second"
PARTS = {"step": Part(compare_steps, 5, (CORE, "growth_bytes")), "epoch": Part(compare_epochs, 3, (CORE,))}


# ---------------------------------------------------------------------------------------------- the command


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; ValueError for a part, peer or way that is none."""
    parser = parser_of(NAME, __doc__)
    add_parts(parser, PARTS)
    parser.add_argument("--batch", type=int, default=128, help="images of a step")
    parser.add_argument("--steps", type=int, default=10, help="step: measured in each process")
    parser.add_argument("--peers", type=names, default=list(PACKAGES), help="step: of timm,vit-pytorch")
    parser.add_argument("--ways", type=names, default=list(WAYS), help=f"step: of {','.join(WAYS)}")
    parser.add_argument("--images", type=int, default=5120, help="epoch: images in it")
    parser.add_argument("--workers", type=integers, default=[0, 2], help="epoch: of the DataLoader, each in turn")
    parser.add_argument("--tiny", action="store_true", help="models of 32 channels and 2 blocks, to try")
    options = parser.parse_args(argv)
    check_known(options, parts=PARTS, peers=PACKAGES, ways=WAYS)
    return options


def run(options: argparse.Namespace) -> None:
    """Every part asked for, printed and saved as soon as it is measured."""
    options.peers = present(options.peers)
    versions = {peer: version(peer) for peer in options.peers}
    for part, comparison, more in measured(PARTS, options):
        core, wall = (against_fastest(comparison, more["peers"], metric) for metric in (CORE, WALL))
        tables = core.table(*part.shown), wall.table(WALL)
        print(f"\n## {comparison.name}, {options.threads} thread(s)", *tables, sep="\n\n", flush=True)
        update(
            NAME, {comparison.name: {"peer_versions": versions, **wall.as_dict(), **core.as_dict()}}, options.results
        )
    print(f"saved to {options.results / NAME}.json")


def present(peers: Sequence[str]) -> list[str]:
    """Those that are installed; the others are named in a notice."""
    for absent in set(peers) - set(installed()):
        print(f"notice: {absent} is not installed and is left out: pip install -e .[peers]", file=sys.stderr)
    return [peer for peer in peers if peer in installed()]


if __name__ == "__main__":
    main(lambda: run(parse()))
