"""The loss curve: a PNG, and the same in the terminal."""

from __future__ import annotations

from pathlib import Path

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
        import plotext

        plotext.clear_figure()
        plotext.plot(*zip(*train), label="training")
        if val:
            plotext.plot(*zip(*val), label="held out")
        plotext.theme("clear")
        plotext.plot_size(min(console.width, 100), 16)
        plotext.xlabel("step")
        plotext.ylabel("nats a token")
        print(plotext.build())


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
    writing.replace(png)
    pyplot.close(figure)
