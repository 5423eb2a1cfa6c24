"""Panels as one HTML file: no network, opens from disk."""

from __future__ import annotations

import base64
import html
import json
import os
from importlib.resources import files
from pathlib import Path

import numpy as np

from ..files import replace
from .panels import Attention, Bars, Curves, HeatMap


def write_page(panels, path: Path, title: str, lines=()):
    """Write the panels to a file, whole or not at all; `lines` are sentences under the heading."""
    data = json.dumps([_data(panel) for panel in panels], ensure_ascii=False).replace("</", "<\\/")
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    said = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    for mark, text in (("TITLE", html.escape(title)), ("LINES", said), ("DATA", data)):
        page = page.replace(f"{{{{{mark}}}}}", text)
    writing = path.with_name(f".writing-{os.getpid()}-{path.name}")
    writing.write_text(page, encoding="utf-8")
    replace(writing, path)


def _data(panel) -> dict:
    """A panel as plain values; matrices as base64 of little-endian float32."""
    kind = {HeatMap: "heat", Bars: "bars", Attention: "attention", Curves: "curves"}[type(panel)]
    found = {"kind": kind, **panel._asdict()}
    for name in ("values", "patterns"):
        if name in found:
            array = np.ascontiguousarray(found[name], dtype="<f4")
            found[name] = {"shape": list(array.shape), "base64": base64.b64encode(array.tobytes()).decode("ascii")}
    if isinstance(panel, Curves):
        found["lines"] = {k: [None if v != v else v for v in values] for k, values in panel.lines.items()}
    return found
