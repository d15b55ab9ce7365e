"""Decoding against slow, plain loops without a cache."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.decoding.filters import Sampling, min_p, repetition_penalty, temperature, top_k, top_p
from core.decoding.generate import choose, complete, generate
from core.decoding.window import STOPPED
from tests.core.decoding.decoders import VOCABULARY, Schedule, greedy, model
from tests.core.helpers import POSITIONS

NONE = torch.zeros(1, 0, dtype=torch.int64)  # no history
GREEDY = Sampling(temperature=0)

# Against the plain loop

PROMPTS = {
    "one": [[3, 1, 4]],
    "one token": [[5]],
    "equal": [[3, 1, 4], [2, 7, 1]],
    "unequal": [[3], [1, 4, 1, 5, 9, 2], [6, 5, 3]],
    "longer than the context": [list(range(10)) * 3, [4, 2]],
}


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
                window = schedule.window(prompt + new[:step], width + step)
                expected = gpt(torch.tensor([window]))[0, -1]
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
    possible = expected > 0
    chi_squared = ((counts - expected)[possible].square() / expected[possible]).sum()
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


def test_no_tokens_asked_none_given():
    assert complete(model(), [[1], [2]], 0) == [[], []]
