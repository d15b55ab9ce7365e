"""Recurrent models from one sequence to another: by a single vector, or with the attention that came of its limits."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from core.checks import check_at_least, refuse_unused
from core.decoding.cache import sources_of
from core.vocabulary import VocabularyHead
from text.models.recurrent import (
    Hidden,
    Recurrence,
    RecurrentConfig,
    RecurrentState,
    initialise_recurrent,
    real_tokens,
    scan,
    take_rows,
)


@dataclass(frozen=True)
class RecurrentSeq2SeqConfig(RecurrentConfig):
    """The shape of a recurrent encoder-decoder whose source and target share one vocabulary."""

    context: int = 256
    """The most tokens of a source, and of a target."""
    attention: Literal["none", "additive", "dot", "general"] = "additive"
    """none: the encoder's last state alone starts the decoder (Sutskever 2014). additive: before each step, from the
    decoder's last state s to the encoder's h, v tanh(W s + U h) (Bahdanau 2015). dot, general: after each step, from
    the new state, s h or s W h (Luong 2015)."""
    encoder: Literal["forward", "reversed", "bidirectional"] = "bidirectional"
    """How the source is read: its first token first, its last token first (Sutskever 2014, 3.3), or both, each by half
    of the channels (Bahdanau 2015)."""
    input_feeding: Literal["none", "attentional"] = "none"
    """Whether a step also reads the last attentional vector (Luong 2015, 3.3)."""
    start: int = 0
    """Id that a target begins with, before its first token."""
    eos: int = 0
    """Id that ends a target."""
    pad: int = 0
    """Id that fills up rows; it is never read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 0, "start", "eos", "pad")
        for name in ("start", "eos", "pad") if self.vocab_size else ():
            if getattr(self, name) >= self.vocab_size:
                raise ValueError(f"{name} = {getattr(self, name)} must be below vocab_size = {self.vocab_size}")
        if self.encoder == "bidirectional" and self.dim % 2:
            raise ValueError(f"dim = {self.dim} must be even with encoder = 'bidirectional': half of it reads each way")
        refuse_unused(self)

    def unused(self) -> dict[str, str]:
        """Fields without effect under this configuration, each with the reason."""
        reason = {"none": "there is no attention", "additive": "each step reads the context"}.get(self.attention)
        return {"input_feeding": f"with attention = {self.attention!r} {reason}"} if reason else {}


SUTSKEVER_2014 = RecurrentSeq2SeqConfig(dim=1000, depth=4, attention="none", encoder="reversed", init="uniform")
BAHDANAU_2015 = RecurrentSeq2SeqConfig(cell="gru", dim=1000, attention="additive", encoder="bidirectional")
LUONG_2015 = RecurrentSeq2SeqConfig(
    dim=1000, depth=4, dropout=0.2, attention="general", encoder="reversed", input_feeding="attentional"
)


class Memory(NamedTuple):
    """S sources of N tokens that have been encoded."""

    values: Tensor  # (S, N, D): the encoder's hidden states, in the order of the source
    keys: Tensor  # (S, N, D): all of the scores that depends on the source alone
    padding: Tensor  # bool (S, 1, N)
    end: Hidden  # what the encoder remembers at the end, (depth, S, D) each

    def rows_each(self, batch: int) -> int:
        """How many of `batch` rows share a source. Raises ValueError where sources do not divide them."""
        sources = self.values.shape[0]
        if batch % sources:
            raise ValueError(f"memory of {sources} sources must divide the {batch} rows of tokens")
        return batch // sources

    def keep(self, sources: Tensor) -> "Memory":
        """Some of the sources, int64 (S',)."""
        return Memory(self.values[sources], self.keys[sources], self.padding[sources], take_rows(self.end, sources))


class DotAttention(nn.Module):
    """A mean of the encoder's hidden states h, weighted by exp(s h) or exp(s W h) (Luong 2015, eq. 7-8)."""

    def __init__(self, config: RecurrentSeq2SeqConfig):
        super().__init__()
        general = config.attention == "general"
        self.key = nn.Linear(config.dim, config.dim, bias=False) if general else nn.Identity()

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """queries (B, T, D) -> contexts (B, T, D) and weights (B, T, N), zero at padding."""
        each, tokens = memory.rows_each(queries.shape[0]), queries.shape[1]
        shared = queries.unflatten(0, (-1, each)).flatten(1, 2)  # (S, B/S T, D)
        weights = self.scores(shared, memory.keys).masked_fill(memory.padding, -torch.inf).softmax(-1)  # (S, B/S T, N)
        contexts = (weights @ memory.values).unflatten(1, (each, tokens)).flatten(0, 1)  # (B, T, D)
        return contexts, weights.unflatten(1, (each, tokens)).flatten(0, 1)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """queries (S, Q, D), keys (S, N, D) -> (S, Q, N)"""
        return queries @ keys.transpose(1, 2)


class AdditiveAttention(DotAttention):
    """The same mean, weighted by exp(v tanh(W s + U h)) (Bahdanau 2015, eq. 5-6, A.1.2), a bias beside U."""

    def __init__(self, config: RecurrentSeq2SeqConfig):
        super().__init__(config)
        self.key = nn.Linear(config.dim, config.dim)
        self.query = nn.Linear(config.dim, config.dim, bias=False)
        self.score = nn.Linear(config.dim, 1, bias=False)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        sums = self.query(queries).unsqueeze(2) + keys.unsqueeze(1)  # (S, Q, N, D)
        return self.score(sums.tanh()).squeeze(-1)


Decoded = tuple[Tensor, Tensor | None, Hidden]
"""Features (B, T, D), weights of attention (B, T, N) if there is any, and what is remembered at the end."""


class Decoder(nn.Module):
    """A recurrent decoder without attention (Sutskever 2014)."""

    def __init__(self, config: RecurrentSeq2SeqConfig, inputs: int):
        super().__init__()
        self.rnn = Recurrence(config, inputs)

    def keys(self, values: Tensor) -> Tensor:
        """Of the encoder's hidden states, see `Memory`: (S, N, D) -> (S, N, D)."""
        return values

    def start(self, end: Hidden) -> Hidden:
        """What it remembers at first, from what the encoder remembers at the end."""
        return end

    def forward(self, x: Tensor, memory: Memory, hidden: Hidden, real: Tensor | None = None) -> Decoded:
        """Tokens x (B, T, D) -> features of each. real: bool (B, T), where x is no padding (default everywhere)."""
        y, hidden = self.rnn(x, hidden, real)
        return y, None, hidden


class LuongDecoder(Decoder):
    """All new states attend at once; features are attentional vectors tanh(W [c; s]) (Luong 2015, eq. 5)."""

    def __init__(self, config: RecurrentSeq2SeqConfig, inputs: int):
        super().__init__(config, inputs)
        self.attention = (AdditiveAttention if config.attention == "additive" else DotAttention)(config)
        self.combine = nn.Linear(2 * config.dim, config.dim, bias=False)

    def keys(self, values: Tensor) -> Tensor:
        return self.attention.key(values)

    def attentional(self, contexts: Tensor, states: Tensor) -> Tensor:
        """2 x (..., D) -> (..., D)"""
        return self.combine(torch.cat((contexts, states), dim=-1)).tanh()

    def forward(self, x: Tensor, memory: Memory, hidden: Hidden, real: Tensor | None = None) -> Decoded:
        states, hidden = self.rnn(x, hidden, real)
        contexts, weights = self.attention(states, memory)
        return self.attentional(contexts, states), weights, hidden


class InputFeedingDecoder(LuongDecoder):
    """Each step reads the last attentional vector as well (Luong 2015, 3.3), which is remembered."""

    def start(self, end: Hidden) -> Hidden:
        return (*end, torch.zeros_like(end[0][:1]))  # (1, S, D)

    def forward(self, x: Tensor, memory: Memory, hidden: Hidden, real: Tensor | None = None) -> Decoded:
        def turn(token: Tensor, hidden: Hidden) -> tuple[tuple[Tensor, ...], Hidden]:
            *before, fed = hidden
            (state,), new = self.rnn.turn(torch.cat((token, fed[0]), dim=-1), tuple(before))
            context, weights = self.attention(state.unsqueeze(1), memory)
            vector = self.attentional(context[:, 0], state)
            return (vector, weights[:, 0]), (*new, vector.unsqueeze(0))

        (vectors, weights), hidden = scan(turn, x, hidden, real)
        return vectors, weights, hidden


class BahdanauDecoder(LuongDecoder):
    """Each step reads what the state before it attends to (Bahdanau 2015, A.2.2); features are attentional vectors as
    Luong's, in place of a maxout layer.
    """

    def forward(self, x: Tensor, memory: Memory, hidden: Hidden, real: Tensor | None = None) -> Decoded:
        def turn(token: Tensor, hidden: Hidden) -> tuple[tuple[Tensor, ...], Hidden]:
            context, weights = self.attention(hidden[0][-1].unsqueeze(1), memory)
            (state,), new = self.rnn.turn(torch.cat((token, context[:, 0]), dim=-1), hidden)
            return (context[:, 0], state, weights[:, 0]), new

        (contexts, states, weights), hidden = scan(turn, x, hidden, real)
        return self.attentional(contexts, states), weights, hidden


def build_decoder(config: RecurrentSeq2SeqConfig) -> Decoder:
    """The decoder with the attention that is asked for, and the channels that its steps read."""
    if config.attention == "none":
        return Decoder(config, config.dim)
    if config.attention == "additive":
        return BahdanauDecoder(config, 2 * config.dim)
    if config.input_feeding == "attentional":
        return InputFeedingDecoder(config, 2 * config.dim)
    return LuongDecoder(config, config.dim)


class RecurrentSeq2Seq(nn.Module):
    """A recurrent model from one sequence to another, called as a Transformer is (`text.models.encoder_decoder`)."""

    def __init__(self, config: RecurrentSeq2SeqConfig):
        super().__init__()
        if not config.vocab_size:
            raise ValueError("vocab_size = 0: set it to the tokenizer's before building the model")
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.drop = nn.Dropout(config.dropout)
        self.encoder = Recurrence(config, config.dim, directions=2 if config.encoder == "bidirectional" else 1)
        self.decoder = build_decoder(config)
        self.head = VocabularyHead(config.dim, config.vocab_size)
        initialise_recurrent(self, config)

    def forward(self, source: Tensor, lengths: Tensor | None, target: Tensor) -> Tensor:
        """Logits of what follows each target token, given the true ones before it: (B, T, V), see `features`."""
        return self.head(self.features(source, lengths, target))

    def features(self, source: Tensor, lengths: Tensor | None, target: Tensor) -> Tensor:
        """Target tokens after the decoder, which the head reads: (B, T, D).

        source:  int64 (B, N), filled up on the right
        lengths: int64 (B,), how many tokens of each source are real; None = all
        target:  int64 (B, T), the start token first; what stands behind a row's end changes nothing before it

        Raises ValueError when source or target is longer than the context, or for a source without tokens.
        """
        return self.decode(target, self.encode(source, lengths))[0]

    def alignments(self, source: Tensor, lengths: Tensor | None, target: Tensor) -> Tensor:
        """How much each step attends to each source token: (B, T, N), rows that sum to 1 and are 0 at padding.

        Row t belongs to the token that follows target[:, t]. Raises ValueError for a model without attention.
        """
        _, weights, _ = self.decode(target, self.encode(source, lengths))
        if weights is None:
            raise ValueError("attention = 'none': there are no alignments")
        return weights

    def encode(self, ids: Tensor, lengths: Tensor | None = None) -> Memory:
        """What a decoder reads of sources (S, N) int64, of which the first lengths[s] tokens are real."""
        self._check(tokens := ids.shape[1], "source")
        sizes = torch.full((len(ids),), tokens) if lengths is None else lengths.cpu()  # where packing needs them
        if bool(((sizes < 1) | (sizes > tokens)).any()):
            raise ValueError(f"lengths = {sizes.tolist()} must be from 1 to the {tokens} tokens of the sources")
        places, size = torch.arange(tokens, device=ids.device), sizes.to(ids.device).unsqueeze(-1)
        order = places.expand(len(ids), -1)  # (S, N)
        if self.config.encoder == "reversed":
            order = torch.where(places < size, size - 1 - places, places)
        values, end = self.encoder.encode(self.drop(self.embed(ids.gather(1, order))), sizes)
        values = values.gather(1, order.unsqueeze(-1).expand_as(values))  # the order is its own inverse
        return Memory(values, self.decoder.keys(values), (places >= size).unsqueeze(1), end)

    def decode(
        self, ids: Tensor, memory: Memory, hidden: Hidden | None = None, pads: Tensor | None = None, past: int = 0
    ) -> Decoded:
        """Target tokens ids (B, T) after the decoder; `hidden` is what it remembers of `past` tokens before them."""
        self._check(past + ids.shape[1], "target")
        hidden = self.decoder.start(memory.end) if hidden is None else hidden
        y, *rest = self.decoder(self.drop(self.embed(ids)), memory, hidden, real_tokens(pads, past, ids.shape[1]))
        return self.drop(y), *rest

    def _check(self, tokens: int, what: str) -> None:
        if tokens > self.config.context:
            raise ValueError(f"a {what} of {tokens} tokens is longer than the context of {self.config.context}")

    def bind(self, source: Tensor, lengths: Tensor | None = None) -> "BoundDecoder":
        """The decoder bound to sources (S, N), encoded now, for `generate` and `beam_search`. Prompts are [start]."""
        with torch.inference_mode():
            return BoundDecoder(self, self.encode(source, lengths))

    def layered_modules(self) -> list[list[nn.Module]]:
        """Its modules by depth (`core.optim.groups`); all layers of the encoder count as one, and of the decoder."""
        return [[self.embed], [self.encoder], [self.decoder]]


class SourceState(RecurrentState):
    """What a decoder remembers of B rows, and their S sources: B / S successive rows share one."""

    def __init__(self, start: Hidden, capacity: int, memory: Memory):
        super().__init__(start, capacity)
        self.memory = memory

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows, int64 (B',), and their sources: fewer, or more where some are repeated."""
        self.memory = self.memory.keep(sources_of(rows, self.memory.rows_each(self.start[0].shape[1])))
        super().keep(rows)


class BoundDecoder:
    """A decoder bound to its sources: `core.decoding.window.Decodable`."""

    def __init__(self, model: RecurrentSeq2Seq, memory: Memory):
        self.model, self.memory, self.context = model, memory, model.config.context

    def new_state(self, batch: int, capacity: int) -> SourceState:
        """What is remembered before the first token. Raises ValueError where the sources do not divide the rows."""
        each = self.memory.rows_each(batch)
        start = tuple(part.repeat_interleave(each, dim=1) for part in self.model.decoder.start(self.memory.end))
        return SourceState(start, capacity, self.memory)

    def step(self, ids: Tensor, state: SourceState, pads: Tensor | None = None) -> Tensor:
        """Read ids (B, T) on top of the state; the logits (B, V) of what follows the last of them."""
        y, _, hidden = self.model.decode(ids, state.memory, state.hidden, pads, state.length)
        state.advance(hidden, ids.shape[1])
        return self.model.head(y[:, -1])
