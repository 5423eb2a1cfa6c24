"""What all optimisers share: parameter groups over flat buffers, the order of a step, saving."""

from __future__ import annotations

import copy

import numpy as np

from ..dtypes import HALF, is_float
from ..errors import check_number
from ..tensor import Tensor
from .flat import Flat

# What a group may hold beside its parameters and the optimiser's own settings.
EXTRAS = {"params", "lr_scale", "name"}


class Optimizer:
    """Base: a subclass gives `defaults`, `state_names(group)` and `update(...)`.

    params: Tensors, or dicts {"params": Tensors, "lr": ..., ...} whose settings override the defaults: `param_groups`,
    a list of dicts as in PyTorch, whose values may be changed between steps. flat: keep each group in one array, so
    that a step is one pass; False leaves the parameters' arrays where they are. A parameter without a gradient sits
    the step out. Half-precision parameters are updated in float32, kept beside them, unless `stochastic_rounding` is set.

    The next backward() overwrites the buffer that p.grad is a view of: clone() a gradient to keep it.
    """

    stochastic_rounding = False

    def __init__(self, params, defaults: dict, flat: bool = True):
        self.defaults, self.flat = dict(defaults), flat
        self.param_groups: list[dict] = []
        self._flats: list[list[Flat]] = []
        for group in self._groups(params):
            self.add_param_group(group)
        if not any(group["params"] for group in self.param_groups):
            raise ValueError(f"{type(self).__name__}: there are no parameters: pass module.parameters()")

    # -- what a subclass gives ----------------------------------------------------------------------------
    def state_names(self, group) -> tuple[str, ...]:
        """Names of the arrays kept for each parameter of a group."""
        return ()

    def update(self, group, flat: Flat, first: int, last: int, grad_scale: float):
        """Update parameters first to last of `flat`, neighbours whose steps[first] counts this step already."""
        raise NotImplementedError(f"{type(self).__name__}: define update()")

    def settings_of(self, group) -> set[str]:
        """Names of the settings that a group must have."""
        return set(self.defaults)

    def check(self, group):
        """Raise ValueError for settings that are unknown or out of range, TypeError for what is no number.

        Called when a group is added, at each step (settings may be changed between), and on what is loaded.
        """
        owner, known = type(self).__name__, self.settings_of(group)
        if not group.keys() <= known | EXTRAS:
            raise ValueError(
                f"{owner}: {sorted(group.keys() - known - EXTRAS)} of a group is no setting: there are {sorted(known)}, "
                "and lr_scale and name for your own use"
            )
        for name in ("lr", "eps", "weight_decay", "lr_scale"):
            if name in group:
                check_number(owner, name, group[name])
        if "betas" in group:
            betas = group["betas"]
            if not (isinstance(betas, (tuple, list)) and len(betas) == 2):
                raise ValueError(f"{owner}: betas must be two numbers in [0, 1), got {betas!r}")
            for beta in betas:
                check_number(owner, "each of betas", beta, below=1.0)
        if "momentum" in group:
            check_number(owner, "momentum", group["momentum"], below=1.0)

    # -- groups -------------------------------------------------------------------------------------------
    def _groups(self, params) -> list[dict]:
        """What the constructor was given, as groups."""
        if isinstance(params, Tensor):
            params = [params]
        if isinstance(params, (str, dict)) or not hasattr(params, "__iter__"):
            raise TypeError(
                f"{type(self).__name__}: expected Tensors, or a list of groups, got {type(params).__name__}: pass "
                'module.parameters(), or [{"params": ...}, ...]'
            )
        params = list(params)
        if not any(isinstance(p, dict) for p in params):
            return [{"params": params}]
        if not all(isinstance(p, dict) for p in params):
            raise TypeError(f"{type(self).__name__}: Tensors and groups are mixed: put all Tensors into groups")
        return params

    def add_param_group(self, group: dict):
        """Add {"params": Tensors, setting: value, ...}. Raises on a parameter that another group has already."""
        name = type(self).__name__
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f'{name}: a group must be a dict with "params", got {group!r}')
        group = {**self.defaults, **group}
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list({id(p): p for p in params}.values())  # ties once
        taken = {id(p) for other in self.param_groups for p in other["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                kind = type(p).__name__
                raise TypeError(f"{name}: parameter {i} must be a Tensor, got {kind}: pass module.parameters()")
            if not p.is_leaf:
                raise ValueError(f"{name}: parameter {i} is the result of a recorded op: only leaves can be trained")
            if not is_float(p.dtype):
                raise TypeError(f"{name}: parameter {i} must be a float Tensor, got {p.dtype}: it has no gradient")
            if id(p) in taken:
                raise ValueError(f"{name}: parameter {i} of shape {p.shape} is in two groups: leave it in one")
        group["params"] = params
        self.check(group)
        self.param_groups.append(group)
        self._flats.append(self._build(group))

    def _build(self, group) -> list[Flat]:
        names = self.state_names(group)
        kinds: dict = {}
        for p in group["params"]:
            kinds.setdefault((p.dtype, p.device.name) if self.flat else id(p), []).append(p)
        numbers = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        # Each array its own random bits, and the same ones when it is built anew.
        keys = [numbers[id(params[0])] if self.stochastic_rounding else None for params in kinds.values()]
        return [Flat(params, names, key) for params, key in zip(kinds.values(), keys, strict=True)]

    def _refresh(self, number: int):
        """New buffers for a group where module.to() moved it, or other settings need other state."""
        names = {*self.state_names(self.param_groups[number])}
        if any(flat.moved() or flat.state.keys() - {"master"} != names for flat in self._flats[number]):
            self._rebuild(number)

    def _rebuild(self, number: int):
        """New buffers for a group, what was kept converted."""
        group, kept = self.param_groups[number], {}
        for flat in self._flats[number]:
            names = [name for name in flat.state if name != "master"]
            host = {name: flat.split(flat.device.to_host(flat.state[name])) for name in names}
            for i, p in enumerate(flat.params):
                kept[id(p)] = flat.steps[i], {name: views[i] for name, views in host.items()}
        self._flats[number] = self._build(group)
        for flat in self._flats[number]:
            for i, p in enumerate(flat.params):
                self._put(flat, i, *kept[id(p)])

    @staticmethod
    def _put(flat, i, steps, arrays):
        flat.steps[i] = steps
        for name, values in arrays.items():
            if name not in flat.state:  # a setting that needed it was changed
                continue
            target = flat.state[name][flat.starts[i] : flat.stops[i]]
            target[...] = flat.device.xp.asarray(np.asarray(values).reshape(-1).astype(target.dtype))

    def set_lr(self, lr: float):
        """Set every group's learning rate to lr times its "lr_scale" (1 where it has none)."""
        check_number(type(self).__name__, "lr", lr)
        for group in self.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)

    # -- the step -----------------------------------------------------------------------------------------
    def zero_grad(self, set_to_none: bool = True):
        """Forget all gradients, or with set_to_none=False overwrite them with zeros.

        Forgetting costs nothing: the first gradient to arrive overwrites its buffer.
        """
        for group in self.param_groups:
            for p in group["params"]:
                if p.node is None or p.node.grad is None:
                    continue
                if set_to_none:
                    p.node.grad = None
                else:
                    p.node.grad.data[...] = 0

    def step(self, *, grad_scale: float = 1.0):
        """Update every parameter that has a gradient, in place.

        grad_scale multiplies the gradients on the way in, without a pass of its own: what clip_coefficient() returns.
        """
        for group in self.param_groups:
            self.check(group)
        for number, group in enumerate(self.param_groups):
            self._refresh(number)
            for flat in self._flats[number]:
                for first, last in flat.runs(flat.gather(), by_steps=True):
                    self.count(flat, first, last)
                    self.update(group, flat, first, last, grad_scale)

    @staticmethod
    def count(flat, first: int, last: int):
        """Note that parameters first to last are updated once more, and are no longer what a recorded graph has seen."""
        for i in range(first, last + 1):
            flat.steps[i] += 1
            p = flat.params[i]
            if p.cell is None:
                p.cell = [0]
            p.cell[0] += 1  # a graph that still holds p must not be walked back

    # -- saving -------------------------------------------------------------------------------------------
    def state_dict(self) -> dict:
        """All there is to continue bit for bit, as NumPy arrays and plain values.

        {"param_groups": [{"params": [0, 1, ...], setting: value, ...}], "state": {0: {"step": n, name: array}}}:
        parameters are known by their place, counted through all groups; one never updated has no state.
        """
        numbers, groups = {}, []
        for group in self.param_groups:
            for p in group["params"]:
                numbers[id(p)] = len(numbers)
            settings = {k: copy.deepcopy(v) for k, v in group.items() if k != "params"}
            groups.append({"params": [numbers[id(p)] for p in group["params"]], **settings})
        state = {}
        for flats in self._flats:
            for flat in flats:
                host = {name: flat.split(flat.device.to_host(array)) for name, array in flat.state.items()}
                for i, p in enumerate(flat.params):
                    if flat.steps[i]:
                        arrays = {name: views[i].copy() for name, views in host.items()}
                        state[numbers[id(p)]] = {"step": flat.steps[i], **arrays}
        return {"algorithm": type(self).__name__, "param_groups": groups, "state": dict(sorted(state.items()))}

    def load_state_dict(self, state: dict):
        """Continue from a state_dict(), settings of the groups included.

        Raises ValueError listing every mismatch (algorithm, groups, counts, shapes), before anything is written.
        """
        wrong, entries = self._mismatches(state)
        if wrong:
            raise ValueError(
                f"load_state_dict: the state does not fit this {type(self).__name__}; nothing was loaded. "
                f"{len(wrong)} mismatch(es):\n  " + "\n  ".join(wrong) + "\nBuild the optimiser as it was when saved."
            )
        for number, (group, saved) in enumerate(zip(self.param_groups, state["param_groups"], strict=True)):
            group.update({k: copy.deepcopy(v) for k, v in saved.items() if k != "params"})
            self._refresh(number)
        places = self._places()
        for number, (flat, i) in enumerate(places):
            entry = {"step": 0, **dict.fromkeys(flat.state, np.zeros(flat.params[i].size))} | entries.get(number, {})
            self._put(flat, i, int(entry.pop("step")), entry)

    def _places(self):
        """(flat, position within it) of every parameter, in the order in which they are counted."""
        found = {id(p): (flat, i) for flats in self._flats for flat in flats for i, p in enumerate(flat.params)}
        return [found[id(p)] for group in self.param_groups for p in group["params"]]

    def _mismatches(self, state) -> tuple[list[str], dict]:
        """What does not fit, and the states by number (a file format may have made strings of the numbers)."""
        if not isinstance(state, dict) or not {"algorithm", "param_groups", "state"} <= state.keys():
            return ["it must be a dict with algorithm, param_groups and state, as state_dict() returns"], {}
        wrong, groups = [], state["param_groups"]
        if state["algorithm"] != type(self).__name__:
            wrong.append(f"algorithm: expected {type(self).__name__}, got {state['algorithm']}")
        if len(groups) != len(self.param_groups):
            wrong.append(f"param_groups: expected {len(self.param_groups)}, got {len(groups)}")
        names, start = {}, 0  # what is kept for each parameter, under the settings that come
        for i, (mine, theirs) in enumerate(zip(self.param_groups, groups, strict=False)):
            count, given = len(mine["params"]), theirs.get("params", ())
            if len(given) != count:
                wrong.append(f"group {i}: expected {count} parameters, got {len(given)}")
            elif list(given) != [*range(start, start + count)]:
                wrong.append(f"group {i}: expected parameters {start} to {start + count - 1} in order, got {given}")
            missing = self.settings_of(mine) - theirs.keys()
            if missing:
                wrong.append(f"group {i}: no {', '.join(sorted(missing))}")
            group = {**mine, **theirs, "params": mine["params"]}
            try:
                self.check(group)
            except (TypeError, ValueError) as error:
                wrong.append(f"group {i}: {error}")
            names |= dict.fromkeys(range(start, start + count), self.state_names(group))
            start += count
        places, entries = self._places(), {}
        for key, entry in state["state"].items():
            number = int(key) if str(key).isdecimal() else -1
            if not 0 <= number < len(places):
                wrong.append(f"state of parameter {key}: there are {len(places)} parameters")
                continue
            entries[number] = entry
            flat, i = places[number]
            kept = names.get(number, ())
            if flat.params[i].dtype in HALF and not self.stochastic_rounding:
                kept = (*kept, "master")
            wrong += _entry_mismatches(number, entry, kept, flat.params[i])
        return wrong, entries

    def __repr__(self):
        lines = []
        for group in self.param_groups:
            settings = ", ".join(f"{k}={v!r}" for k, v in group.items() if k != "params")
            count, size = len(group["params"]), sum(p.size for p in group["params"])
            lines.append(f"  {count} parameters, {size:,} elements: {settings}")
        return f"{type(self).__name__}(\n" + "\n".join(lines) + "\n)"


def _entry_mismatches(number: int, entry: dict, names, p) -> list[str]:
    """What does not fit in one parameter's state."""
    wrong, expected = [], {"step", *names}
    if entry.keys() != expected:
        wrong.append(f"state of parameter {number}: expected {sorted(expected)}, got {sorted(entry)}")
    for name, value in entry.items():
        array, wanted = np.asarray(value), () if name == "step" else p.shape
        if name not in expected:
            continue
        if array.shape != wanted:
            wrong.append(f"{name} of parameter {number}: expected {wanted}, got {array.shape}")
        elif array.dtype.kind not in "iu" and not is_float(array.dtype):
            wrong.append(f"{name} of parameter {number}: expected numbers, got {array.dtype}")
        elif name == "step" and not (array >= 0 and array == array.astype(np.int64)):
            wrong.append(f"step of parameter {number}: expected a whole number of at least 0, got {value}")
    return wrong
