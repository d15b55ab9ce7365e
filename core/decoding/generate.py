"""Decoding, for anything autoregressive: one generator.

Prompts of unequal length are padded on the left. Past the model's context the state is filled anew with the last half
of it (`core.decoding.window`).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from core.decoding.filters import Filter, Sampling
from core.decoding.window import STOPPED, Continuations, Decodable, staying


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
    fits the context: a refill is for the whole batch.

    Raises ValueError, before the first token, for an empty prompt or a wrong number of seeds.
    """
    sampling = sampling or Sampling()
    if tokens < 0:
        raise ValueError(f"tokens = {tokens} must be at least 0")
    if len(seeds) not in (1, len(prompts)):
        raise ValueError(f"seeds = {list(seeds)} must be one, or one for each of the {len(prompts)} prompts")
    seeds = seeds if len(seeds) == len(prompts) else [seeds[0] + row for row in range(len(prompts))]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds] if sampling.temperature else []
    rows = Continuations(model, prompts, tokens, device)
    return _steps(rows, tokens, sampling.filters(), generators, torch.tensor(list(stop), device=device))


@torch.inference_mode()
def _steps(
    rows: Continuations, tokens: int, filters: Sequence[Filter], generators: list[torch.Generator], stops: Tensor
) -> Iterator[Tensor]:
    """Choose, yield, push, until the last token or until every row has stopped; rows that have leave the batch."""
    silence = torch.full_like(rows.pads, STOPPED)  # (B,)
    active, stopped = torch.arange(len(silence), device=silence.device), torch.zeros_like(silence, dtype=torch.bool)
    for _ in range(tokens):
        chosen = choose(rows.logits(), rows.history, filters, generators).masked_fill(stopped, STOPPED)
        yield silence.index_copy(0, active, chosen)
        rows.push(chosen)
        if not len(stops):
            continue
        stopped |= torch.isin(chosen, stops)
        stay = staying(stopped)
        if not len(stay):
            return
        if len(stay) < len(active):
            rows.keep(stay)
            active, stopped, generators = active[stay], stopped[stay], [generators[row] for row in stay if generators]


def complete(
    model: Decodable,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    sampling: Sampling | None = None,
    **options: object,
) -> list[list[int]]:
    """What `generate` yields, in lists: the new ids of each row, a stop token included."""
    steps = list(generate(model, prompts, tokens, sampling, **options))  # type: ignore[arg-type]
    rows = torch.stack(steps, dim=1).tolist() if steps else [[] for _ in prompts]
    return [[token for token in row if token != STOPPED] for row in rows]


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
