"""Beam search against all continuations, and against the textbook."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
import torch
from torch import Tensor

from core.decoding.beams import beam_search
from core.decoding.filters import Sampling
from core.decoding.generate import complete
from core.decoding.window import Bound
from core.graph import padding
from tests.core.decoding.decoders import Decoder, Schedule, greedy, model
from tests.core.helpers import tokens


def log_probabilities(gpt: Decoder, line: Sequence[int]) -> Tensor:
    return gpt(torch.tensor([list(line)]))[0, -1].log_softmax(-1)


def penalty(length: int, alpha: float) -> float:
    """Wu 2016, eq. 14."""
    return ((5 + length) / 6) ** alpha


LOUD = Sampling(temperature=1.5)
Found = list[tuple[list[int], float]]


def best(found: Found, beams: int) -> Found:
    return sorted(found, key=lambda pair: -pair[1])[:beams]


@torch.inference_mode()
def every_continuation(gpt: Decoder, prompt: list[int], count: int, eos: int | None, alpha: float) -> Found:
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
def plain_beams(gpt: Decoder, prompt: list[int], count: int, beams: int, eos: int | None, alpha: float) -> Found:
    """The textbook: never stops early, never uses a cache."""
    schedule, done = Schedule(gpt.context, len(prompt), count), []
    open_lines: Found = [([], 0.0)]
    for n in range(1, count + 1):
        windows = [schedule.window(prompt + new, len(prompt) + n - 1) for new, _ in open_lines]
        longer = [
            ([*new, token], score + float(extra))
            for (new, score), known in zip(open_lines, windows, strict=True)
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
    (got,) = beam_search(gpt, [[1, 0]], 3, beams=64, eos=eos, length_penalty=alpha)
    same(got, best(everything, 64))


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("eos", [2, (2,)])
def test_continuations_may_be_said_to_end_by_what_is_in_them(beams, eos):
    for seed in (1, 2, 3):
        gpt = model(vocabulary=5, seed=seed)
        (expected,) = beam_search(gpt, [[1, 0, 4]], 7, beams, eos=eos)
        (got,) = beam_search(gpt, [[1, 0, 4]], 7, beams, ends=lambda new: new[-1] == 2)
        assert got == expected


@torch.inference_mode()
def test_wide_beams_find_the_best_of_all_that_end_in_several_ways():
    """By one of two tokens, or by two others in a row."""
    gpt, alpha = model(vocabulary=4), 0.6
    found: Found = []
    for line in product(range(4), repeat=4):
        ends = [n for n in range(1, 5) if line[n - 1] in (0, 2) or line[:n][-2:] == (1, 3)]
        new = list(line[: min(ends, default=4)])
        if new not in (other for other, _ in found):
            steps = (log_probabilities(gpt, [1, 0, *new[:n]])[new[n]] for n in range(len(new)))
            found.append((new, float(sum(steps)) / penalty(len(new), alpha)))
    (got,) = beam_search(
        gpt, [[1, 0]], 4, 256, eos=(0, 2), ends=lambda new: list(new[-2:]) == [1, 3], length_penalty=alpha
    )
    same(got, best(found, 256))


@pytest.mark.parametrize("context", [32, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("beams", [1, 2, 5])
def test_narrow_beams_are_those_of_the_textbook_though_they_stop_early(beams, alpha, context):
    for seed in (1, 2, 3):
        gpt = model(context=context, vocabulary=5, seed=seed)
        expected = plain_beams(gpt, [1, 0, 4], 7, beams, 2, alpha)
        (got,) = beam_search(gpt, [[1, 0, 4]], 7, beams, eos=2, length_penalty=alpha)
        same(got, expected)


def test_beams_stop_as_soon_as_nothing_can_overtake(steps):
    gpt = model(vocabulary=5)
    gpt.head.weight.data[2] *= 0
    gpt.head.weight.data[2] += 20 * gpt.core.norm.bias / gpt.core.norm.bias.square().sum()
    gpt.core.norm.weight.data.zero_()  # token 2 has nearly all the probability
    beam_search(gpt, [[1, 0]], 30, 2, eos=2, length_penalty=0.6)
    assert len(steps) < 10


def test_one_beam_without_an_end_is_greedy():
    gpt = model()
    ((found,),) = beam_search(gpt, [[3, 1]], 10, beams=1)
    assert [found.tokens] == greedy(gpt, [[3, 1]], 10)


@pytest.mark.parametrize("position", ["rotary", "learned", "alibi"])
@pytest.mark.parametrize("eos", [None, 2])
def test_every_prompt_of_a_batch_is_searched_as_if_alone(eos, position):
    """Prompts of several lengths; some searches are over long before others."""
    prompts = [[3, 1, 4], [1], [4, 0, 0, 1, 3]]
    for seed in range(6):
        gpt = model(position, context=32, vocabulary=5, seed=seed)
        together = beam_search(gpt, prompts, 8, 3, eos=eos)
        for prompt, got in zip(prompts, together, strict=True):
            (alone,) = beam_search(gpt, [prompt], 8, 3, eos=eos)
            same(got, alone)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_fewer_hypotheses_are_the_same_ones_found_sooner(alpha, steps):
    prompts, lengths = [[3, 1, 4], [1], [4, 0, 0, 1, 3]], []
    for seed in range(6):
        gpt = model(context=32, vocabulary=5, seed=seed)
        whole = beam_search(gpt, prompts, 8, 5, eos=2, length_penalty=alpha)
        for n_best in (1, 2, 5):
            steps.clear()
            few = beam_search(gpt, prompts, 8, 5, eos=2, length_penalty=alpha, n_best=n_best)
            lengths.append(sum(len(logits) for _, logits in steps))
            for got, expected in zip(few, whole, strict=True):
                same(got, expected[:n_best])
    assert sum(lengths[0::3]) < sum(lengths[1::3]) < sum(lengths[2::3])


def test_beams_that_have_ended_everywhere_end_the_search(steps):
    """Nothing is open once every token ends."""
    ((found,),) = beam_search(model(vocabulary=4), [[1, 0]], 30, 1, eos=range(4))
    assert len(found.tokens) == len(steps) == 1


@torch.inference_mode()
def bound_alone(decoder: Decoder, memory: Tensor, prompt: list[int], count: int) -> Found:
    """All continuations of one prompt from one source, with their scores."""
    found: Found = [([], 0.0)]
    for _ in range(count):
        found = [
            ([*new, token], score + float(extra))
            for new, score in found
            for token, extra in enumerate(
                decoder(torch.tensor([prompt + new]), memory=memory[None])[0, -1].log_softmax(-1)
            )
        ]
    return found


def test_a_decoder_bound_to_its_sources_is_searched_in_a_batch():
    decoder, lengths = model(vocabulary=4, role="cross"), torch.tensor([6, 2])
    memory, prompts = tokens(2, 6), [[1], [3, 0, 2]]
    bound = Bound(decoder, memory, padding(lengths))
    for beams in (3, 64):
        found = beam_search(bound, prompts, 3, beams, length_penalty=0.0)
        for got, source, length, prompt in zip(found, memory, lengths, prompts, strict=True):
            expected = best(bound_alone(decoder, source[:length], prompt, 3), 64)
            same(got, expected) if beams == 64 else None
            alone = beam_search(Bound(decoder, source[None, :length]), [prompt], 3, beams, length_penalty=0.0)
            same(got, alone[0])


@pytest.mark.parametrize("beams", [1, 2, 3])
@pytest.mark.parametrize("sources", [3, 6])
def test_prompts_that_are_over_leave_the_batch_with_their_sources(sources, beams, steps):
    """Of six prompts, two each of a source where there are three; some leave at the first step, as others branch."""
    counts = set()
    for seed in range(6):
        decoder, memory = model(vocabulary=4, role="cross", seed=seed), 3 * tokens(sources, 6, seed=seed)
        lengths, each = torch.randint(1, 7, (sources,)), 6 // sources
        options = {"eos": (1, 2), "length_penalty": 0.0, "n_best": 1}
        steps.clear()
        together = beam_search(Bound(decoder, memory, padding(lengths)), [[1]] * 6, 9, beams, **options)
        counts |= {tuple(len(logits) for _, logits in steps)}
        for row, got in enumerate(together):
            source = memory[row // each, None, : lengths[row // each]]
            (alone,) = beam_search(Bound(decoder, source), [[1]], 9, beams, **options)
            same(got, alone)
    assert all(rows[-1] < 6 * beams for rows in counts)
    assert beams < 3 or any(rows[1] == 6 for rows in counts)  # two prompts that stay, of three beams each


@pytest.mark.parametrize("stopped", [1, 2])
def test_rows_that_have_stopped_leave_the_batch_with_their_sources(stopped, steps):
    decoder, memory = model(role="cross", seed=2), tokens(3, 6)
    free = complete(Bound(decoder, memory), [[3, 1]] * 6, 12, LOUD, seeds=[5])  # two rows a source
    stop = [row[stopped] for row in free[:3]]
    steps.clear()
    rows = complete(Bound(decoder, memory), [[3, 1]] * 6, 12, LOUD, seeds=[5], stop=stop)
    assert rows == [row[: min((row.index(s) for s in stop if s in row), default=11) + 1] for row in free]
    assert len(steps[0][1]) == 6 > len(steps[stopped + 1][1])


def test_a_bound_decoder_generates_for_each_source_its_own():
    decoder, memory = model(role="cross", seed=2), tokens(2, 6)
    rows = complete(Bound(decoder, memory), [[3, 1]] * 4, 8, Sampling(temperature=0))  # two rows a source
    for source, row in zip((0, 0, 1, 1), rows, strict=True):
        assert [row] == complete(Bound(decoder, memory[source : source + 1]), [[3, 1]], 8, Sampling(temperature=0))
    assert rows[0] != rows[2]
    with pytest.raises(ValueError, match="memory of 2 rows .* 3 rows"):
        complete(Bound(decoder, memory), [[3, 1]] * 3, 8)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"prompts": [[1], []]}, "prompt 1 is empty"),
        ({"prompts": []}, "prompts = "),
        ({"beams": 0}, "beams = 0"),
        ({"tokens": 0}, "tokens = 0"),
        ({"n_best": 0}, "n_best = 0 must be at least 1 and at most beams = 2"),
        ({"n_best": 3}, "n_best = 3 must be at least 1 and at most beams = 2"),
        ({"length_penalty": -1.0}, r"length_penalty = -1\.0 must be at least 0"),
    ],
)
def test_beam_search_refuses_what_it_cannot_do(given, sentence):
    arguments = {"prompts": [[1, 2]], "tokens": 3, "beams": 2} | given
    with pytest.raises(ValueError, match=sentence):
        beam_search(model(), **arguments)
