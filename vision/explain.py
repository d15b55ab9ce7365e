"""Show what a model attends to: attention maps of its layers and attention rollout, drawn over the images.

python -m vision.explain DIR IMAGE... --out FILE.png [--layers all|last|1,3] [--head mean|max|N]
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from core.attention import record_attention
from core.cli.arguments import REQUIRED, parse_fields
from core.cli.exits import main
from core.devices import device_kind
from core.training.trained import Weights
from vision.data.inputs import Reader, find_images, run_folder_and_images
from vision.reports.attention_maps import join_heads, on_grid, pooled_attention, pooling_weights, rollout
from vision.reports.explanation_picture import FORMATS, Explanation, write
from vision.trained import Trained, load

MOST = 24
"""Images that fit into one picture."""


@dataclass(frozen=True)
class ExplainConfig:
    """Settings of `vision.explain`."""

    out: Path = field(default=Path(), metadata={REQUIRED: True})
    """The picture to write: .png, .jpg or .pdf; it replaces an earlier one."""
    layers: str = "all"
    """Layers whose attention is shown: all, last, or numbers from 1 on, as in 1,3."""
    head: str = "mean"
    """The mean over the heads, their max, or one of them, from 1 on."""
    skip_bad: bool = False
    """Leave out images that cannot be read, and count them, instead of stopping at the first."""
    checkpoint: str = "best"
    """best, last, last-good, a step, or last-5, the mean of the weights of the last five."""
    weights: Weights = "averaged"
    """Averaged weights, where the run kept them, or raw ones."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run."""


@torch.no_grad()
def explain(trained: Trained, pixels: Tensor, layers: Sequence[int], head: str = "mean") -> Explanation:
    """An image, uint8 (C, H, W), its most probable class, and the attention behind it.

    The maps: for each of `layers` (numbers from 0 on) the attention that a patch gets from the tokens of which the
    answer is made; with attention pooling, the pooling's weights; and the rollout of all layers.
    """
    model, config, preparation = trained.model, trained.model.config, trained.preparation
    image = preparation.resize(pixels[None].to(trained.device), config.image_size)  # (1, C, H, W)
    normal, _ = model.embed.cut(preparation.normalise(image))
    with record_attention(model) as maps:
        features = model.features(normal)  # (1, T, D)
    logits = model.head(model.norm(model.pool(features[:, model.pool.read])))
    probabilities = logits[0].float().softmax(-1)  # (K,)
    attention = [join_heads(weights, head) for weights in maps.values()]  # L x (1, T, T)
    pooling = pooling_weights(model.pool, features)  # (1, T)
    shares = {f"layer {layer + 1}": pooled_attention(attention[layer], pooling) for layer in layers}
    if model.pool.attention is not None:
        shares["pooling"] = pooling
    shares["rollout"] = pooled_attention(rollout(attention), pooling)
    label = int(probabilities.argmax())
    return Explanation(
        image[0, ..., : normal.shape[-1]].cpu(),
        preparation.classes[label],
        float(probabilities[label]),
        {title: on_grid(share, config.learned_tokens, config.grid[0])[0].cpu() for title, share in shares.items()},
        preparation.sound,
    )


def chosen_layers(choice: str, depth: int) -> list[int]:
    """Layer numbers from 0 on for "all", "last" or "1,3". Raises ValueError for another choice."""
    if choice in ("all", "last"):
        return list(range(depth)) if choice == "all" else [depth - 1]
    numbers = [int(word) if word.strip().isdecimal() else 0 for word in choice.split(",")]
    if not all(1 <= number <= depth for number in numbers):
        raise ValueError(f"layers = {choice!r} is not one of: all, last, or numbers from 1 to {depth}, as in 1,{depth}")
    return [number - 1 for number in numbers]


def explain_images(argv: list[str]) -> None:
    """The command. Raises ValueError for bad input, before the picture is touched."""
    folder, words, rest = run_folder_and_images(argv, "vision.explain")
    options = parse_fields(
        ExplainConfig(),
        rest,
        prog="python -m vision.explain DIR IMAGE...",
        description="Shows what a model attends to in images: files, folders of them, or patterns in quotes.",
    )
    if options.out == Path():
        raise ValueError("out is missing: name the picture with --out FILE.png")
    if options.out.suffix.lower() not in FORMATS:
        raise ValueError(f"out = {str(options.out)!r} must be a file that ends in one of: {', '.join(FORMATS)}")
    trained = load(folder, options.checkpoint, device_kind(options.device), options.weights)
    files = find_images(words, options.skip_bad, trained.preparation.layout.media)
    if len(files) > MOST:
        raise ValueError(f"{len(files):,} images do not fit into one picture: {MOST} at most")
    layers = chosen_layers(options.layers, trained.model.config.core.depth)
    images = Reader(trained.preparation, options.skip_bad).read(files)
    explained = [(file, explain(trained, pixels, layers, options.head)) for file, pixels in images]
    write(explained, options.out)
    print(f"wrote {options.out}: {len(explained)} x {len(explained[0][1].maps)} maps")


if __name__ == "__main__":
    main(lambda: explain_images(sys.argv[1:]))
