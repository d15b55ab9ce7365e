"""What the tokens of a text attend to, in every layer and head, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from core.attention import record_attention
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.files.figures import INK, SOFT, blank_figure, save_figure
from text.models.encoder import EncoderModel, Tagger
from text.models.encoder_decoder import Seq2Seq
from text.models.gpt import GPT
from text.tokens.base import Tokenizer
from text.trained import Trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED = 48  # tokens whose names still fit beside a map
SIDE, NAME = 1.7, 0.09  # inches of a map, and of a letter beside it


class Attention(NamedTuple):
    """Who attends to whom.

    queries, keys: tokens as they are written. maps: for each layer (H, queries, keys), rows that sum to one.
    """

    queries: list[str]
    keys: list[str]
    maps: list[Tensor]


@torch.no_grad()
def attention_of(trained: Trained, prompt: str, target: str = "") -> Attention:
    """What a text model attends to while it reads a text; of an encoder-decoder, what its target does in the source.

    target: of an encoder-decoder; default what the model itself writes, the most probable token each time

    Raises ValueError for a text without tokens or longer than the context, a target without effect, and a model
    without such attention.
    """
    model, tokenizer = trained.model, trained.tokenizer
    if isinstance(model, Seq2Seq):
        return cross_attention_of(model, tokenizer, prompt, target)
    if target:
        raise ValueError(f"target = {target!r} has no effect on a {type(model).__name__}, which has no target")
    if isinstance(model, GPT):
        first = [] if tokenizer.bos is None else [tokenizer.bos]
        ids = [*first, *tokenizer.encode(prompt).tolist()]
    elif isinstance(model, EncoderModel) and not (isinstance(model, Tagger) and model.config.words == "early-mean"):
        ids = tokenizer.encode_framed(prompt).ids.tolist()
    else:
        raise ValueError(f"a {type(model).__name__} has no attention among the tokens of a text to show")
    check_length("prompt", len(ids), model.config.context)
    with record_attention(model) as maps:
        model.features(torch.tensor([ids], device=trained.device))
    names = [written(tokenizer, token) for token in ids]
    return Attention(names, names, [weights[0].cpu() for weights in maps.values()])


def cross_attention_of(model: Seq2Seq, tokenizer: Tokenizer, prompt: str, target: str) -> Attention:
    """What the tokens of a target attend to in its source; a row belongs to the token that is written next."""
    config, device = model.config, model.embed.weight.device
    source = [*tokenizer.encode(prompt).tolist(), config.eos]
    check_length("prompt", len(source) if len(source) > 1 else 0, config.context)
    rows = torch.tensor([source], device=device)
    aimed = tokenizer.encode(target).tolist() if target else translated(model, rows)
    check_length("target", len(aimed) + 1, config.context)
    with record_attention(model.decoder) as maps:
        model.features(rows, None, torch.tensor([[config.start, *aimed]], device=device))
    crossed = [weights[0].cpu() for name, weights in maps.items() if "cross_attention" in name]
    special = {config.eos: "(end)"}
    keys, queries = ([special.get(token, written(tokenizer, token)) for token in ids] for ids in (source, aimed))
    return Attention([*queries, "(end)"], keys, crossed)


def translated(model: Seq2Seq, rows: Tensor) -> list[int]:
    """The most probable target of a source (1, N), without its end."""
    most = min(2 * rows.shape[1] + 10, model.config.context - 1)
    settings: dict[str, Any] = {"stop": [model.config.eos], "device": rows.device}
    [found] = complete(model.bind(rows), [[model.config.start]], most, Sampling(temperature=0), **settings)
    return [token for token in found if token not in (model.config.start, model.config.eos)]


def check_length(name: str, tokens: int, context: int) -> None:
    """Raise ValueError for a text of no tokens, or of more than the context."""
    if not 1 <= tokens <= context:
        raise ValueError(f"{name} of {tokens} tokens must have at least 1 and at most the context of {context}")


def written(tokenizer: Tokenizer, token: int) -> str:
    """A token in print: blanks are visible, and bytes that are no whole character are numbers."""
    piece = tokenizer.piece(token)
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return piece.hex(" ").upper()
    return text.replace(" ", "\u2423").replace("\n", "\u21b5").replace("\t", "\u21e5").replace("$", r"\$")


def draw_attention(attention: Attention, file: Path) -> None:
    """A row for each layer, a column for each head: rows of a map attend to its columns; PNG, whole or not at all."""
    layers, heads = len(attention.maps), attention.maps[0].shape[0]
    side = max(SIDE, 0.13 * max(len(attention.queries), len(attention.keys)) * (len(attention.keys) <= NAMED))
    margins = [NAME * max(map(len, names)) for names in (attention.queries, attention.keys)]
    figure = blank_figure(heads * (side + 0.15) + 0.6 + margins[0], layers * (side + 0.3) + 0.4 + margins[1])
    grid = figure.subplots(layers, heads, squeeze=False)
    for layer, (row, weights) in enumerate(zip(grid, attention.maps, strict=True)):
        for head, axes in enumerate(row):
            draw_map(axes, weights[head])
            axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=7.5, color=SOFT, pad=3)
        name_ticks(row[0], "y", attention.queries)
    for axes in grid[-1]:
        name_ticks(axes, "x", attention.keys)
    save_figure(figure, file)


def draw_map(axes: Axes, weights: Tensor) -> None:
    """One map (queries, keys); the root of a share shows small ones too."""
    from matplotlib.colors import PowerNorm

    axes.imshow(weights.numpy(), cmap="cividis", norm=PowerNorm(0.5, 0, 1), aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def name_ticks(axes: Axes, side: str, names: Sequence[str]) -> None:
    """The names of tokens along a side, if there are not too many."""
    if len(names) > NAMED:
        return
    turn: dict[str, Any] = {"rotation": 90} if side == "x" else {}
    set_ticks = axes.set_xticks if side == "x" else axes.set_yticks
    set_ticks(range(len(names)), names, fontsize=6.5, color=INK, **turn)
    axes.tick_params(length=0, pad=2)
