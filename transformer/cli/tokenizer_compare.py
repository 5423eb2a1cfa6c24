"""`tgl tokenizer compare`: its table and its plot."""

from __future__ import annotations

import os
from pathlib import Path

from rich.cells import cell_len
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tokenizer import TokenizerError
from tokenizer.compare import PASSES, Comparison, compare

from ..files import replace
from .screen import Screen
from .tokenizer_files import read_tokenizer

TITLES = ("tokenizer", "kind", "vocabulary", "tokens", "bytes/token", "tokens/word", "ids used", "MB/s", "lossless")
COLOURS = ("#7aa6c2", "#b3402a", "#6b9e5b", "#8c6bb1", "#c9a227", "#5b5b5b")


def compare_all(paths: list[Path], text: str | bytes, errors: Screen) -> list[Comparison]:
    """Each tokenizer on the same text, in turns; a bar on the errors' screen tells how far it is."""
    if isinstance(text, bytes):
        raise ValueError("the text to compare on is not UTF-8, so it has no words to count: convert it first")
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=errors, transient=True
    ) as bar:
        task = bar.add_task("", total=PASSES * len(paths))
        found = []
        for number, (path, name) in enumerate(zip(paths, short_names(paths), strict=True)):
            bar.update(task, description=name)
            show = lambda done, number=number: bar.update(task, completed=PASSES * number + done)
            try:
                found.append(compare(name, lambda path=path: read_tokenizer(path), text, show))
            except TokenizerError as error:
                raise ValueError(f"{path}: {error}") from error
    return found


def short_names(paths: list[Path]) -> list[str]:
    """The files' names alone where these differ, else as much of their paths as tells them apart."""
    names = [path.name for path in paths]
    if len(set(names)) == len(paths):
        return names
    folders = {str(path.parent) for path in paths}
    common = Path(os.path.commonpath(folders)) if len(folders) > 1 else None
    return [str(path.relative_to(common) if common and common != Path(".") else path) for path in paths]


def table(found: list[Comparison]) -> list[str]:
    """A line of titles and one for each tokenizer, as wide as it takes."""
    rows = [TITLES]
    for one in found:
        rows.append((
            one.name, one.kind, f"{one.vocab_size:,}", f"{one.tokens:,}", f"{one.bytes_per_token:.3f}",
            "-" if one.tokens_per_word is None else f"{one.tokens_per_word:.3f}", f"{one.used_share:.1%}",
            f"{one.mb_per_s:.1f}", "yes" if one.lossless else "no",
        ))  # fmt: skip
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_padded(*cell) for cell in zip(row, widths, range(len(widths)), strict=True)) for row in rows]


def _padded(text: str, width: int, column: int) -> str:
    room = " " * (width - cell_len(text))
    return text + room if column < 2 else room + text  # names to the left, figures to the right


def draw(found: list[Comparison], png: Path):
    """Four bar charts that share their names: what a tokenizer is compared by."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    charts = (
        ("bytes a token", [one.bytes_per_token for one in found], "{:.2f}"),
        ("tokens a word", [one.tokens_per_word or 0 for one in found], "{:.2f}"),
        ("ids used, % of the vocabulary", [100 * one.used_share for one in found], "{:.0f}"),
        ("MB/s, one thread", [one.mb_per_s for one in found], "{:.1f}"),
    )
    names = [f"{one.name}\n{one.kind}, {one.vocab_size:,}" for one in found]
    figure, axes = pyplot.subplots(1, 4, figsize=(12, 1.2 + 0.6 * len(found)), dpi=120, sharey=True)
    for ax, (title, values, form) in zip(axes, charts, strict=True):
        bars = ax.barh(range(len(found)), values, color=[COLOURS[n % len(COLOURS)] for n in range(len(found))])
        ax.bar_label(bars, [form.format(value) for value in values], padding=3, fontsize=9)
        ax.set_title(title, fontsize=10)
        ax.set_xlim(0, 1.25 * max(values) or 1)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", alpha=0.25)
    axes[0].set_yticks(range(len(found)), names, fontsize=9)
    axes[0].invert_yaxis()
    figure.tight_layout()
    writing = png.with_name(".writing-" + png.name)
    figure.savefig(writing, format="png")
    replace(writing, png)
    pyplot.close(figure)
