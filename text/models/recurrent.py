"""What came before the Transformer: recurrent networks, and a language model made of one.

Initial weights, by `init`:

| weights                             | uniform        | orthogonal                                  |
| ----------------------------------- | -------------- | ------------------------------------------- |
| from one state to the next, a gate  | U(-0.08, 0.08) | orthogonal (Saxe 2014)                      |
| other linear maps                   | U(-0.08, 0.08) | U(-a, a), a² = 6 / (in + out) (Glorot 2010) |
| embeddings, head                    | U(-0.08, 0.08) | N(0, 0.2)                                   |
| biases                              | U(-0.08, 0.08) | 0; 1 for the forget gates of an LSTM        |

uniform is Sutskever 2014, 3.4; forget gates that start open are from Gers 2000 and Jozefowicz 2015, 2.2. A tied head
learns faster from embeddings of 0.2 than from smaller ones.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from core.checks import check_at_least, check_between, check_choices, check_positive
from core.transformer import EVERY, LAST
from core.vocabulary import VocabularyHead

Hidden = tuple[Tensor, ...]
"""What a network remembers, rows at axis 1: (h, c) of an LSTM or (h,) of a GRU, each (depth, B, D), perhaps more."""
Turn = Callable[[Tensor, Hidden], tuple[tuple[Tensor, ...], Hidden]]
"""One time step: (x (B, C), hidden) -> outputs, each (B, ...), and what is remembered then."""
CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}
UNIFORM, EMBEDDING = 0.08, 0.2


@dataclass(frozen=True)
class RecurrentConfig:
    """The shape of a recurrent language model."""

    vocab_size: int = 0
    """Number of tokens; 0 = what the tokenizer has."""
    context: int = 256
    """Tokens of a window to train on, at whose start nothing is remembered; what is decoded may be longer."""
    cell: Literal["lstm", "gru"] = "lstm"
    """Long short-term memory (Hochreiter 1997; forget gate, Gers 2000) or gated recurrent unit (Cho 2014)."""
    dim: int = 256
    """Channels of embeddings and of hidden states."""
    depth: int = 1
    """Layers, each reading the hidden states of the one below."""
    dropout: float = 0.0
    """Fraction of the channels of embeddings, between layers and before the output map dropped; none from one time
    step to the next (Zaremba 2014)."""
    head: Literal["tied", "untied"] = "tied"
    """Whether the output map is the embedding's own matrix (Press 2017)."""
    init: Literal["orthogonal", "uniform"] = "orthogonal"
    """How initial weights are drawn: see the table in text/models/recurrent.py."""

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "context", "dim", "depth")
        check_at_least(self, 0, "vocab_size")
        check_between(self, 0.0, 1.0, "dropout")


class Recurrence(nn.Module):
    """Layers of LSTMs or GRUs over tokens of `inputs` channels, which read in one direction or in both.

    In both directions, each has half of the channels, so that hidden states have `config.dim` either way.
    """

    def __init__(self, config: RecurrentConfig, inputs: int, directions: Literal[1, 2] = 1):
        super().__init__()
        self.depth, self.directions = config.depth, directions
        self.dropout = config.dropout if config.depth > 1 else 0.0
        self.layers = CELLS[config.cell](
            inputs,
            config.dim // directions,
            config.depth,
            batch_first=True,
            dropout=self.dropout,
            bidirectional=directions == 2,
        )

    def zeros(self, batch: int) -> Hidden:
        """Nothing remembered: zeros (depth, batch, D)."""
        like, parts = self.layers.weight_hh_l0, 2 if isinstance(self.layers, nn.LSTM) else 1
        return tuple(like.new_zeros(self.depth, batch, like.shape[1]) for _ in range(parts))

    def forward(self, x: Tensor, hidden: Hidden, real: Tensor | None = None) -> tuple[Tensor, Hidden]:
        """Read x (B, T, C) -> the last layer's hidden states (B, T, D), and what is remembered at the end.

        real: bool (B, T), where x is no padding, which leaves what is remembered as it was (default everywhere)
        """
        if real is None and x.shape[1] > 1:
            y, end = self.layers(x, hidden if isinstance(self.layers, nn.LSTM) else hidden[0])
            return y, end if isinstance(end, tuple) else (end,)
        (y,), end = scan(self.turn, x, hidden, real)
        return y, end

    def turn(self, x: Tensor, hidden: Hidden) -> tuple[tuple[Tensor], Hidden]:
        """A single time step, x (B, C) -> ((B, D),) and what is remembered, by the same weights as `forward`."""
        new: list[Hidden] = []
        layers = zip(self.layers.all_weights, *(part.unbind() for part in hidden), strict=True)
        for layer, (weights, *old) in enumerate(layers):
            below = F.dropout(new[-1][0], self.dropout, self.training) if layer else x
            new.append(self._cell(below, old, weights))
        return (new[-1][0],), tuple(torch.stack(parts) for parts in zip(*new, strict=True))  # (depth, B, D) each

    def _cell(self, x: Tensor, hidden: list[Tensor], weights: list[Tensor]) -> Hidden:
        """A layer's step: x (B, C) and its part of what is remembered, (B, D) each, -> what it remembers then."""
        if isinstance(self.layers, nn.LSTM):
            return torch.lstm_cell(x, hidden, *weights)
        return (torch.gru_cell(x, hidden[0], *weights),)

    def encode(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Hidden]:
        """Read rows x (B, N, C), of which the first lengths[b] tokens are real: int64 (B,) on the CPU, at least 1.

        Returns (B, N, D), zeros at padding, and what is remembered at each row's end, both directions side by side.
        """
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, end = self.layers(packed)
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
        return y, tuple(self._side_by_side(part) for part in (end if isinstance(end, tuple) else (end,)))

    def _side_by_side(self, end: Tensor) -> Tensor:
        """(depth directions, B, D / directions) -> (depth, B, D)"""
        return end.unflatten(0, (self.depth, self.directions)).transpose(1, 2).flatten(2)


def scan(turn: Turn, x: Tensor, hidden: Hidden, real: Tensor | None) -> tuple[tuple[Tensor, ...], Hidden]:
    """One turn a token of x (B, T, C): the outputs (B, T, ...), and what is remembered at the end.

    real: bool (B, T), where x is no padding, which leaves what is remembered as it was
    """
    outputs = []
    for t, token in enumerate(x.unbind(1)):
        output, new = turn(token, hidden)
        hidden = new if real is None else _where(real[:, t], new, hidden)
        outputs.append(output)
    return tuple(torch.stack(parts, dim=1) for parts in zip(*outputs, strict=True)), hidden


def _where(rows: Tensor, new: Hidden, old: Hidden) -> Hidden:
    return tuple(torch.where(rows.unsqueeze(-1), n, o) for n, o in zip(new, old, strict=True))


def real_tokens(pads: Tensor | None, start: int, tokens: int) -> Tensor | None:
    """Which of the places from `start` on are no padding, when row b begins with pads[b] pads: bool (B, tokens)."""
    if pads is None:
        return None
    return torch.arange(start, start + tokens, device=pads.device) >= pads.unsqueeze(-1)


class RecurrentState:
    """What a network remembers of the tokens of B rows. A `DecodingState`: its size does not grow with its length."""

    def __init__(self, start: Hidden, capacity: int):
        """start: what is remembered before the first token."""
        self.start, self.hidden = start, start
        self.capacity, self.length = capacity, 0

    def advance(self, hidden: Hidden, tokens: int) -> None:
        """Take what is remembered after `tokens` more tokens. Raises ValueError for more than the capacity."""
        if self.length + tokens > self.capacity:
            raise ValueError(f"state of {self.capacity} places holds {self.length}: no room for {tokens} more tokens")
        self.hidden, self.length = hidden, self.length + tokens

    def reset(self) -> None:
        """Forget everything."""
        self.hidden, self.length = self.start, 0

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was (beams), int64 (B,); rows move among those of one source only."""
        self.hidden = take_rows(self.hidden, rows)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, int64 (B',): fewer, or more where some are repeated."""
        self.start, self.hidden = take_rows(self.start, rows), take_rows(self.hidden, rows)


def take_rows(hidden: Hidden, rows: Tensor) -> Hidden:
    """Some rows of what is remembered, int64 (B',)."""
    return tuple(part[:, rows] for part in hidden)


class RecurrentLM(nn.Module):
    """A recurrent language model (Mikolov 2010; with LSTMs and dropout, Zaremba 2014)."""

    def __init__(self, config: RecurrentConfig):
        super().__init__()
        if not config.vocab_size:
            raise ValueError("vocab_size = 0: set it to the tokenizer's before building the model")
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.drop = nn.Dropout(config.dropout)
        self.rnn = Recurrence(config, config.dim)
        self.head = VocabularyHead(config.dim, config.vocab_size)
        initialise_recurrent(self, config)

    def forward(self, ids: Tensor, pads: Tensor | None = None, state: RecurrentState | None = None) -> Tensor:
        """Logits of each next token: ids (B, T) int64 -> (B, T, V).

        pads:  int64 (B,), how many of a row's first places (those in the state included) are padding
        state: of the tokens before ids
        """
        return self.head(self.features(ids, pads, state))

    def features(
        self, ids: Tensor, pads: Tensor | None = None, state: RecurrentState | None = None, read: slice = EVERY
    ) -> Tensor:
        """Hidden states of the last layer, which the head reads: (B, T) -> (B, T, D), or only the tokens in `read`."""
        batch, tokens = ids.shape
        start, hidden = (0, self.rnn.zeros(batch)) if state is None else (state.length, state.hidden)
        y, hidden = self.rnn(self.drop(self.embed(ids)), hidden, real_tokens(pads, start, tokens))
        if state is not None:
            state.advance(hidden, tokens)
        return self.drop(y[:, read])

    # What decoding needs (core.decoding.window.Decodable)

    @property
    def context(self) -> int:
        """No limit: what is remembered is carried on, whatever the windows to train on."""
        return sys.maxsize

    def new_state(self, batch: int, capacity: int) -> RecurrentState:
        """Nothing remembered."""
        return RecurrentState(self.rnn.zeros(batch), capacity)

    def step(self, ids: Tensor, state: RecurrentState, pads: Tensor | None = None) -> Tensor:
        """Read ids (B, T) on top of the state; the logits (B, V) of what follows the last of them."""
        return self.head(self.features(ids, pads, state, read=LAST)[:, 0])

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`); all layers count as one."""
        return [[self.embed], [self.rnn]]


def initialise_recurrent(model: nn.Module, config: RecurrentConfig) -> None:
    """Draw initial weights as the table above says; `model` has an `embed` and a `head`, which may be tied to it."""
    head = model.get_submodule("head")
    for module in model.modules():
        if config.init == "uniform":
            for p in module.parameters(recurse=False):
                nn.init.uniform_(p, -UNIFORM, UNIFORM)
        elif isinstance(module, nn.LSTM | nn.GRU):
            _draw_recurrent(module)
        elif isinstance(module, nn.Embedding) or module is head:
            nn.init.normal_(cast(Tensor, module.weight), std=EMBEDDING)
        elif isinstance(module, nn.Linear):
            _draw_linear(module)
    if config.head == "tied":
        head.weight = model.get_submodule("embed").weight


def _draw_linear(module: nn.Linear) -> None:
    nn.init.xavier_uniform_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _draw_recurrent(module: nn.LSTM | nn.GRU) -> None:
    """Gate by gate, since torch stacks the matrices of all gates."""
    width = module.hidden_size
    for name, p in module.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(p)
            continue
        for gate in p.data.split(width):
            (nn.init.orthogonal_ if name.startswith("weight_hh") else nn.init.xavier_uniform_)(gate)
    for name, p in module.named_parameters():
        if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
            nn.init.ones_(p.data[width : 2 * width])  # gates are stacked as input, forget, cell, output
