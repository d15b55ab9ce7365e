"""Which tokens of a sentence those of its translation attend to, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.files.figures import blank_figure, save_figure
from text.corpus.sequences import encode_all
from text.using.translator import Translator

CELL = 0.32  # inches of a token


def draw_alignments(translator: Translator, pairs: Sequence[tuple[str, str]], file: Path) -> None:
    """One panel a pair of a sentence and its translation: rows are the tokens of the translation, columns its source's.

    Raises ValueError for no pairs.
    """
    if not pairs:
        raise ValueError("alignment: there is no translation to draw")
    tokenizer, eos = translator.tokenizer, translator.ids.eos
    rows = [encode_all(tokenizer, [*pair], after=[eos]) for pair in pairs]
    sizes = [(len(each[1]), len(each[0])) for each in rows]
    width = max(size[1] for size in sizes) * CELL + 2.0
    heights = [size[0] * CELL + 1.4 for size in sizes]
    figure = blank_figure(width, sum(heights))
    axes = np.atleast_1d(figure.subplots(len(pairs), 1, height_ratios=heights))
    for axis, each in zip(axes, rows, strict=True):
        source, target = each[0].tolist(), each[1].tolist()
        axis.imshow(translator.alignment(source, target).float().cpu().numpy(), cmap="viridis", vmin=0, vmax=1)
        axis.set_xticks(range(len(source)), [written(translator, token) for token in source], rotation=60, ha="right")
        axis.set_yticks(range(len(target)), [written(translator, token) for token in target])
    save_figure(figure, file)


def written(translator: Translator, token: int) -> str:
    """A token as it is written; the end of a sentence as a mark."""
    if token == translator.ids.eos:
        return "(end)"
    return translator.tokenizer.piece(token).decode("utf-8", "replace").replace("$", r"\$")
