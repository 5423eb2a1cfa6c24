"""Lessons that break the engine on purpose: predict, run right and wrong side by side, understand.

    from tinygrad_lite.study.lessons import LESSONS
    print(LESSONS[0].report())

Those of attention and of training stand in transformer/lessons/.
"""

from .arrays import BROADCAST, IN_PLACE, SOFTMAX
from .engine import Engine, run_on
from .lesson import Lesson, Outcome, Row
from .sums import ORDER, OVERWRITE, TWICE, ZERO_GRAD

LESSONS = (OVERWRITE, ORDER, ZERO_GRAD, TWICE, BROADCAST, IN_PLACE, SOFTMAX)

__all__ = ["LESSONS", "Engine", "Lesson", "Outcome", "Row", "run_on"]
