"""Learning rates as pure functions of the step: `optimizer.set_lr(schedule(step))`, step counted from 0.

A schedule has no state, so continuing a run needs only its settings: to_dict(), and schedule_from_dict() back.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from ..errors import check_number


class Schedule:
    """Base of the schedules: plain settings, saved by name. A subclass defines `at(step)`."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            if name != "decay":
                check_number(type(self).__name__, name, value)

    def __call__(self, step: int) -> float:
        """The learning rate of a step. Raises ValueError for a step below 0."""
        if not step >= 0:
            raise ValueError(f"{type(self).__name__}: steps count from 0, got {step}")
        return self.at(step)

    def at(self, step: int) -> float:
        """The learning rate of a step that is at least 0."""
        raise NotImplementedError(f"{type(self).__name__}: define at(step)")

    def to_dict(self) -> dict:
        """The settings as plain values."""
        return {"schedule": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Constant(Schedule):
    """lr at every step."""

    lr: float

    def at(self, step: int) -> float:
        return self.lr


def _check_minimum(schedule):
    if schedule.min_lr > schedule.lr:
        raise ValueError(f"{type(schedule).__name__}: min_lr must be at most lr={schedule.lr}, got {schedule.min_lr}")


def _warming(lr: float, step: int, warmup_steps: int) -> float:
    # Step 0 already learns: lr / warmup_steps, and the last step of the warm-up has lr itself.
    return lr * (step + 1) / warmup_steps


@dataclass(frozen=True)
class WarmupCosine(Schedule):
    """Linear to lr over warmup_steps, then half a cosine down to min_lr at total_steps, min_lr from there on.

    Loshchilov & Hutter 2017, arXiv:1608.03983.
    """

    lr: float
    warmup_steps: int
    total_steps: int
    min_lr: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        _check_minimum(self)
        if self.total_steps < self.warmup_steps:
            raise ValueError(
                f"WarmupCosine: total_steps must be at least warmup_steps={self.warmup_steps}, got {self.total_steps}"
            )

    def at(self, step: int) -> float:
        if step < self.warmup_steps:
            return _warming(self.lr, step, self.warmup_steps)
        if step >= self.total_steps:
            return self.min_lr
        done = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return self.min_lr + (self.lr - self.min_lr) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class WSD(Schedule):
    """Warm-up, stable, decay: linear to lr, lr for long, then down to min_lr over the last decay_steps.

    The stable part may be continued without knowing its end. decay: "linear", or "sqrt" for 1 - sqrt(progress).
    Hu et al. 2024, arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392.
    """

    lr: float
    warmup_steps: int
    stable_steps: int
    decay_steps: int
    min_lr: float = 0.0
    decay: str = "linear"

    def __post_init__(self):
        super().__post_init__()
        _check_minimum(self)
        if self.decay not in ("linear", "sqrt"):
            raise ValueError(f'WSD: decay must be "linear" or "sqrt", got {self.decay!r}')

    def at(self, step: int) -> float:
        if step < self.warmup_steps:
            return _warming(self.lr, step, self.warmup_steps)
        into_decay = step - self.warmup_steps - self.stable_steps
        if into_decay < 0:
            return self.lr
        if into_decay >= self.decay_steps:
            return self.min_lr
        done = into_decay / self.decay_steps
        return self.min_lr + (self.lr - self.min_lr) * (1.0 - (done if self.decay == "linear" else math.sqrt(done)))


SCHEDULES = {kind.__name__: kind for kind in (Constant, WarmupCosine, WSD)}


def schedule_from_dict(settings: dict) -> Schedule:
    """The schedule that to_dict() described. Raises ValueError for an unknown one."""
    settings = dict(settings or {})
    name = settings.pop("schedule", None)
    if name not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {sorted(SCHEDULES)}, got {name!r}")
    try:
        return SCHEDULES[name](**settings)
    except TypeError as error:
        raise ValueError(f"schedule: the settings do not fit {name}: {error}") from None
