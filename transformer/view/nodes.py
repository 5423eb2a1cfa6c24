"""The tree that the page folds: modules, in them ops and parameters, in fused ops the ops of their twins."""

from __future__ import annotations

import inspect
import math
import os
import textwrap

import numpy as np

from tinygrad_lite import Tensor
from tinygrad_lite.ops.registry import OPS, At

from .collect import Collected
from .pack import EIGHT, HALF, SINGLE, Packer, cut
from .twin import ATTENTION, attention_weights

MOST_OF_A_PARAMETER = 65536  # entries: of larger ones, rows
MOST_OF_A_VALUE = 262144  # of activations and logits: 64 tokens of 4096 kinds
MOST_OF_A_TWIN = 2048  # of what a twin makes on its way
MOST_MOVED = 8  # entries of a parameter that are named one by one
_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep


class Tree:
    """Builds the records. `nodes` in the order in which they are drawn: each after what holds it."""

    def __init__(self, collected: Collected, packer: Packer):
        self.c, self.packer = collected, packer
        self.nodes: list[dict] = []
        self.ops: dict[str, dict] = {}
        self.places: list[list] = []
        self.attention: list[dict] = []
        self.node_of_event: dict[int, int] = {}
        self.node_of_parameter: dict[str, int] = {}
        self.logits = self.logits_gradient = None  # arrays' numbers
        self._place_ids: dict = {}
        self._names = {id(p): name for name, p in collected.source.model.named_parameters()}
        self._pending_inputs: list[tuple[dict, object]] = []
        self._build()

    # -- modules ------------------------------------------------------------------------------------------
    def _build(self):
        c, holds = self.c, {}
        model = c.source.model
        readers: dict[int, int] = {}
        for event in c.trace:
            holds.setdefault(event.path, []).append((float(event.index), "op", event))
            for x in event.xs:
                if id(x) in self._names:
                    readers.setdefault(id(x), event.index)
        names: dict[int, list] = {}
        for name, p in model.named_parameters(remove_duplicate=False):
            names.setdefault(id(p), []).append(name)
        for name, p in model.named_parameters():
            at = readers.get(id(p), len(c.trace)) - 0.5
            holds.setdefault(name.rpartition(".")[0], []).append((at, "param", (name, p, names[id(p)][1:])))
        modules = dict(model.named_modules())
        paths = sorted((path for path in modules if path), key=lambda path: -path.count("."))
        for path in paths:  # innermost first: a module stands where the first of what it holds stands
            if path in holds:
                first = min(at for at, _, _ in holds[path])
                holds.setdefault(path.rpartition(".")[0], []).append((first - 0.25, "module", path))
        self._module("", None, modules, holds)
        self._resolve()
        self._sum_up()

    def _module(self, path, up, modules, holds):
        module = modules[path]
        node = self._new(up, "module", path.rpartition(".")[2] or type(module).__name__, path=path)
        node["class"] = type(module).__name__
        doc = inspect.getdoc(type(module)) or ""
        node["doc"] = doc.partition("\n\n")[0]
        for _, kind, what in sorted(holds[path], key=lambda item: item[0]):
            if kind == "module":
                self._module(what, node["id"], modules, holds)
            elif kind == "param":
                self._parameter(*what, node["id"])
            else:
                self._op(what, node["id"])

    def _new(self, up, kind, name, **more) -> dict:
        node = {"id": len(self.nodes), "up": up, "kind": kind, "name": name, **more}
        self.nodes.append(node)
        return node

    # -- ops ----------------------------------------------------------------------------------------------
    def _op(self, event, up):
        step, twin = self.c.by_event.get(event.index), self.c.twins.get(event.index)
        node = self._new(up, "op", event.op.name, path=event.path, event=event.index, label=event.name)
        self.node_of_event[event.index] = node["id"]
        self._fill(node, event, step, MOST_OF_A_VALUE)
        node["place"] = self._place(event.place)
        if twin is None:
            return
        node["difference"] = twin.difference
        known = {id(stand_in): x for stand_in, x in zip(twin.inputs, event.xs)}
        weights = attention_weights(twin) if event.op.name in ATTENTION else None
        numbers = {}
        for inner in twin.trace:
            child = self._new(node["id"], "twin", inner.op.name, path=event.path, event=inner.index)
            numbers[id(inner.out)] = child["id"]
            if event.op.name == "linear_cross_entropy" and inner.op.name == "matmul":
                child["role"] = "logits"
            elif inner is weights:
                child["role"] = "attention weights"
            self._twin_op(child, inner, twin, numbers, known)
            if inner is weights:
                node["attention"] = len(self.attention)
                self.attention.append({"node": node["id"], "weights": child["id"]})
        child["out"], child["g"] = node["out"], node["g"]  # the last op makes the kernel's output again

    def _twin_op(self, child, inner, twin, numbers, known):
        step, role = twin.steps.get(inner.index), child.get("role")
        child["label"] = inner.name
        if role is not None:
            most, kinds = MOST_OF_A_VALUE, (SINGLE if role == "logits" else HALF, HALF)
        else:  # where the same numbers only move, a weight's transpose say, its input shows them
            moves = inner.op.views and inner.out.size > 2 * MOST_OF_A_TWIN
            most, kinds = 0 if moves else MOST_OF_A_TWIN, (EIGHT, EIGHT)
        self._fill(child, inner, step, most, numbers, known, kinds)
        child["place"] = self._place(inner.place)
        if role == "logits":
            self.logits, self.logits_gradient = child["out"], child["g"]

    def _fill(self, node, event, step, most, numbers=None, known=None, kinds=(HALF, HALF)):
        self._describe(event.op)
        node["op"] = event.op.name
        node["params"] = {k: _shown(v) for k, v in event.params.items()}
        node["shape"], node["dtype"] = list(event.out.shape), str(event.out.dtype)
        node["bytes"] = int(event.out.data.nbytes)
        node["out"] = self._array(event.out.numpy(), most, kinds[0])
        g = None if step is None or type(step.g) is At else np.asarray(step.g)
        node["g"] = None if g is None else self._array(g, most, kinds[1], cut_like=node["out"])
        node["inputs"] = []
        for i, x in enumerate(event.xs):
            names = event.op.inputs
            entry = {"name": names[0] if event.op.variadic else names[i]}
            if known is not None and id(x) in known:
                entry["stands_for"], x = entry["name"], known[id(x)]
            if type(x) is Tensor:
                entry["shape"] = list(x.shape)
                entry["label"] = event._trace.name_of(x) if known is None else entry.pop("stands_for", None)
                if numbers is not None and id(x) in numbers:
                    entry["node"] = numbers[id(x)]
                else:
                    self._pending_inputs.append((entry, x))
            else:
                entry["value"] = _shown(x)
            if step is not None:
                entry |= _sums(step, i)
            node["inputs"].append(entry)

    def _array(self, array, most, kind=HALF, cut_like=None):
        if most == 0 or array.dtype.kind not in "fiub":
            return None
        if cut_like is not None and (picks := self.packer.entries[cut_like].get("picks")):
            axis, kept = next(iter(picks.items()))
            part = np.take(array, kept, axis=axis)
            return self.packer.add(part, kind, {"of": list(array.shape), "picks": picks}, array)
        rank = None
        if kind == SINGLE and array.ndim == 2:  # of too many logits: the targets' and the largest
            rank = array.max(axis=0).astype(np.float64)
            rank[self.c.targets] = np.inf
        return self._cut(array, most, SINGLE if array.dtype.kind in "iu" else kind, None if rank is None else {1: rank})

    def _cut(self, array, most, kind, keys):
        part, picks = cut(array, most, keys)
        return self.packer.add(part, kind, picks, array)

    def _resolve(self):
        """Give inputs the node that made them, once all nodes exist."""
        for entry, x in self._pending_inputs:
            event = self.c.trace.event_of(x)
            if event is not None:
                entry["node"] = self.node_of_event[event.index]
            elif id(x) in self._names:
                entry["node"] = self.node_of_parameter[self._names[id(x)]]

    # -- parameters ---------------------------------------------------------------------------------------
    def _parameter(self, name, p, also, up):
        change = self.c.update.changes[name]
        node = self._new(up, "param", name.rpartition(".")[2], path=name)
        self.node_of_parameter[name] = node["id"]
        g = np.zeros(p.shape, p.dtype) if p.grad is None else p.grad.numpy()
        moved = change.after - change.before
        rows = np.sqrt(np.sum(g.astype(np.float64).reshape(len(g), -1) ** 2, axis=1)) if g.ndim else None
        keys = None if rows is None else {0: rows}
        for which, kind, array in (("out", EIGHT, change.before), ("g", HALF, g), ("d", EIGHT, moved)):
            node[which] = self._cut(array, MOST_OF_A_PARAMETER, kind, keys)
        node["shape"], node["dtype"], node["bytes"] = list(p.shape), str(p.dtype), int(p.data.nbytes)
        node["parameters"], node["also"] = int(p.size), also
        flat = np.argsort(-np.abs(moved).reshape(-1), kind="stable")[:MOST_MOVED]
        node["moved"] = [
            [[int(i) for i in np.unravel_index(k, moved.shape)], _number(change.before.reshape(-1)[k]),
             _number(g.reshape(-1)[k]), _number(change.after.reshape(-1)[k])]
            for k in flat
        ]  # fmt: skip
        node["sums"] = [float(np.sum(a.astype(np.float64) ** 2)) for a in (change.before, g, moved)]
        node["changed"] = int(np.count_nonzero(moved))

    def _sum_up(self):
        """For modules: parameters, norms of weights, gradients and updates, and whose output stands for theirs."""
        for node in reversed(self.nodes):
            up = self.nodes[node["up"]] if node["up"] is not None else None
            if node["kind"] == "module":
                node.setdefault("sums", [0.0, 0.0, 0.0])
                node.setdefault("parameters", 0)
            if up is not None and up["kind"] == "module":
                if node["kind"] != "op":
                    up["sums"] = [a + b for a, b in zip(up.get("sums", [0.0] * 3), node["sums"])]
                    up["parameters"] = up.get("parameters", 0) + node["parameters"]
                last = node["id"] if node["kind"] == "op" else node.get("last")
                if last is not None and node["kind"] in ("op", "module"):
                    up["last"] = max(up.get("last", -1), last, key=lambda i: self.nodes[i]["event"] if i >= 0 else -1)
        for node in self.nodes:
            if "sums" in node:
                w, g, d = (math.sqrt(total) for total in node.pop("sums"))
                node["norms"] = [_number(w), _number(g), _number(d)]
                node["ratio"] = _number(d / w) if w else None

    # -- words --------------------------------------------------------------------------------------------
    def _place(self, place):
        if place is None:
            return None
        file = place.file
        for root in (os.getcwd() + os.sep, _PACKAGES):
            if file.startswith(root):
                file = file[len(root) :]
                break
        key = (file, place.line, place.function, place.text, place.statement, place.start, place.end)
        if key not in self._place_ids:
            self._place_ids[key] = len(self.places)
            self.places.append(list(key))
        return self._place_ids[key]

    def _describe(self, op):
        if op.name in self.ops:
            return
        rules = []
        for i, rule in sorted(op.rules.items()):
            rules.append([op.inputs[i], _source(rule.fn)])
        self.ops[op.name] = {
            "doc": inspect.cleandoc(op.__doc__ or ""),
            "source": _source(op.forward),
            "rules": rules,
            "fused": op.is_fused,
            "registered": op is OPS.get(op.name),
        }


def _sums(step, i) -> dict:
    """What a step back sent to its input i, and the sum there before and after: norms."""
    found = {"sent": _norm(step.sent[i]), "before": _norm(step.before[i]), "after": _norm(step.after[i])}
    return {**found, "waiting": step.waiting[i]} if found["sent"] is not None else {}


def _norm(x) -> float | str | None:
    if x is None:
        return None
    values = np.asarray(x.g if type(x) is At else x).astype(np.float64)
    norm = math.sqrt(float(np.sum(values * values)))
    return (
        _number(norm) if math.isfinite(norm) else "NaN" if math.isnan(norm) else "∞"
    )  # JSON has none, and null says that nothing came


def _number(x) -> float:
    return float(f"{float(x):.6g}")


def _shown(x) -> str:
    text = f"{x:.6g}" if isinstance(x, float) else str(x)
    return text if len(text) <= 80 else text[:77] + "..."


def _source(function) -> str:
    """The text of a formula or rule; of a lambda the lines that it stands on."""
    try:
        return textwrap.dedent(inspect.getsource(function)).strip()
    except (OSError, TypeError):
        return ""
