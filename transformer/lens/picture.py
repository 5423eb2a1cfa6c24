"""Panels as one PNG."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import wrap

import numpy as np

from ..files import replace
from .panels import Attention, Bars, Curves, HeatMap

SEQUENTIAL, DIVERGING = "Blues", "RdBu"
NARROW, WIDE = 4.0, 14.0  # inches
MOST_SIGNS, MOST_IN_CELL, MOST_SMALL = 32, 11, 12  # of a label; of what stands in a cell, and at attention
SMALL = 5  # points, of the labels at attention


def draw(panels, png: Path, title: str = ""):
    """Draw panels below one another and write the file: whole, or not at all. A character without a glyph is a box."""
    import warnings

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = [_size(panel) for panel in panels]
    width, heights = max(w for w, _ in sizes), [h for _, h in sizes]
    figure = pyplot.figure(figsize=(width, sum(heights) + 0.4), dpi=110, layout="constrained")
    parts = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    if title:
        figure.suptitle(_escaped(title), fontsize=10)
    for panel, part, (own, _) in zip(panels, parts, sizes):
        if own < width and not isinstance(panel, Attention):  # to the left, in its own width
            part = part.subfigures(1, 2, width_ratios=(own, width - own))[0]
        _DRAW[type(panel)](panel, part)
    writing = png.with_name(f".writing-{os.getpid()}-{png.name}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            figure.savefig(writing, format="png")
        replace(writing, png)
    finally:
        writing.unlink(missing_ok=True)
        pyplot.close(figure)


def _size(panel) -> tuple[float, float]:
    """(width, height) in inches."""
    if isinstance(panel, HeatMap):
        rows, columns = panel.values.shape
        cell = 0.62 if panel.texts else 0.3
        labels = 0.09 * min(MOST_SIGNS, max(map(len, panel.rows), default=0)) + 1.6
        below = 0.08 * min(MOST_SIGNS, max(map(len, panel.columns), default=0))
        return min(max(NARROW, cell * columns + labels), WIDE), 0.28 * rows + 1.1 + below
    if isinstance(panel, Attention):
        layers, heads = panel.patterns.shape[:2]
        each = min(2.2, WIDE / heads)
        labels = 0.05 * min(MOST_SMALL, max(map(len, panel.tokens))) if _has_labels(panel) else 0.0
        return min(max(NARROW, each * heads + labels), WIDE), each * layers + labels + 0.8
    if isinstance(panel, Bars):
        return 7.0, 0.2 * len(panel.values) + 1.0
    return 7.0, 3.4


def _has_labels(panel: Attention) -> bool:
    """Whether the tokens' labels have room at each head."""
    heads, t = panel.patterns.shape[1:3]
    return min(2.2, WIDE / heads) / (t + t // 8) * 72 > 0.9 * SMALL


def _heat_map(panel: HeatMap, part):
    axes = part.subplots()
    image = axes.imshow(
        panel.values, cmap=DIVERGING if panel.diverging else SEQUENTIAL, vmin=panel.low, vmax=panel.high, aspect="auto"
    )
    axes.set_yticks(range(len(panel.rows)), _plain(panel.rows), fontsize=8)
    upright = max(map(len, panel.columns), default=0) > 3
    axes.set_xticks(range(len(panel.columns)), _plain(panel.columns), fontsize=8, rotation=90 if upright else 0)
    axes.set_xlabel(panel.column_name, fontsize=8)
    axes.set_ylabel(panel.row_name, fontsize=8)
    if panel.texts:
        middle = (panel.low + panel.high) / 2
        for i, row in enumerate(panel.texts):
            for j, text in enumerate(row):
                value = panel.values[i, j]
                far = (
                    abs(value - middle) > 0.3 * (panel.high - panel.low)
                    if panel.diverging
                    else value > 0.6 * panel.high
                )
                text, color = _escaped(text, MOST_IN_CELL), "white" if far else "black"
                axes.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
    part.colorbar(image, ax=axes, fraction=0.04, pad=0.02).ax.tick_params(labelsize=7)
    _titled(part, panel)


def _bars(panel: Bars, part):
    axes, order = part.subplots(), range(len(panel.values))
    colors = ["#2166ac" if v >= 0 else "#b2182b" for v in panel.values]
    axes.barh(order, panel.values, color=colors)
    axes.set_yticks(order, _plain(panel.labels), fontsize=8)
    axes.invert_yaxis()
    axes.axvline(0.0, color="black", linewidth=0.6)
    axes.grid(axis="x", alpha=0.25)
    _titled(part, panel)


def _attention(panel: Attention, part):
    """All patterns as one image with gaps: axes of their own for each head would take a second to lay out."""
    from matplotlib.patches import Rectangle

    layers, heads, t, _ = panel.patterns.shape
    axes, gap = part.subplots(), max(1, t // 8)
    step, labels = t + gap, _plain(panel.tokens, MOST_SMALL)
    image = np.full((layers * step - gap, heads * step - gap), np.nan)
    for i in range(layers):
        for h in range(heads):
            image[i * step : i * step + t, h * step : h * step + t] = panel.patterns[i, h]
            axes.text(h * step + t - 1, i * step, f"{i}.{h}", ha="right", va="top", fontsize=9)  # where no key is seen
    axes.imshow(image, cmap=SEQUENTIAL, vmin=0.0, vmax=1.0)
    labels = labels if _has_labels(panel) else []
    axes.set_xticks(*_ticks(heads, step, labels), fontsize=SMALL, rotation=90)
    axes.set_yticks(*_ticks(layers, step, labels), fontsize=SMALL)
    for i in range(layers):
        for h in range(heads):
            corner = (h * step - 0.5, i * step - 0.5)
            axes.add_patch(Rectangle(corner, t, t, fill=False, linewidth=0.6, edgecolor="0.6", clip_on=False))
    axes.set_frame_on(False)
    axes.tick_params(length=0)
    _titled(part, panel)


def _ticks(count: int, step: int, labels):
    """Positions and labels where the same labels stand at each of `count` blocks."""
    return [k * step + i for k in range(count) for i in range(len(labels))], labels * count


def _curves(panel: Curves, part):
    axes = part.subplots()
    for name, values in panel.lines.items():
        axes.plot(panel.x, values, marker="o", markersize=3, label=_escaped(name))
    axes.set_xlabel(panel.x_name, fontsize=8)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    axes.set_ylim(bottom=min(0.0, np.nanmin([*panel.lines.values()])))
    _titled(part, panel)


_DRAW = {HeatMap: _heat_map, Bars: _bars, Attention: _attention, Curves: _curves}


def _titled(part, panel):
    """Above all of the part, from its left: long labels can leave the axes too little width for it."""
    width = int(_size(panel)[0] * 12)  # characters of this size
    lines = [line for text in (panel.title, panel.note) for line in wrap(text, width)]
    part.suptitle("\n".join(map(_escaped, lines)), fontsize=9, x=0.01, ha="left")


def _escaped(text: str, most: int = 1000) -> str:
    """At most so many signs. A dollar sign is one: matplotlib would set what stands between two as mathematics."""
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


def _plain(labels, most: int = MOST_SIGNS):
    return [_escaped(label, most) for label in labels]
