"""Beam search: the most probable continuations of every prompt of a batch, each prompt with beams of its own."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.decoding.window import Continuations, Decodable, check_prompts


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
    eos: int | Sequence[int] | None = None,
    ends: Callable[[Sequence[int]], bool] | None = None,
    length_penalty: float = 0.6,
    device: torch.device | str = "cpu",
) -> list[list[Hypothesis]]:
    """For each prompt the `beams` best continuations of at most `tokens` tokens that the search finds, best first.

    eos: the tokens that end a continuation
    ends: whether new ids are one that has ended, asked of each that is longer by a token than one that has not

    A hypothesis of n tokens scores log p / ((5 + n) / 6)^length_penalty (Wu 2016, eq. 14). The search for a prompt
    ends when no unfinished beam can still overtake the finished ones. What is found for a prompt does not depend on
    the rest of the batch, up to rounding and for as long as the longest row fits the context.

    Raises ValueError for an empty prompt, or for beams, tokens or a length penalty out of range.
    """
    _check(prompts, tokens, beams, length_penalty)
    rows = Continuations(model, [prompt for prompt in prompts for _ in range(beams)], tokens, device)
    searches = [_Search(beams, tokens, length_penalty) for _ in prompts]
    scores = torch.full((len(prompts), beams), -math.inf, device=device)
    scores[:, 0] = 0.0  # the beams of a prompt start equal: only one may branch
    stops = torch.tensor([] if eos is None else [eos] if isinstance(eos, int) else [*eos], device=device)
    for n in range(1, tokens + 1):
        step = _branch(scores, rows.logits(), stops)
        if ends:
            new = rows.history[:, rows.width - n + 1 :].unflatten(0, (len(prompts), beams)).tolist()
            step = step._replace(ended=step.ended | _have_ended(step, new, ends))
        for prompt, search in enumerate(searches):
            if not search.over:
                search.finish(step, prompt, rows.history[prompt * beams :, rows.width - n + 1 :])
        scores = _advance(rows, step, beams)
        for search, best in zip(searches, scores.amax(-1).tolist(), strict=True):
            search.settle(best)
        if all(search.over for search in searches):
            break
    new = rows.history[:, -tokens:].unflatten(0, (-1, beams)).tolist()
    return [s.results(*open_) for s, *open_ in zip(searches, new, scores.tolist(), strict=True)]


def _check(prompts: Sequence[Sequence[int]], tokens: int, beams: int, length_penalty: float) -> None:
    check_prompts(prompts)
    if beams < 1 or tokens < 1:
        raise ValueError(f"beams = {beams} and tokens = {tokens} must be at least 1")
    if length_penalty < 0:
        raise ValueError(f"length_penalty = {length_penalty} must be at least 0")


class _Branches(NamedTuple):
    """The best continuations by one token of the beams of each prompt, best first: (P, 2 beams or more) each."""

    scores: Tensor  # log-probabilities
    beams: Tensor  # which beam of its prompt is continued
    ids: Tensor  # by which token
    ended: Tensor  # whether that is the end


def _branch(scores: Tensor, logits: Tensor, stops: Tensor) -> _Branches:
    """scores (P, beams) and logits (P beams, V) -> twice as many branches as beams, or more: that many may go on."""
    prompts, beams = scores.shape
    totals = scores.unsqueeze(-1) + logits.float().log_softmax(-1).unflatten(0, (prompts, beams))  # (P, beams, V)
    vocabulary = totals.shape[-1]
    count = beams * min(1 + max(1, len(stops)), vocabulary)
    best, places = totals.flatten(1).topk(count)  # (P, 2 beams or more)
    ids = places % vocabulary
    return _Branches(best, places // vocabulary, ids, torch.isin(ids, stops))


def _have_ended(step: _Branches, new: list[list[list[int]]], ends: Callable[[Sequence[int]], bool]) -> Tensor:
    """Which branches of beams with these new ids, [P][beams][n - 1], have ended, as `ends` says: bool as step.ended."""
    branches = zip(new, step.beams.tolist(), step.ids.tolist(), strict=True)
    ended = [[ends([*rows[beam], last]) for beam, last in zip(*pair, strict=True)] for rows, *pair in branches]
    return torch.tensor(ended, device=step.ended.device)


def _advance(rows: Continuations, step: _Branches, beams: int) -> Tensor:
    """Go on with the best branches that have not ended; their scores (P, beams)."""
    kept = step.ended.int().argsort(dim=-1, stable=True)[:, :beams]  # (P, beams)
    first = torch.arange(len(kept), device=kept.device).unsqueeze(-1) * beams  # (P, 1): the first row of each prompt
    rows.reorder((first + step.beams.gather(-1, kept)).flatten())
    rows.push(step.ids.gather(-1, kept).flatten())
    return step.scores.masked_fill(step.ended, -math.inf).gather(-1, kept)


class _Search:
    """The finished beams of one prompt."""

    def __init__(self, beams: int, tokens: int, length_penalty: float):
        self.beams, self.tokens, self.length_penalty = beams, tokens, length_penalty
        self.done: list[Hypothesis] = []
        self.over = False

    def finish(self, step: _Branches, prompt: int, new: Tensor) -> None:
        """Take in what has ended among the best branches; new (beams or more, n - 1), the tokens before each end."""
        for i in step.ended[prompt, : self.beams].nonzero().flatten().tolist():
            score = float(step.scores[prompt, i])
            if score > -math.inf:
                tokens = [*new[step.beams[prompt, i]].tolist(), int(step.ids[prompt, i])]
                self.done.append(Hypothesis(tokens, score / self._penalty(len(tokens))))
        self.done = sorted(self.done, key=lambda h: -h.score)[: self.beams]

    def settle(self, best: float) -> None:
        """Whether no open beam, the best with log-probability `best`, can overtake the finished ones any more."""
        full = len(self.done) == self.beams
        self.over = self.over or (full and best / self._penalty(self.tokens) <= self.done[-1].score)

    def results(self, new: list[list[int]], scores: list[float]) -> list[Hypothesis]:
        """The best, those included that were still open at the last token unless the search was over before."""
        last = [] if self.over else [(ids, score) for ids, score in zip(new, scores, strict=True) if score > -math.inf]
        done = self.done + [Hypothesis(ids, score / self._penalty(self.tokens)) for ids, score in last]
        return sorted(done, key=lambda h: -h.score)[: self.beams]

    def _penalty(self, length: int) -> float:
        return ((5 + length) / 6) ** self.length_penalty
