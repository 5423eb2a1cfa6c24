"""Studying what the engine does: traces, one op at a time."""

from .anomaly import detect_anomaly
from .origin import AnomalyError, Origin
from .picture import Picture, draw_graph
from .replay_file import replay
from .source import Place
from .stepper import Stepper
from .trace import BackwardStep, Event, Trace, Tracer

__all__ = [
    "AnomalyError", "BackwardStep", "Event", "Origin", "Picture", "Place", "Stepper", "Trace", "Tracer", "detect_anomaly",
    "draw_graph", "replay",
]  # fmt: skip
