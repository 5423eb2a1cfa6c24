"""The loss curve: a PNG, and the same in the terminal."""

from __future__ import annotations

import math
from pathlib import Path

from ..files import replace
from ..log import read_log


def loss_curve(log: Path, png: Path, console=None):
    """Draw training and held-out loss against the step, from a log."""
    entries = read_log(log)
    train = [(e["step"], e["loss"]) for e in entries if "loss" in e]
    val = [(e["step"], e["val_loss"]) for e in entries if "val_loss" in e]
    if not train:
        return
    _png(train, val, png)
    if console is not None and console.is_terminal:
        curve = text_curve(train, val, width=min(console.width, 100), color=not console.no_color)
        if is_printable(curve, console.encoding):
            console.file.write(curve + "\n")


def is_printable(text: str, encoding: str) -> bool:
    """Whether a terminal can show it: many on Windows have no Braille, which the curve is made of."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def text_curve(train, val, width: int, color: bool = False, *, labels=("training", "held out"), what="nats a token",
               marker: str | None = "o") -> str:  # fmt: skip
    """Two curves in characters: (step, value) pairs, of training and of held-out text say, `width` columns wide.

    labels: of the two; what: the values' name and unit; marker: a letter at each point of the second, or None.
    """
    import plotille

    figure = plotille.Figure()
    columns, last = _round_ticks(train[-1][0], max(20, width - 28))
    figure.width, figure.height, figure.color_mode, figure.with_colors = columns, 12, "names", color
    figure.x_label, figure.y_label = "step", what
    figure.set_x_limits(0, last)
    losses = [loss for _, loss in (*train, *val)]
    room = 0.05 * (max(losses) - min(losses)) + 0.01
    figure.set_y_limits(min(losses) - room, max(losses) + room)
    figure.x_ticks_fkt = lambda low, high: f"{low:,.0f}"
    figure.y_ticks_fkt = lambda low, high: f"{low:.2f}"
    figure.plot(*zip(*train), label=labels[0], lc="cyan" if color else None)
    if val:
        figure.plot(*zip(*val), label=labels[1], lc="red" if color else None, marker=marker)
    return figure.show(legend=True)


def _round_ticks(steps: int, columns: int) -> tuple[int, float]:
    """(columns, step at their end): not more columns than given, so that the ticks, ten columns apart, are round.

    The last step lies within the last column: on its far edge, a point would not be drawn.
    """
    tenths = max(steps, 2) * 10
    least = tenths / (columns - 1)  # steps from one tick to the next
    power = 10 ** math.floor(math.log10(least))
    tick = max(1, math.ceil(next(n * power for n in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if n * power >= least)))
    columns = tenths // tick + 1
    return columns, columns * tick / 10


def _png(train, val, png: Path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=120)
    axes.plot(*zip(*train), linewidth=0.8, color="#7aa6c2", label="training")
    if val:
        axes.plot(*zip(*val), marker="o", markersize=3, color="#b3402a", label="held out")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats a token")
    axes.grid(alpha=0.25)
    axes.legend()
    figure.tight_layout()
    writing = png.with_name(".writing-" + png.name)
    figure.savefig(writing, format="png")
    replace(writing, png)
    pyplot.close(figure)
