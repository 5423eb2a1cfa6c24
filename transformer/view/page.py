"""The page: one HTML file with style, modules and data in it, which asks no network for anything."""

from __future__ import annotations

import base64
import json
import re
from importlib import resources
from pathlib import Path

import numpy as np

import tinygrad_lite

from ..files import replace
from .collect import Collected
from .frames import frame
from .nodes import Tree
from .pack import ROUNDING, Packer, as_text

MODULES = ("main", "codec", "store", "tree", "map", "heat", "tokens", "detail", "overview", "attention", "predictions",
           "stepper", "keys", "words")  # fmt: skip


def build(collected: Collected, earlier=()) -> str:
    """The page of a step. earlier: `Collected` of checkpoints before it, oldest first, with their attention opened."""
    packer = Packer()
    tree = Tree(collected, packer)
    names = list(collected.update.changes)
    frames = [frame(one, packer, names, one is not collected) for one in (*earlier, collected)]
    source, tok = collected.source, collected.source.tokenizer
    meta = {
        "version": tinygrad_lite.__version__,
        "name": source.name,
        "step": source.step,
        "config": source.model.config.to_dict(),
        "parameters": source.model.num_parameters(),
        "tokens": [[int(i), _piece(tok, i)] for i in collected.ids],
        "targets": [[int(i), _piece(tok, i)] for i in collected.targets],
        "vocabulary": [_piece(tok, i) for i in range(tok.vocab_size)] if tok.vocab_size <= 65536 else [],
        "nodes": tree.nodes,
        "ops": tree.ops,
        "places": tree.places,
        "attention": tree.attention,
        "logits": tree.logits,
        "logits_g": tree.logits_gradient,
        "names": names,
        "frames": frames,
        "walk": _walk(collected, tree),
        "parity": parity(collected, tree, packer),
        "rounding": ROUNDING,
        "arrays": packer.entries,
    }
    return assemble(meta, packer.compressed())


def assemble(meta: dict, data: str) -> str:
    """web/index.html with everything put in. Modules import each other by bare names, which an import map resolves."""
    folder = resources.files(__package__) / "web"
    imports = {}
    for name in MODULES:
        source = (folder / f"{name}.js").read_text(encoding="utf-8") + f"\n//# sourceURL=view/{name}.js\n"
        imports[f"view/{name}"] = "data:text/javascript;base64," + base64.b64encode(source.encode()).decode()
    parts = {
        "style": (folder / "style.css").read_text(encoding="utf-8"),
        "imports": json.dumps({"imports": imports}),
        "meta": as_text(_json(meta).encode()),
        "data": data,
        "title": f"{meta['name']}, step {meta['step']}".replace("&", "&amp;").replace("<", "&lt;"),
    }
    html = (folder / "index.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], html)


def _json(meta) -> str:
    text = json.dumps(meta, separators=(",", ":"))
    if "NaN" in text or "Infinity" in text:  # which Python writes and no browser reads
        text = json.dumps(json.loads(text, parse_constant=lambda name: None), separators=(",", ":"))
    return text


def write(path: Path, html: str):
    """Write the page whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(".writing-" + path.name)
    try:
        writing.write_text(html, encoding="utf-8")
        replace(writing, path)
    finally:
        writing.unlink(missing_ok=True)


def parity(collected: Collected, tree: Tree, packer: Packer) -> dict:
    """How far what the page shows is from an ordinary step that nobody watched.

    logits, loss: largest difference. gradients: over all parameters and activations, the largest difference over the
    largest entry of the same gradient, which is the rounding of the format. exact: whether the watched gradients have the
    same bits as the ordinary ones. twin: the largest difference between an opened op and its kernel.
    """
    c = collected
    shown = packer.decoded(tree.logits) if tree.logits is not None else c.logits
    picks = packer.entries[tree.logits].get("picks") if tree.logits is not None else None
    logits = c.update.logits[:, picks[1]] if picks else c.update.logits
    of_parameters, of_values, exact = 0.0, 0.0, True
    for name, p in c.source.model.named_parameters():
        ordinary = c.update.changes[name].gradient
        exact = exact and p.grad is not None and p.grad.numpy().tobytes() == ordinary.tobytes()
        number = tree.nodes[tree.node_of_parameter[name]]["g"]
        of_parameters = max(of_parameters, _difference(packer, number, ordinary))
    for event in c.trace:
        node = tree.nodes[tree.node_of_event[event.index]]
        if node["g"] is not None:
            of_values = max(of_values, _difference(packer, node["g"], np.asarray(c.by_event[event.index].g)))
    return {
        "logits": _largest(shown, logits),
        "loss": abs(c.loss - c.update.loss),
        "parameter_gradients": of_parameters,
        "activation_gradients": of_values,
        "exact": exact,
        "twin": max((twin.difference for twin in c.twins.values()), default=0.0),
    }


def _difference(packer: Packer, number: int, array: np.ndarray) -> float:
    for axis, kept in packer.entries[number].get("picks", {}).items():
        array = np.take(array, kept, axis=axis)
    size = np.abs(array[np.isfinite(array)]).max(initial=0.0)
    return _largest(packer.decoded(number), array) / (float(size) or 1.0)


def _largest(shown: np.ndarray, array: np.ndarray) -> float:
    """The largest difference; where both are infinite or no number there is none."""
    with np.errstate(invalid="ignore"):
        difference = np.where((shown == array) | (np.isnan(shown) & np.isnan(array)), 0.0, np.abs(shown - array))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def _walk(collected: Collected, tree: Tree) -> list[int]:
    """The nodes of the page in the order of the walk back: ops, and parameters as their gradients arrive."""
    order = []
    names = {id(p): name for name, p in collected.source.model.named_parameters()}
    for step in collected.walk:
        if step.event is not None:
            order.append(tree.node_of_event[step.event.index])
        elif (leaf := collected.trace.leaf_of(step.node)) is not None and id(leaf) in names:
            order.append(tree.node_of_parameter[names[id(leaf)]])
    return order


def _piece(tok, i) -> str:
    """A token's text; of a part of a character its bytes, as \\xe6."""
    return tok.token_bytes(int(i)).decode("utf-8", "backslashreplace")
