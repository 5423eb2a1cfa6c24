"""What is shown, before it is drawn: panels, which picture.py draws as PNG and page.py writes as HTML."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class HeatMap(NamedTuple):
    """A matrix: rows and columns are labels, one a row and one a column.

    low, high: the values at the ends of the colour scale; a `diverging` scale has its neutral colour half way.
    texts: what stands in each cell, rows of strings, or None. note: a sentence below the title.
    """

    title: str
    rows: list[str]
    columns: list[str]
    values: np.ndarray
    low: float = 0.0
    high: float = 1.0
    diverging: bool = False
    texts: list[list[str]] | None = None
    note: str = ""
    row_name: str = ""
    column_name: str = ""


class Bars(NamedTuple):
    """Numbers with names, of both signs."""

    title: str
    labels: list[str]
    values: np.ndarray
    note: str = ""


class Attention(NamedTuple):
    """Patterns (layers, H, T, T) over the same T tokens, each row of a pattern a query; `head` is shown first."""

    title: str
    tokens: list[str]
    patterns: np.ndarray
    note: str = ""
    head: tuple[int, int] = (0, 0)


class Curves(NamedTuple):
    """Lines over the same x: name to values (NaN where there is none)."""

    title: str
    x: list[float]
    lines: dict[str, list[float]]
    x_name: str
    note: str = ""


def layer_names(layers: int) -> list[str]:
    """Row labels of a matrix by layer."""
    return [f"layer {i}" for i in range(layers)]


def by_head(title: str, scores: np.ndarray, note: str = "", diverging: bool = False) -> HeatMap:
    """A (layers, H) matrix with its numbers in the cells."""
    layers, heads = scores.shape
    texts = [[f"{v:.2f}" for v in row] for row in np.round(scores, 2) + 0.0]  # + 0.0: no minus before a zero
    low, high = (-1.0, 1.0) if diverging else (0.0, 1.0)
    columns = [str(h) for h in range(heads)]
    return HeatMap(title, layer_names(layers), columns, scores, low, high, diverging, texts, note, "", "head")
