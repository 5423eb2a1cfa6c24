"""Studying what the engine does: traces, one op at a time."""

from .source import Place
from .stepper import Stepper
from .trace import BackwardStep, Event, Trace, Tracer

__all__ = ["BackwardStep", "Event", "Place", "Stepper", "Trace", "Tracer"]
