"""`draw_graph`: a computation as SVG, with values, gradients and shapes, folded by module. A browser is all it needs."""

from __future__ import annotations

import os
import re
import sys
from html import escape
from pathlib import Path
from unicodedata import east_asian_width

from ..errors import several
from ..tensor import Tensor
from ..tensor.arguments import integer
from .graph import NAME, Box, Graph, of_tensor, of_trace
from .layout import layered
from .trace import Trace

_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
CHARACTER, LINE, PAD = 7.25, 17, 9  # of the 12 px monospace text, in px
STYLE = """
.tgl-graph{--paper:#fcfcfa;--ink:#1d2329;--soft:#6b7580;--line:#b9bfc5;--card:#fff;--op:#b8500c;--grad:#b3126a;
--leaf:#e6f2e2;--leafline:#7fae72;--constant:#f0f0ec;--module:#e5ecfb;--moduleline:#7d9add;--fused:#d9a066}
@media (prefers-color-scheme:dark){.tgl-graph{--paper:#14171d;--ink:#e4e8ee;--soft:#98a3af;--line:#4a5361;--card:#1e232c;
--op:#ffa45c;--grad:#ff7ab8;--leaf:#1f3322;--leafline:#5d9160;--constant:#262a31;--module:#1f2c4a;--moduleline:#5c7dc4;
--fused:#9a6b36}}
.tgl-graph text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:var(--ink);
white-space:pre}
.tgl-graph .paper{fill:var(--paper)}.tgl-graph .edge{fill:none;stroke:var(--line);stroke-width:1.4}
.tgl-graph .tip{fill:var(--line)}.tgl-graph .uses{fill:var(--soft);font-size:10px}
.tgl-graph .card{fill:var(--card);stroke:var(--line)}.tgl-graph .leaf .card{fill:var(--leaf);stroke:var(--leafline)}
.tgl-graph .constant .card{fill:var(--constant)}.tgl-graph .fused .card{stroke:var(--fused)}
.tgl-graph .module .card{fill:var(--module);stroke:var(--moduleline)}.tgl-graph .rest .card{stroke-dasharray:4 3}
.tgl-graph .output .card{stroke:var(--ink);stroke-width:2}
.tgl-graph .name{font-weight:600}.tgl-graph .op{fill:var(--op);font-weight:600}.tgl-graph .what{fill:var(--soft)}
.tgl-graph .grad{fill:var(--grad)}
"""  # fmt: skip


class Picture:
    """An SVG: shown by itself in a notebook, written by `save`. `graph` holds the boxes and edges."""

    def __init__(self, svg: str, graph: Graph):
        self.svg, self.graph = svg, graph

    def _repr_svg_(self):
        return self.svg

    def __repr__(self):
        boxes, edges = len(self.graph.boxes), len(self.graph.edges)
        return f"<Picture: {boxes:,} boxes, {edges:,} edges; .save('graph.svg') writes it>"

    def save(self, path) -> Path:
        """Write the SVG to a file, whole or not at all. Returns its path."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_text(self.svg, encoding="utf-8")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        return path


def draw_graph(what, *, trace: Trace | None = None, open=(), most: int = 500, direction: str = "down") -> Picture:
    """A picture of a computation: for each result its name, op, shape, value, and gradient once backward has passed.

        with Trace(model) as trace:
            loss = model(x, y)
            loss.backward()
        draw_graph(trace)

    what       a Trace, or a Stepper; or a Tensor, of which the recorded graph is drawn, with the caller's names for it.
               With `trace` too, the part of the trace that leads to the Tensor
    open       paths of modules to look into: "blocks.0", or with stars; "all" for every op. Others are one box each
    most       boxes; what ran before the last so many is one box
    direction  "down" or "right"

    Gradients that are not known are left out: before backward() there are none. Raises TypeError for something else,
    ValueError for a Tensor that was not recorded, or a module to open that did not run.
    """
    open = (
        (open,) if isinstance(open, str) else tuple(several("draw_graph", "a module's path or several as open", open))
    )
    if direction not in ("down", "right"):
        raise ValueError(f"draw_graph: direction must be 'down' or 'right', got {direction!r}")
    if integer("draw_graph", "most", most) < 1:
        raise ValueError(f"draw_graph: most must be at least 1 box, got {most}")
    output = what if isinstance(what, Tensor) else getattr(what, "output", None)
    trace = what if isinstance(what, Trace) else getattr(what, "trace", None) or trace
    if isinstance(trace, Trace):
        if not len(trace):
            raise ValueError("draw_graph: no op ran in the trace")
        graph = of_trace(trace, output, open, most)
    elif isinstance(output, Tensor):
        frame = sys._getframe(1)
        graph = of_tensor(output, {**frame.f_globals, **frame.f_locals}, most)
    else:
        raise TypeError(f"draw_graph: expected a Tensor, a Trace or a Stepper, got {type(what).__name__}")
    return Picture(_svg(graph, direction), graph)


def _text(text):
    """Text for XML, which has neither control characters nor halves of a surrogate pair."""
    return escape(_NOT_XML.sub("\ufffd", text))


def _cut(text):
    """A long expression by its beginning, a long path by its end."""
    if len(text) <= NAME:
        return text
    return f"…{text[1 - NAME :]}" if text.replace(".", "").isidentifier() else f"{text[: NAME - 1]}…"


def _columns(text):
    """How many columns of monospace text, where Chinese and Japanese characters take two each."""
    return sum(1 + (east_asian_width(character) in "WF") for character in text)


def _size(box: Box):
    head = _columns(_cut(box.name)) + (_columns(box.op) + 2 if box.op else 0)
    rows = [_columns(f"{what} {text}" if what else text) for what, text in box.rows]
    return max([head, *rows, 6]) * CHARACTER + 2 * PAD, LINE * (1 + len(box.rows)) + PAD


def _svg(graph, direction):
    sizes = [_size(box) for box in graph.boxes]
    is_down = direction == "down"
    edges = [(u, v) for u, v, _ in graph.edges]
    layout = layered(sizes if is_down else [(h, w) for w, h in sizes], edges, *(() if is_down else (16, 48)))
    turned = (lambda p: p) if is_down else (lambda p: (p[1], p[0]))
    width, height = turned((layout.width, layout.height))
    margin = 12
    parts, passed = [], {}
    for (u, v, uses), route in zip(graph.edges, layout.routes, strict=True):
        points = [turned(p) for p in route]
        known, shared = passed.setdefault(u, set()), 0
        while shared + 2 < len(points) and points[shared + 1] in known:  # a way that long edges share is drawn once
            shared += 1
        known.update(points[:-1])
        parts.append(f'<path class="edge" d="{_path(points[shared:], is_down)}"/>' + _arrow(points[-1], is_down))
        if uses > 1 and graph.boxes[v].kind in ("op", "fused"):  # c + c
            (x, y), (x2, y2) = points[-2:]
            parts.append(f'<text class="uses" x="{(x + x2) / 2 + 4:.1f}" y="{(y + y2) / 2:.1f}">{uses}×</text>')
    for box, size, place in zip(graph.boxes, sizes, layout.places, strict=True):
        parts.append(_box(box, size, turned(place)))
    w, h = width + 2 * margin, height + 2 * margin
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tgl-graph" width="{w:.0f}" height="{h:.0f}" '
        f'viewBox="{-margin} {-margin} {w:.0f} {h:.0f}" style="max-width:100%;height:auto" role="img">'
        f"<style>{STYLE}</style>"
        f'<rect class="paper" x="{-margin}" y="{-margin}" width="{w:.0f}" height="{h:.0f}" rx="6"/>'
        + "".join(parts)
        + "</svg>"
    )


def _path(points, is_down):
    """A smooth line through points: it leaves and arrives along the direction of the graph."""
    x, y = points[0]
    text = f"M{x:.1f} {y:.1f}"
    for x2, y2 in points[1:]:
        if (x if is_down else y) == (x2 if is_down else y2):
            text += f"L{x2:.1f} {y2:.1f}"
        else:
            mx, my = (x + x2) / 2, (y + y2) / 2
            text += (
                f"C{x:.1f} {my:.1f} {x2:.1f} {my:.1f} {x2:.1f} {y2:.1f}"
                if is_down
                else f"C{mx:.1f} {y:.1f} {mx:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
            )
        x, y = x2, y2
    return text


def _arrow(point, is_down):
    x, y = point
    ends = ((-3.5, -7), (3.5, -7)) if is_down else ((-7, -3.5), (-7, 3.5))
    (a, b), (c, d) = ends
    return f'<path class="tip" d="M{x:.1f} {y:.1f}L{x + a:.1f} {y + b:.1f}L{x + c:.1f} {y + d:.1f}Z"/>'


def _box(box, size, place):
    w, h = size
    x, y = place[0] - w / 2, place[1] - h / 2
    lines = [f'<text class="name" x="{x + PAD:.1f}" y="{y + LINE - 2:.1f}">{_text(_cut(box.name))}</text>']
    if box.op:
        lines.append(
            f'<text class="op" text-anchor="end" x="{x + w - PAD:.1f}" y="{y + LINE - 2:.1f}">{_text(box.op)}</text>'
        )
    for number, (what, text) in enumerate(box.rows):
        at = f'x="{x + PAD:.1f}" y="{y + LINE * (number + 2) - 1:.1f}"'
        kind = "grad" if what == "grad" else "data" if what else "what"
        label = f'<tspan class="what">{what} </tspan>' if what else ""
        lines.append(f'<text {at}>{label}<tspan class="{kind}">{_text(text)}</tspan></text>')
    tip = f"<title>{_text(box.tip)}</title>" if box.tip else ""
    return (
        f'<g class="{box.kind}{" output" if box.is_output else ""}">{tip}'
        f'<rect class="card" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="5"/>'
        + "".join(lines)
        + "</g>"
    )
