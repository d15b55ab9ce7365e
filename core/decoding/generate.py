"""Decoding, for anything autoregressive: one generator, small pure filters, beam search.

A model that can be decoded offers what `Decodable` lists. Prompts of unequal length are padded on the left. Past the
model's context the cache is refilled with the last half of it: exact for the tokens it sees, and paid for once in
half a context.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from core.decoding.cache import Cache

STOPPED = -1
"""What a row yields once it has met a stop token."""

Filter = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, V) float32, history (B, T) int64 with STOPPED where there is nothing) -> logits (B, V)."""


class Decodable(Protocol):
    """What decoding needs of a model."""

    @property
    def context(self) -> int:
        """The most tokens it can attend to."""

    def new_cache(self, batch: int, capacity: int) -> Cache:
        """An empty cache."""

    def step(self, ids: Tensor, cache: Cache, pads: Tensor | None = None) -> Tensor:
        """Append ids (B, T) to the cache; the logits (B, V) of what follows. Row b begins with pads[b] pads."""


# Filters: each turns logits into logits.


def temperature(value: float) -> Filter:
    """Divide the logits; below 1 sharpens, above 1 flattens."""
    if not value > 0:
        raise ValueError(f"temperature = {value} must be above 0")
    return lambda logits, history: logits / value


def top_k(k: int) -> Filter:
    """Keep exactly the k largest logits."""
    if k < 1:
        raise ValueError(f"top_k = {k} must be at least 1")

    def keep(logits: Tensor, history: Tensor) -> Tensor:
        values, places = logits.topk(min(k, logits.shape[-1]), dim=-1)  # (B, k)
        return torch.full_like(logits, -math.inf).scatter(-1, places, values)

    return keep


def top_p(p: float) -> Filter:
    """Keep the most probable tokens that together reach probability p (nucleus sampling, Holtzman 2020)."""
    if not 0 < p <= 1:
        raise ValueError(f"top_p = {p} must be above 0 and at most 1")

    def keep(logits: Tensor, history: Tensor) -> Tensor:
        values, places = logits.sort(dim=-1, descending=True)
        probabilities = values.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities  # reached without this token
        return torch.full_like(logits, -math.inf).scatter(-1, places, values.masked_fill(before >= p, -math.inf))

    return keep


def min_p(p: float) -> Filter:
    """Keep the tokens at least p times as probable as the most probable one (Nguyen 2024)."""
    if not 0 < p <= 1:
        raise ValueError(f"min_p = {p} must be above 0 and at most 1")
    return lambda logits, history: logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -math.inf)


def repetition_penalty(strength: float) -> Filter:
    """Divide positive and multiply negative logits of tokens already there (Keskar 2019, CTRL, 4.1)."""
    if not strength > 0:
        raise ValueError(f"repetition_penalty = {strength} must be above 0")

    def penalise(logits: Tensor, history: Tensor) -> Tensor:
        rows, vocabulary = logits.shape
        places = history.masked_fill(history < 0, vocabulary)  # nothing is noted in one extra column
        seen = torch.zeros(rows, vocabulary + 1, dtype=torch.bool, device=logits.device)
        seen = seen.scatter(-1, places, True)[:, :vocabulary]  # (B, V)
        return torch.where(seen, torch.where(logits > 0, logits / strength, logits * strength), logits)

    return penalise


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 1.0
    """Below 1 sharpens, above 1 flattens; 0 takes the most probable token."""
    top_k: int | None = None
    """Keep the k most probable tokens."""
    top_p: float | None = None
    """Keep the most probable tokens that together reach this probability."""
    min_p: float | None = None
    """Keep tokens at least this fraction as probable as the most probable."""
    repetition_penalty: float | None = None
    """Above 1 makes tokens that are already there less probable."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature = {self.temperature} must be at least 0")
        if self.temperature == 0 and (self.top_k or self.top_p or self.min_p):
            raise ValueError("top_k, top_p and min_p have no effect with temperature = 0")
        self.filters()

    def filters(self) -> list[Filter]:
        """The filters named, in the order they are applied."""
        named: list[tuple[Callable[..., Filter], float | None]] = [
            (repetition_penalty, self.repetition_penalty),
            (temperature, self.temperature or None),
            (top_k, self.top_k),
            (top_p, self.top_p),
            (min_p, self.min_p),
        ]
        return [make(value) for make, value in named if value is not None]


# Choosing


def choose(logits: Tensor, history: Tensor, filters: Sequence[Filter], generators: Sequence[torch.Generator]) -> Tensor:
    """The next token of each row, int64 (B,). Without generators the most probable; else one draw a row.

    A row's draw is its own generator's: it does not depend on the rest of the batch.
    """
    logits = logits.float()
    for apply in filters:
        logits = apply(logits, history)
    if not generators:
        return logits.argmax(-1)
    draws = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
    reached = logits.double().softmax(-1).cumsum(-1)  # (B, V)
    threshold = draws.to(logits.device).unsqueeze(-1) * reached[:, -1:]
    return (reached <= threshold).sum(-1).clamp(max=logits.shape[-1] - 1)


class Line:
    """The tokens of a batch so far, and a cache that has read them.

    prompts: one list of ids per row, none empty. room: how many tokens will be pushed at most.
    """

    def __init__(self, model: Decodable, prompts: Sequence[Sequence[int]], room: int, device: torch.device | str):
        if not prompts:
            raise ValueError("prompts = []: at least one is needed")
        for row, prompt in enumerate(prompts):
            if not len(prompt):
                raise ValueError(f"prompt {row} is empty: at least one token is needed")
        self.model, self.width = model, max(map(len, prompts))
        tokens = torch.full((len(prompts), self.width + room), STOPPED)
        for row, prompt in enumerate(prompts):
            tokens[row, self.width - len(prompt) : self.width] = torch.tensor(prompt)
        self.tokens = tokens.to(device)  # (B, width + room), padded on the left
        self.pads = torch.tensor([self.width - len(p) for p in prompts], device=device)  # (B,)
        self.most_pads = int(self.pads.max())
        self.cache = model.new_cache(len(prompts), min(model.context, self.width + room))
        self.first = self.read = max(0, self.width - self.cache.capacity)

    @property
    def history(self) -> Tensor:
        """All tokens so far, (B, width); STOPPED where there is nothing."""
        return self.tokens[:, : self.width]

    def logits(self) -> Tensor:
        """Read what has not been read, and return the logits (B, V) of what follows."""
        if self.width - self.first > self.cache.capacity:  # refill with the last half
            self.first = self.read = self.width - max(1, self.cache.capacity // 2)
            self.cache.reset()
        ids = self.tokens[:, self.read : self.width].clamp(min=0)  # (B, T)
        self.read = self.width
        return self.model.step(ids, self.cache, self.padding())

    def padding(self) -> Tensor | None:
        """Pads at the head of what the cache holds, (B,); None where no row has any."""
        return (self.pads - self.first).clamp(min=0) if self.first < self.most_pads else None

    def push(self, ids: Tensor) -> None:
        """Append one token to each row, int64 (B,)."""
        self.tokens[:, self.width] = ids
        self.width += 1

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was."""
        self.tokens, self.pads = self.tokens[rows], self.pads[rows]
        self.cache.reorder(rows)


def generate(
    model: Decodable,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    sampling: Sampling | None = None,
    *,
    seeds: Sequence[int] = (0,),
    stop: Sequence[int] = (),
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Yield up to `tokens` times the next token of every row, int64 (B,); STOPPED after a row's stop token.

    seeds: one a row, or one for all rows, row b then drawing from seed + b. The same seed and prompt give the
    same tokens whatever else is in the batch, up to rounding of the logits and for as long as the longest row
    fits the context: a refill forgets for the whole batch.

    Raises ValueError, before the first token is asked for, for an empty prompt or a wrong number of seeds.
    """
    sampling = sampling or Sampling()
    if tokens < 0:
        raise ValueError(f"tokens = {tokens} must be at least 0")
    if len(seeds) not in (1, len(prompts)):
        raise ValueError(f"seeds = {list(seeds)} must be one, or one for each of the {len(prompts)} prompts")
    seeds = seeds if len(seeds) == len(prompts) else [seeds[0] + row for row in range(len(prompts))]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds] if sampling.temperature else []
    line, filters = Line(model, prompts, tokens, device), sampling.filters()
    return _steps(line, tokens, lambda logits: choose(logits, line.history, filters, generators), stop)


@torch.inference_mode()
def _steps(line: Line, tokens: int, next_of: Callable[[Tensor], Tensor], stop: Sequence[int]) -> Iterator[Tensor]:
    """Choose, yield, push, until the last token or until every row has stopped."""
    stops = torch.tensor(list(stop), device=line.tokens.device)
    stopped = torch.zeros(len(line.tokens), dtype=torch.bool, device=line.tokens.device)
    for _ in range(tokens):
        chosen = next_of(line.logits()).masked_fill(stopped, STOPPED)
        yield chosen
        line.push(chosen)
        if len(stops):
            stopped |= torch.isin(chosen, stops)
            if stopped.all():
                return


def complete(
    model: Decodable,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    sampling: Sampling | None = None,
    **options: object,
) -> list[list[int]]:
    """What `generate` yields, gathered: one list of new ids per row, a stop token included."""
    steps = list(generate(model, prompts, tokens, sampling, **options))  # type: ignore[arg-type]
    rows = torch.stack(steps, dim=1).tolist() if steps else [[] for _ in prompts]
    return [[token for token in row if token != STOPPED] for row in rows]


class Hypothesis(NamedTuple):
    """One finished beam."""

    tokens: list[int]  # new ids, the end token included
    score: float  # log-probability over the length penalty


@torch.inference_mode()
def beam_search(
    model: Decodable,
    prompt: Sequence[int],
    tokens: int,
    beams: int = 4,
    *,
    eos: int | None = None,
    length_penalty: float = 0.6,
    device: torch.device | str = "cpu",
) -> list[Hypothesis]:
    """The `beams` best continuations of at most `tokens` tokens that the search finds, best first.

    A hypothesis of n tokens scores log p / ((5 + n) / 6)^length_penalty (Wu 2016, eq. 14). The search ends when no
    unfinished beam can still overtake the finished ones.
    """
    if beams < 1 or tokens < 1:
        raise ValueError(f"beams = {beams} and tokens = {tokens} must be at least 1")
    if length_penalty < 0:
        raise ValueError(f"length_penalty = {length_penalty} must be at least 0")
    line = Line(model, [prompt] * beams, tokens, device)
    scores = torch.full((beams,), -math.inf, device=device)
    scores[0] = 0.0  # the rows start equal: only one may branch
    done: list[Hypothesis] = []
    for n in range(1, tokens + 1):
        totals = scores.unsqueeze(-1) + line.logits().float().log_softmax(-1)  # (beams, V)
        best, places = totals.flatten().topk(min(2 * beams, totals.numel()))
        rows, ids = places // totals.shape[-1], places % totals.shape[-1]
        ended = (ids == eos) if eos is not None else torch.zeros_like(ids, dtype=torch.bool)
        for i in ended.nonzero().flatten().tolist():
            if i < beams and best[i] > -math.inf:
                done.append(_finish(line, rows[i], ids[i], best[i], n, length_penalty))
        keep = (~ended).nonzero().flatten()[:beams]
        line.reorder(rows[keep])
        line.push(ids[keep])
        scores = best[keep]
        done = sorted(done, key=lambda h: -h.score)[:beams]
        if len(done) == beams and scores.max() / _penalty(tokens, length_penalty) <= done[-1].score:
            return done
    open_beams = zip(line.history[:, -tokens:].tolist(), scores.tolist(), strict=True)
    done += [
        Hypothesis(ids, score / _penalty(tokens, length_penalty)) for ids, score in open_beams if score > -math.inf
    ]
    return sorted(done, key=lambda h: -h.score)[:beams]


def _finish(line: Line, row: Tensor, last: Tensor, score: Tensor, n: int, length_penalty: float) -> Hypothesis:
    new = line.history[row, line.width - n + 1 :].tolist()
    return Hypothesis([*new, int(last)], float(score) / _penalty(n, length_penalty))


def _penalty(length: int, alpha: float) -> float:
    return ((5 + length) / 6) ** alpha
