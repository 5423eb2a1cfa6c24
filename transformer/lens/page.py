"""Panels as one HTML file: no network, opens from disk."""

from __future__ import annotations

import base64
import html
import json
import os
import re
from importlib.resources import files
from pathlib import Path

import numpy as np

from ..files import replace
from .panels import Attention, Bars, Curves, HeatMap


def write_page(panels, path: Path, title: str, lines=()):
    """Write the panels to a file, whole or not at all; `lines` are sentences under the heading."""
    data = json.dumps([_data(panel) for panel in panels], ensure_ascii=False)
    data = data.replace("<", "\\u003c")  # neither "</script>" nor "<!--<script>", which would hide the next "</script>"
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    said = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    texts = {"TITLE": html.escape(title), "LINES": said, "DATA": data}
    page = re.sub(r"\{\{([A-Z]+)\}\}", lambda mark: texts[mark[1]], page)  # at once: a text may hold a mark
    writing = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        writing.write_text(page, encoding="utf-8", errors="replace")  # a directory's name may be no text
        replace(writing, path)
    finally:
        writing.unlink(missing_ok=True)


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
