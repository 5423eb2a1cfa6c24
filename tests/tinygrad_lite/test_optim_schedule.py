"""Learning-rate schedules: pure functions of the step, saved as plain values."""

import json
import math

import pytest

from tinygrad_lite import optim


def test_constant():
    assert [optim.Constant(0.5)(step) for step in (0, 7, 10**9)] == [0.5] * 3


def test_cosine_warms_up_passes_the_middle_and_ends_at_the_minimum():
    lr = optim.WarmupCosine(lr=1.0, warmup_steps=10, total_steps=110, min_lr=0.1)
    assert lr(0) == 0.1 and lr(9) == 1.0 and lr(10) == 1.0
    assert math.isclose(lr(60), 0.55) and lr(110) == lr(10**6) == 0.1
    assert all(lr(s) >= lr(s + 1) for s in range(10, 120))


def test_cosine_without_a_warm_up_or_a_decay():
    assert optim.WarmupCosine(1.0, 0, 10)(0) == 1.0
    short = optim.WarmupCosine(1.0, 5, 5, 0.2)
    assert short(4) == 1.0 and short(5) == 0.2


@pytest.mark.parametrize("decay, middle", [("linear", 0.5), ("sqrt", 1 - math.sqrt(0.5))])
def test_wsd_is_stable_between_warm_up_and_decay(decay, middle):
    lr = optim.WSD(lr=1.0, warmup_steps=4, stable_steps=6, decay_steps=10, decay=decay)
    assert [lr(s) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert {lr(s) for s in range(4, 11)} == {1.0}
    assert math.isclose(lr(15), middle) and lr(20) == lr(1000) == 0.0


@pytest.mark.parametrize(
    "schedule", [optim.Constant(0.1), optim.WarmupCosine(0.1, 2, 20, 0.01), optim.WSD(0.1, 2, 3, 4, decay="sqrt")]
)
def test_a_schedule_comes_back_from_its_settings(schedule):
    again = optim.schedule_from_dict(json.loads(json.dumps(schedule.to_dict())))
    assert again == schedule and [again(s) for s in range(30)] == [schedule(s) for s in range(30)]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: optim.Constant(-1.0), "lr must be at least 0"),
        (lambda: optim.WarmupCosine(1.0, 10, 5), "total_steps must be at least warmup_steps=10, got 5"),
        (lambda: optim.WSD(1.0, 1, -1, 1), "stable_steps"),
        (lambda: optim.WSD(1.0, 1, 1, 1, decay="cubic"), "cubic"),
        (lambda: optim.schedule_from_dict({"schedule": "Magic"}), "Magic"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
