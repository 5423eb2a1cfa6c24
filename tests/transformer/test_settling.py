"""The number of steps that a limit in seconds gives: settled at the start, and again half way, by a clock of the test's own."""

import dataclasses
import shutil
import types

import pytest

from tokenizer import CharTokenizer
from transformer import checkpoint
from transformer.presets import TrainConfig
from transformer.trainer import Trainer, build_schedule

TEXT = "the cat sat on the mat and the dog sat on the log. " * 10
TOK = CharTokenizer.train(TEXT)
IDS = TOK.encode_to_array(TEXT)
NOTHING = types.SimpleNamespace(loss=1.0, bits_per_byte=1.0, tokens=1)  # evaluated


class Machine:
    """A trainer whose steps take what seconds(how many were taken, those that only timed among them) says; its clock."""

    def __init__(self, monkeypatch, seconds, out=None, **changes):
        settings = dict(tokenizer="char", model=dict(layers=1, heads=1, channels=4, block_size=4), batch_size=1, warmup=2,
                        max_seconds=100.0, schedule="wsd", min_lr=0.0, eval_every=10**6, log_every=10**6)  # fmt: skip
        self.now, self.taken, self.rates, self.reports, self.seconds = 0.0, 0, [], [], seconds
        self.trainer = Trainer(TrainConfig(**settings | changes), IDS[:400], IDS[400:], TOK, out)
        self.trainer.report = lambda kind, values: self.reports.append((kind, values))
        monkeypatch.setattr("transformer.trainer.time.perf_counter", lambda: self.now)
        monkeypatch.setattr("transformer.trainer.evaluate", lambda *args, **named: NOTHING)
        monkeypatch.setattr(self.trainer, "train_step", self._step)

    def _step(self, step):
        self.now += self.seconds(self.taken)
        self.taken += 1
        self.rates.append(self.trainer.schedule(step))
        return {"loss": 1.0, "grad_norm": 1.0, "lr": self.rates[-1], "clipped": False}

    def run(self):
        """(steps taken, seconds they took, rate of each) of the run itself."""
        self.trainer.settle_steps()
        began, self.rates = self.now, []
        self.trainer.run()
        return len(self.rates), self.now - began, self.rates

    def told(self, kind):
        return [values for name, values in self.reports if name == kind]


SLOW_MOMENT = lambda taken: 1.0 if taken < 9 else 0.4  # noqa: E731
FAST_MOMENT = lambda taken: 0.2 if taken < 50 else 0.5  # noqa: E731


@pytest.mark.parametrize("schedule", ["wsd", "constant"])
@pytest.mark.parametrize(
    "seconds", [SLOW_MOMENT, FAST_MOMENT, lambda taken: 0.3, lambda taken: 0.2 + 0.1 * (taken % 7)]
)
def test_the_number_of_steps_is_settled_again_half_way(tmp_path, monkeypatch, seconds, schedule):
    machine = Machine(monkeypatch, seconds, tmp_path, schedule=schedule)
    steps, took, rates = machine.run()
    (first,), (settled,) = machine.told("calibrated"), machine.told("settled")
    assert first["again"] and settled["before"] == first["steps"] and settled["steps"] == steps
    assert 85 <= took <= 112  # of 100: without what timing took; the half that comes may differ from the one that was
    expected = build_schedule(dataclasses.replace(machine.trainer.config, steps=steps))
    assert rates == [expected(i) for i in range(steps)]  # those of a run with so many --steps
    assert all(a >= b for a, b in zip(rates[2:], rates[3:])) and (schedule == "constant" or rates[-1] < 0.02 * rates[2])
    assert checkpoint.load(tmp_path)[2]["train"]["steps"] == steps


def test_without_it_a_slow_moment_would_have_halved_the_run(monkeypatch):
    machine = Machine(monkeypatch, SLOW_MOMENT, schedule="cosine")  # whose rate depends on the end from the start
    steps, took, rates = machine.run()
    assert took < 45 and machine.told("settled") == [] and not machine.told("calibrated")[0]["again"]
    assert all(a >= b for a, b in zip(rates[2:], rates[3:]))


def test_a_machine_that_stops_in_the_middle_lengthens_the_run_but_never_lets_the_rate_jump(monkeypatch):
    machine = Machine(monkeypatch, lambda taken: 60.0 if taken == 60 else 0.5)
    steps, took, rates = machine.run()
    assert all(0 <= a - b < 0.05 * rates[2] for a, b in zip(rates[2:], rates[3:]))
    assert steps == machine.told("settled")[0]["steps"] < machine.told("settled")[0]["before"]


def test_a_resumed_run_keeps_the_number_that_was_settled(tmp_path, monkeypatch):
    machine = Machine(monkeypatch, SLOW_MOMENT, tmp_path)
    real = machine.trainer.report

    def killed(kind, values):
        real(kind, values)
        if kind == "save":
            raise KeyboardInterrupt

    machine.trainer.report = killed  # at the first save, the one that settling again makes
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    (settled,) = machine.told("settled")
    state = checkpoint.load(tmp_path)[2]
    assert state["train"]["steps"] == settled["steps"] != settled["before"]
    assert 0 < state["progress"]["step"] < settled["steps"] - 1
    again = Machine(monkeypatch, lambda taken: 5.0, tmp_path)  # much slower now
    again.trainer.resume(tmp_path)
    steps, _, _ = again.run()
    assert (
        steps == settled["steps"] - state["progress"]["step"]
        and again.told("settled") == again.told("calibrated") == []
    )


def test_a_run_that_was_stopped_before_half_way_keeps_the_first_number(tmp_path, monkeypatch):
    machine = Machine(monkeypatch, SLOW_MOMENT, tmp_path)
    machine.trainer.settle_steps()
    first, step = machine.told("calibrated")[0]["steps"], machine.trainer.train_step

    def stopping(number):
        machine.trainer.stop_requested = number == 4
        return step(number)

    monkeypatch.setattr(machine.trainer, "train_step", stopping)
    machine.trainer.run()
    shutil.copytree(tmp_path, tmp_path / "copy")
    machine.trainer.stop_requested = False
    assert machine.trainer.run().step == first and machine.told("settled") == []
    again = Machine(monkeypatch, lambda taken: 0.1)  # in another process
    again.trainer.resume(tmp_path / "copy")
    assert again.run()[0] == first - 5 and again.told("settled") == []
