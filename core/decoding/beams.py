"""Beam search: the most probable continuations of every prompt of a batch, each prompt with beams of its own."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from core.decoding.tree import Tree, grow
from core.decoding.window import STOPPED, Continuations, Decodable, check_prompts, staying
from core.switch import with_kernel


class Hypothesis(NamedTuple):
    """One finished beam."""

    tokens: list[int]  # new ids, the end token included
    score: float  # log-probability over the length penalty


@torch.inference_mode()
def beam_search(
    model: Decodable,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    beams: int = 4,
    *,
    n_best: int | None = None,
    eos: int | Sequence[int] | None = None,
    ends: Callable[[Sequence[int]], bool] | None = None,
    length_penalty: float = 0.6,
    device: torch.device | str = "cpu",
) -> list[list[Hypothesis]]:
    """For each prompt the best continuations of at most `tokens` tokens that the search finds, best first.

    n_best: how many of each prompt (default as many as beams): the same ones, found sooner the fewer are asked for
    eos: the tokens that end a continuation
    ends: whether new ids are one that has ended, asked of each that is longer by a token than one that has not

    A hypothesis of n tokens scores log p / ((5 + n) / 6)^length_penalty (Wu 2016, eq. 14). The search for a prompt
    ends when no unfinished beam can still overtake the finished ones, and the prompt then leaves the batch. What is
    found for a prompt does not depend on the rest of the batch, up to rounding and for as long as the longest row fits
    the context.

    Raises ValueError for an empty prompt, or for beams, tokens, n_best or a length penalty out of range.
    """
    n_best = beams if n_best is None else n_best
    _check(prompts, tokens, beams, n_best, length_penalty)
    rows = grow(model, prompts, tokens, beams, device)  # one for each prompt, soon one for each of its beams
    stops = torch.tensor([] if eos is None else [eos] if isinstance(eos, int) else [*eos], device=device)
    active = _Active(torch.arange(len(prompts), device=device), torch.zeros(len(prompts), 1, device=device))
    found = _Found(len(prompts), n_best, tokens, length_penalty)
    for n in range(1, tokens + 1):
        step = _branch(active.scores, rows.logits(), beams, stops)
        new = rows.history[:, rows.width - n + 1 :].unflatten(0, active.scores.shape)  # (P, beams, n - 1)
        if ends:
            step = step._replace(ended=step.ended | _have_ended(step, new.tolist(), ends))
        found.add(active.prompts, *_finished(step, new, beams))
        active = _advance(rows, active, step, beams, found)
        if not len(active.prompts):
            return found.results()
    found.add(*active, rows.history[:, -tokens:].unflatten(0, active.scores.shape))
    return found.results()


def _check(prompts: Sequence[Sequence[int]], tokens: int, beams: int, n_best: int, length_penalty: float) -> None:
    check_prompts(prompts)
    if beams < 1 or tokens < 1:
        raise ValueError(f"beams = {beams} and tokens = {tokens} must be at least 1")
    if not 1 <= n_best <= beams:
        raise ValueError(f"n_best = {n_best} must be at least 1 and at most beams = {beams}")
    if length_penalty < 0:
        raise ValueError(f"length_penalty = {length_penalty} must be at least 0")


class _Active(NamedTuple):
    """The prompts whose search is not over, and their open beams: one at first, since equal ones would stay equal."""

    prompts: Tensor  # (P,) int64
    scores: Tensor  # (P, beams) log-probabilities; -inf where there is none


class _Branches(NamedTuple):
    """The best continuations by one token of the beams of each prompt, best first: (P, 2 beams or more) each."""

    scores: Tensor  # log-probabilities
    beams: Tensor  # which beam of its prompt is continued
    ids: Tensor  # by which token
    ended: Tensor  # whether that is the end


@with_kernel
def most_probable(scores: Tensor, logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable continuations by one token of beams with scores (P, K) and logits (P K, V), best first.

    Log-probabilities, the beam of its prompt that each continues, and by which token: (P, count) each.
    """
    totals = scores.unsqueeze(-1) + logits.float().log_softmax(-1).unflatten(0, scores.shape)  # (P, K, V)
    best, places = totals.flatten(1).topk(count)
    return best, places // logits.shape[-1], places % logits.shape[-1]


def _branch(scores: Tensor, logits: Tensor, beams: int, stops: Tensor) -> _Branches:
    """scores (P, open) and logits (P open, V) -> twice as many branches as beams, or more: that many may go on."""
    count = min(beams * (1 + max(1, len(stops))), scores.shape[1] * logits.shape[-1])
    best, origins, ids = most_probable(scores, logits, count)
    return _Branches(best, origins, ids, torch.isin(ids, stops))


def _have_ended(step: _Branches, new: list[list[list[int]]], ends: Callable[[Sequence[int]], bool]) -> Tensor:
    """Which branches of beams with these new ids, [P][beams][n - 1], have ended, as `ends` says: bool as step.ended."""
    branches = zip(new, step.beams.tolist(), step.ids.tolist(), strict=True)
    ended = [[ends([*rows[beam], last]) for beam, last in zip(*pair, strict=True)] for rows, *pair in branches]
    return torch.tensor(ended, device=step.ended.device)


def _finished(step: _Branches, new: Tensor, beams: int) -> tuple[Tensor, Tensor]:
    """Scores (P, beams), -inf for others, and ids (P, beams, n) of what has ended among the best branches."""
    scores = step.scores.masked_fill(~step.ended, -math.inf)[:, :beams]
    before = _take(new, step.beams[:, :beams])  # (P, beams, n - 1)
    return scores, torch.cat((before, step.ids[:, :beams].unsqueeze(-1)), dim=-1)


def _advance(rows: Tree | Continuations, active: _Active, step: _Branches, beams: int, found: "_Found") -> _Active:
    """Go on with the best branches that have not ended, of the prompts whose search is not over."""
    best = step.ended.int().argsort(dim=-1, stable=True)[:, :beams]  # (P, beams)
    scores = step.scores.masked_fill(step.ended, -math.inf).gather(-1, best)
    count, before = active.scores.shape
    first = torch.arange(count, device=best.device).unsqueeze(-1) * before  # (P, 1): the first row of each prompt
    origins, ids = first + step.beams.gather(-1, best), step.ids.gather(-1, best)  # 2 x (P, beams)
    over = found.settled(active.prompts, scores.amax(-1))
    scores = scores.masked_fill(over.unsqueeze(-1), -math.inf)  # nothing more is found for these
    stay = staying(over)
    if len(stay):
        move = rows.reorder if best.shape == (len(stay), before) else rows.keep
        move(origins[stay])
        rows.push(ids[stay].flatten())
    return _Active(active.prompts[stay], scores[stay])


class _Found:
    """The finished beams of every prompt, best first. On the CPU: some devices have no float64."""

    def __init__(self, prompts: int, n_best: int, tokens: int, length_penalty: float):
        self.tokens, self.length_penalty = tokens, length_penalty
        self.scores = torch.full((prompts, n_best), -math.inf, dtype=torch.float64)
        self.ids = torch.full((prompts, n_best, tokens), STOPPED)

    def add(self, prompts: Tensor, scores: Tensor, ids: Tensor) -> None:
        """Take in finished beams of some prompts (P,): log-probabilities (P, m), -inf for none, and ids (P, m, n)."""
        some = (scores > -math.inf).any(-1).nonzero().flatten()
        if not len(some):
            return
        prompts, scores, ids = (each[some].cpu() for each in (prompts, scores, ids))
        length = ids.shape[-1]
        scores = torch.cat((self.scores[prompts], scores.double() / self._penalty(length)), dim=-1)
        ids = F.pad(ids, (0, self.tokens - length), value=STOPPED)
        best = scores.argsort(dim=-1, descending=True, stable=True)[:, : self.scores.shape[1]]
        self.scores[prompts] = scores.gather(-1, best)
        self.ids[prompts] = _take(torch.cat((self.ids[prompts], ids), dim=1), best)

    def settled(self, prompts: Tensor, best: Tensor) -> Tensor:
        """Whether no open beam of a prompt, the best with log-probability best[p], can overtake the finished ones."""
        worst, most = self.scores[prompts.cpu(), -1], best.cpu().double() / self._penalty(self.tokens)
        return ((worst > -math.inf) & (most <= worst) | (most == -math.inf)).to(best.device)

    def results(self) -> list[list[Hypothesis]]:
        """The best that were found for each prompt."""
        rows = zip(self.ids.tolist(), self.scores.tolist(), strict=True)
        return [[Hypothesis(_real(ids), score) for ids, score in zip(*row, strict=True) if _real(ids)] for row in rows]

    def _penalty(self, length: int) -> float:
        return ((5 + length) / 6) ** self.length_penalty


def _take(x: Tensor, rows: Tensor) -> Tensor:
    """Of x (P, n, T) the rows (P, m) of each prompt: (P, m, T)."""
    return x.gather(1, rows.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _real(ids: list[int]) -> list[int]:
    return [token for token in ids if token != STOPPED]
