"""The learning rate over a budget of steps or of minutes."""

from __future__ import annotations

import itertools
import math
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.optim.config import OptimizerConfig, ScheduleConfig
from core.training.config import RunConfig
from core.training.progress import Clock

KINDS = ("cosine", "wsd", "inverse-sqrt", "constant")
ENDS = {"cosine": 0.1, "wsd": 0.1, "inverse-sqrt": math.sqrt(0.2), "constant": 1.0}


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_rises_over_the_warmup_and_then_never_again(kind: str) -> None:
    config = ScheduleConfig(kind=kind, warmup=0.2, decay=0.3, final=0.1)
    curve = [config.multiplier(i / 1000) for i in range(1001)]
    assert curve[:200] == pytest.approx([i / 200 for i in range(200)])
    assert curve[200] == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(curve[200:]))
    assert curve[-1] == pytest.approx(ENDS[kind])


def test_the_shapes_are_those_of_their_names() -> None:
    cosine = ScheduleConfig(kind="cosine", warmup=0.2, final=0.0)
    assert cosine.multiplier(0.6) == pytest.approx(0.5)  # half way down half a cosine
    assert cosine.multiplier(0.4) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    wsd = ScheduleConfig(kind="wsd", warmup=0.1, decay=0.4, final=0.2)
    assert wsd.multiplier(0.6) == 1.0
    assert wsd.multiplier(0.8) == pytest.approx(0.6)


def test_the_inverse_square_root_is_the_formula_of_the_paper() -> None:
    """Vaswani 2017, eq. 3, as a multiple of its peak, at 4,000 steps of warm-up in 100,000."""
    config = ScheduleConfig(kind="inverse-sqrt", warmup=0.04)
    for step in (1, 400, 3_999, 4_000, 4_001, 16_000, 100_000):
        formula = min(step**-0.5, step * 4_000**-1.5) / 4_000**-0.5
        assert config.multiplier(step / 100_000) == pytest.approx(formula)
    with pytest.raises(ValueError, match="warmup = 0.* must be above 0 for kind = 'inverse-sqrt'"):
        ScheduleConfig(kind="inverse-sqrt", warmup=0.0)


@given(st.sampled_from(KINDS), st.floats(0, 0.5), st.floats(0.01, 0.5), st.floats(0, 1), st.floats(-1, 3))
def test_the_rate_is_always_between_zero_and_its_peak(
    kind: str, warmup: float, decay: float, final: float, spent: float
) -> None:
    assume(kind != "inverse-sqrt" or warmup > 0)
    config = ScheduleConfig(kind=kind, warmup=warmup, decay=decay, final=final)
    assert 0.0 <= config.multiplier(spent) <= 1.0 + 1e-12


def test_a_budget_counts_steps_or_minutes() -> None:
    steps, minutes = Clock(steps=200, minutes=None), Clock(steps=None, minutes=0.5)
    assert (steps.spent(50, 1e9), minutes.spent(10**9, 15.0)) == (0.25, 0.5)
    minutes.before = 10.0
    assert minutes.left(7) == pytest.approx(20.0, abs=1.0)
    assert (steps.left(0), steps.left(200)) == (math.inf, 0.0)
    assert [steps.spent(step, 0.0) >= 1.0 for step in (199, 200, 201)] == [False, True, True]
    assert [minutes.spent(0, seconds) >= 1.0 for seconds in (29.9, 30.0)] == [False, True]


def test_a_clock_of_processor_time_stands_still_while_the_process_waits() -> None:
    wall, cpu = Clock(None, 1.0), Clock(None, 1.0, "cpu")
    time.sleep(0.3)
    assert wall.seconds >= 0.3 > cpu.seconds + 0.1


def test_what_is_left_of_the_steps_goes_at_the_pace_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("core.training.progress.time.monotonic", lambda: now)
    clock = Clock(steps=200, minutes=None)
    now = 2.0
    clock.note(10)
    now = 10.0
    clock.note(50)
    assert clock.left(50) == pytest.approx(30.0)  # 0.2 seconds a step


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "minutes = None: exactly one"),
        ({"steps": 5, "minutes": 1.0}, "exactly one"),
        ({"steps": 0}, "steps = 0 must be above 0"),
        ({"steps": 5, "batch_size": 10, "accumulate": 4}, "accumulate = 4 must divide batch_size = 10"),
        ({"steps": 5, "precision": "fp8"}, "precision = 'fp8' is not one of: auto, fp32, bf16, fp16"),
        ({"steps": 5, "ema": 1.0}, "ema = 1.0 must be at least 0 and below 1"),
        ({"steps": 5, "clip": -1.0}, "clip = -1.0 must be at least 0"),
    ],
)
def test_impossible_runs_are_refused(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RunConfig(**settings)


def test_impossible_optimizers_and_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="betas"):
        OptimizerConfig(betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="lr = 0.0 must be above 0"):
        OptimizerConfig(lr=0.0)
    with pytest.raises(ValueError, match="add up to at most 1"):
        ScheduleConfig(kind="wsd", warmup=0.6, decay=0.5)
