"""Decoding against slow, plain loops without a cache."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.generate import (
    STOPPED,
    Sampling,
    beam_search,
    choose,
    complete,
    generate,
    min_p,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)
from tests.core.helpers import POSITIONS, awake, shape
from text.models import GPT, GPTConfig

VOCABULARY = 11
NONE = torch.zeros(1, 0, dtype=torch.int64)  # no history
GREEDY = Sampling(temperature=0)


def model(position: str = "rotary", context: int = 16, vocabulary: int = VOCABULARY, seed: int = 1) -> GPT:
    return awake(GPT(GPTConfig(vocabulary, context, "untied", shape(position, kv_heads=2))), seed)


class Schedule:
    """What a row may still hear, as `core.generate` promises: all, then from each refill on the last half."""

    def __init__(self, context: int, width: int, room: int):
        self.capacity = min(context, width + room)
        self.first = max(0, width - self.capacity)

    def heard(self, line: Sequence[int], width: int) -> list[int]:
        if width - self.first > self.capacity:
            self.first = width - max(1, self.capacity // 2)
        return list(line)[max(0, self.first - (width - len(line))) :]


@torch.inference_mode()
def greedy(gpt: GPT, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The most probable token of each row, over and over, without a cache and row by row."""
    lines, width = [list(p) for p in prompts], max(map(len, prompts))
    schedule = Schedule(gpt.context, width, count)
    for step in range(count):
        for line in lines:
            line.append(int(gpt(torch.tensor([schedule.heard(line, width + step)]))[0, -1].argmax()))
    return [line[len(p) :] for line, p in zip(lines, prompts, strict=True)]


# Against the plain loop

PROMPTS = {
    "one": [[3, 1, 4]],
    "one token": [[5]],
    "equal": [[3, 1, 4], [2, 7, 1]],
    "unequal": [[3], [1, 4, 1, 5, 9, 2], [6, 5, 3]],
    "longer than the context": [list(range(10)) * 3, [4, 2]],
}


@pytest.fixture
def steps(monkeypatch) -> list[tuple[int, Tensor]]:
    """Of every call of `GPT.step`: how many tokens it read, and the logits it gave."""
    calls: list[tuple[int, Tensor]] = []
    step = GPT.step

    def recorded(self: GPT, ids: Tensor, *more: object) -> Tensor:
        logits = step(self, ids, *more)
        calls.append((ids.shape[1], logits.clone()))
        return logits

    monkeypatch.setattr(GPT, "step", recorded)
    return calls


@pytest.mark.parametrize("context", [64, 8, 5, 1])
@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("position", POSITIONS)
def test_every_step_has_the_logits_of_the_plain_loop_also_past_the_context(position, prompts, context, steps):
    gpt, lines = model(position, context), PROMPTS[prompts]
    width = max(map(len, lines))
    schedule = Schedule(context, width, 20)
    rows = complete(gpt, lines, 20, Sampling(temperature=2.0))
    assert len(steps) == 20
    assert len({tuple(row) for row in rows}) == len(rows)
    with torch.inference_mode():
        for step, (_, logits) in enumerate(steps):
            for prompt, new, got in zip(lines, rows, logits, strict=True):
                heard = schedule.heard(prompt + new[:step], width + step)
                expected = gpt(torch.tensor([heard]))[0, -1]
                torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("context", [64, 8])
@pytest.mark.parametrize("prompts", PROMPTS)
def test_greedy_decoding_takes_the_most_probable_token(prompts, context):
    gpt = model(context=context)
    assert complete(gpt, PROMPTS[prompts], 20, GREEDY) == greedy(gpt, PROMPTS[prompts], 20)


def test_each_token_is_read_once_until_a_refill_reads_the_last_half(steps):
    complete(model(context=8), [[1, 2, 3]], 16, GREEDY)
    assert [read for read, _ in steps] == [3, 1, 1, 1, 1, 1, 4, 1, 1, 1, 1, 4, 1, 1, 1, 1]


def test_tokens_stream_one_at_a_time(steps):
    stream = generate(model(), [[1, 2], [3, 4]], 5)
    for expected in range(1, 6):
        assert next(stream).shape == (2,)
        assert len(steps) == expected
    assert next(stream, None) is None


# Sampling

LOUD = Sampling(temperature=1.5, top_k=9, top_p=0.95)


def test_a_row_draws_from_its_own_seed_whatever_else_is_in_the_batch():
    gpt, prompts, seeds = model(), [[3], [1, 4, 1, 5], [6, 5]], [11, 5, 8]
    together = complete(gpt, prompts, 10, LOUD, seeds=seeds)
    assert together == complete(gpt, prompts, 10, LOUD, seeds=seeds)
    for row in range(3):
        assert complete(gpt, [prompts[row]], 10, LOUD, seeds=[seeds[row]]) == [together[row]]
    backwards = complete(gpt, prompts[::-1], 10, LOUD, seeds=seeds[::-1])
    assert backwards == together[::-1]
    assert complete(gpt, prompts, 10, LOUD, seeds=[12, 5, 8])[0] != together[0]


def test_one_seed_counts_up_over_the_rows():
    gpt, prompts = model(), [[3, 1]] * 3
    rows = complete(gpt, prompts, 10, LOUD, seeds=[7])
    assert rows == complete(gpt, prompts, 10, LOUD, seeds=[7, 8, 9])
    assert len({tuple(row) for row in rows}) == 3


def test_generation_leaves_the_global_random_state_alone():
    gpt, before = model(), torch.get_rng_state()
    complete(gpt, [[3, 1]], 5, LOUD, seeds=[7])
    assert torch.equal(before, torch.get_rng_state())


def test_draws_follow_the_probabilities_and_never_take_what_is_filtered():
    logits = torch.tensor([[0.0, 1.0, -math.inf, 2.0, -1.0]])
    generators = [torch.Generator().manual_seed(i) for i in range(6000)]
    drawn = choose(logits.expand(6000, -1), NONE.expand(6000, 0), [], generators)
    expected = logits[0].softmax(-1) * 6000
    counts = drawn.bincount(minlength=5)
    assert counts[2] == 0
    heard = expected > 0
    chi_squared = ((counts - expected)[heard].square() / expected[heard]).sum()
    assert chi_squared < 21  # 3 degrees of freedom, p = 1e-4


def test_temperature_zero_is_greedy_and_cold_sampling_is_near_it():
    gpt = model()
    assert complete(gpt, [[3, 1]], 12, Sampling(temperature=1e-4)) == greedy(gpt, [[3, 1]], 12)
    assert complete(gpt, [[3, 1]], 12, Sampling(top_k=1)) == greedy(gpt, [[3, 1]], 12)


# Filters

rows = st.lists(st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=6, max_size=6), min_size=1, max_size=3).map(
    torch.tensor
)


@given(rows, st.integers(1, 9))
def test_top_k_keeps_exactly_k_even_among_equals(logits, k):
    kept = top_k(k)(logits, NONE)
    assert torch.equal(kept.isfinite().sum(-1), torch.full((len(logits),), min(k, 6)))
    held = kept.isfinite()
    assert torch.equal(kept[held], logits[held])
    for row, mask in zip(logits, held, strict=True):
        assert mask.all() or row[mask].min() >= row[~mask].max()


@given(rows, st.floats(0.01, 1.0))
def test_top_p_keeps_the_fewest_most_probable_tokens_that_reach_p(logits, p):
    kept = top_p(p)(logits, NONE)
    for row, mask in zip(logits.double(), kept.isfinite(), strict=True):
        probabilities = row.softmax(-1)
        held = probabilities[mask]
        assert held.sum() >= p - 1e-6
        assert held.sum() - held.min() < p + 1e-6
        assert mask.all() or held.min() >= probabilities[~mask].max()
    assert torch.equal(kept[kept.isfinite()], logits[kept.isfinite()])


@given(rows, st.floats(0.01, 1.0))
def test_min_p_keeps_what_is_at_least_p_times_as_probable_as_the_best(logits, p):
    kept = min_p(p)(logits, NONE).isfinite()
    ratio = (logits - logits.amax(-1, keepdim=True)).double().exp()
    clear = (ratio - p).abs() > 1e-6
    assert torch.equal(kept[clear], (ratio >= p)[clear])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (temperature(0.7), ("TemperatureLogitsWarper", 0.7)),
        (top_k(5), ("TopKLogitsWarper", 5)),
        (top_p(0.8), ("TopPLogitsWarper", 0.8)),
        (min_p(0.1), ("MinPLogitsWarper", 0.1)),
        (repetition_penalty(1.3), ("RepetitionPenaltyLogitsProcessor", 1.3)),
        (repetition_penalty(0.5), ("RepetitionPenaltyLogitsProcessor", 0.5)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_filters_are_those_of_transformers(ours, theirs):
    from transformers.generation import logits_process

    name, value = theirs
    logits, history = torch.randn(4, 50) * 3, torch.randint(0, 50, (4, 12))
    reference = getattr(logits_process, name)(value)(history, logits.clone())
    torch.testing.assert_close(ours(logits, history), reference)


def test_the_penalty_overlooks_padding_and_stopped_rows():
    logits = torch.tensor([[1.0, -1.0, 2.0]]).expand(2, 3)
    history = torch.tensor([[STOPPED, STOPPED, 1], [0, 2, STOPPED]])
    assert repetition_penalty(2.0)(logits, history).tolist() == [[1.0, -2.0, 2.0], [0.5, -1.0, 1.0]]


def test_filters_are_applied_in_their_order_and_leave_their_input_alone():
    logits = torch.randn(2, 30)
    before, history = logits.clone(), torch.randint(0, 30, (2, 4))
    sampling = Sampling(0.8, top_k=20, top_p=0.9, min_p=0.05, repetition_penalty=1.2)
    expected = logits
    for apply in (repetition_penalty(1.2), temperature(0.8), top_k(20), top_p(0.9), min_p(0.05)):
        expected = apply(expected, history)
    got = logits
    for apply in sampling.filters():
        got = apply(got, history)
    assert torch.equal(got, expected)
    assert torch.equal(logits, before)


def test_the_penalty_reads_the_prompt_and_what_was_generated():
    gpt = model()
    never_again = Sampling(temperature=0, repetition_penalty=1e9)
    gpt.head.weight.data = gpt.head.weight.data.abs()  # with positive logits a penalty of 1e9 forbids
    gpt.core.norm.weight.data.zero_()
    gpt.core.norm.bias.data.fill_(1.0)  # the same logits at every place
    ((*new,),) = complete(gpt, [[3, 1]], VOCABULARY - 2, never_again)
    assert sorted(new) == sorted(set(range(VOCABULARY)) - {3, 1})


# Stopping


def test_a_row_ends_with_its_stop_token_and_leaves_the_others_alone():
    gpt, prompts = model(), [[3], [1, 4, 1, 5], [6, 5]]
    free = complete(gpt, prompts, 12, LOUD, seeds=[4])
    stops = [free[0][2], free[1][5]]
    expected = []
    for row in free:
        ends = [i for i, token in enumerate(row) if token in stops]
        expected.append(row[: ends[0] + 1] if ends else row)
    assert complete(gpt, prompts, 12, LOUD, seeds=[4], stop=stops) == expected
    steps = torch.stack(list(generate(gpt, prompts, 12, LOUD, seeds=[4], stop=stops)), dim=1)
    for row, short in zip(steps.tolist(), expected, strict=True):
        assert row == short + [STOPPED] * (len(row) - len(short))


def test_generation_ends_when_all_rows_have_stopped():
    steps = list(generate(model(), [[3], [1, 4]], 12, stop=range(VOCABULARY)))
    assert len(steps) == 1


# Beams


def log_probabilities(gpt: GPT, line: Sequence[int]) -> Tensor:
    return gpt(torch.tensor([list(line)]))[0, -1].log_softmax(-1)


def penalty(length: int, alpha: float) -> float:
    """Wu 2016, eq. 14."""
    return ((5 + length) / 6) ** alpha


Found = list[tuple[list[int], float]]


def best(found: Found, beams: int) -> Found:
    return sorted(found, key=lambda pair: -pair[1])[:beams]


@torch.inference_mode()
def every_continuation(gpt: GPT, prompt: list[int], count: int, eos: int | None, alpha: float) -> Found:
    """All of them with their scores."""
    found: Found = []
    open_lines: Found = [([], 0.0)]
    for n in range(1, count + 1):
        longer = [
            ([*new, token], score + float(extra))
            for new, score in open_lines
            for token, extra in enumerate(log_probabilities(gpt, prompt + new))
        ]
        ends = [line[-1] == eos or n == count for line, _ in longer]
        found += [(new, s / penalty(n, alpha)) for (new, s), end in zip(longer, ends, strict=True) if end]
        open_lines = [pair for pair, end in zip(longer, ends, strict=True) if not end]
    return found


@torch.inference_mode()
def plain_beams(gpt: GPT, prompt: list[int], count: int, beams: int, eos: int | None, alpha: float) -> Found:
    """The textbook: never stops early, never uses a cache."""
    schedule, done = Schedule(gpt.context, len(prompt), count), []
    open_lines: Found = [([], 0.0)]
    for n in range(1, count + 1):
        heard = [schedule.heard(prompt + new, len(prompt) + n - 1) for new, _ in open_lines]
        longer = [
            ([*new, token], score + float(extra))
            for (new, score), known in zip(open_lines, heard, strict=True)
            for token, extra in enumerate(log_probabilities(gpt, known))
        ]
        longer = best(longer, 2 * beams)
        done += [(new, s / penalty(n, alpha)) for new, s in longer[:beams] if new[-1] == eos]
        open_lines = [pair for pair in longer if pair[0][-1] != eos][:beams]
    return best(done + [(new, s / penalty(count, alpha)) for new, s in open_lines], beams)


def same(got, expected: Found) -> None:
    assert [h.tokens for h in got] == [new for new, _ in expected]
    torch.testing.assert_close([h.score for h in got], [s for _, s in expected], atol=1e-4, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("eos", [None, 2])
def test_wide_beams_find_the_best_of_all_continuations(eos, alpha):
    gpt = model(vocabulary=4)
    everything = every_continuation(gpt, [1, 0], 3, eos, alpha)
    assert len(everything) == (64 if eos is None else 1 + 3 + 9 + 27)
    same(beam_search(gpt, [1, 0], 3, beams=64, eos=eos, length_penalty=alpha), best(everything, 64))


@pytest.mark.parametrize("context", [32, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("beams", [1, 2, 5])
def test_narrow_beams_are_those_of_the_textbook_though_they_stop_early(beams, alpha, context):
    for seed in (1, 2, 3):
        gpt = model(context=context, vocabulary=5, seed=seed)
        expected = plain_beams(gpt, [1, 0, 4], 7, beams, 2, alpha)
        same(beam_search(gpt, [1, 0, 4], 7, beams, eos=2, length_penalty=alpha), expected)


def test_beams_stop_as_soon_as_nothing_can_overtake(steps):
    gpt = model(vocabulary=5)
    gpt.head.weight.data[2] *= 0
    gpt.head.weight.data[2] += 20 * gpt.core.norm.bias / gpt.core.norm.bias.square().sum()
    gpt.core.norm.weight.data.zero_()  # token 2 has nearly all the probability
    beam_search(gpt, [1, 0], 30, 2, eos=2, length_penalty=0.6)
    assert len(steps) < 10


def test_one_beam_without_an_end_is_greedy():
    gpt = model()
    (found,) = beam_search(gpt, [3, 1], 10, beams=1)
    assert [found.tokens] == greedy(gpt, [[3, 1]], 10)


# Refusals


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"temperature": -0.1}, r"temperature = -0\.1"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"top_k": 0}, "top_k = 0"),
        ({"top_p": 0.0}, r"top_p = 0\.0"),
        ({"top_p": 1.1}, r"top_p = 1\.1"),
        ({"min_p": -0.5}, r"min_p = -0\.5"),
        ({"min_p": 1.5}, r"min_p = 1\.5"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty = 0\.0"),
        ({"temperature": 0, "top_k": 5}, "no effect with temperature = 0"),
        ({"temperature": 0, "top_p": 0.5}, "no effect with temperature = 0"),
        ({"temperature": 0, "min_p": 0.5}, "no effect with temperature = 0"),
    ],
)
def test_sampling_refuses_values_that_mean_nothing(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Sampling(**settings)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"prompts": []}, "prompts"),
        ({"prompts": [[1, 2], []]}, "prompt 1 is empty"),
        ({"tokens": -1}, "tokens = -1 must be at least 0"),
        ({"seeds": [1, 2]}, r"seeds = \[1, 2\] must be one, or one for each of the 1 prompts"),
    ],
)
def test_generate_refuses_what_it_cannot_do(given, sentence):
    arguments = {"prompts": [[1, 2]], "tokens": 3} | given
    with pytest.raises(ValueError, match=sentence):
        complete(model(), **arguments)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"prompt": []}, "prompt 0 is empty"),
        ({"beams": 0}, "beams = 0"),
        ({"tokens": 0}, "tokens = 0"),
        ({"length_penalty": -1.0}, r"length_penalty = -1\.0 must be at least 0"),
    ],
)
def test_beam_search_refuses_what_it_cannot_do(given, sentence):
    arguments = {"prompt": [1, 2], "tokens": 3, "beams": 2} | given
    with pytest.raises(ValueError, match=sentence):
        beam_search(model(), **arguments)


def test_no_tokens_asked_none_given():
    assert complete(model(), [[1], [2]], 0) == [[], []]
