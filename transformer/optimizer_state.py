"""An optimiser's state as a checkpoint holds it: the arrays by their paths, and the rest as JSON can hold it."""

from __future__ import annotations

import numpy as np

from tinygrad_lite import optim


def restore_optimizer(optimizer: optim.Optimizer, moments: dict, plain: dict):
    """Put back what a checkpoint holds of an optimiser: its arrays, and the rest as in state.json."""
    optimizer.load_state_dict(_filled(plain, moments, "optimizer"))


def arrays_of(tree, path):
    """(path, array) of every array in nested dicts and lists."""
    if isinstance(tree, np.ndarray):
        yield path, tree
    elif isinstance(tree, dict):
        for key in tree:
            yield from arrays_of(tree[key], f"{path}.{key}")
    elif isinstance(tree, (list, tuple)):
        for i, value in enumerate(tree):
            yield from arrays_of(value, f"{path}.{i}")


def plain_of(tree):
    """The same tree with arrays replaced by a mark, and keys as strings: what JSON can hold."""
    if isinstance(tree, np.ndarray):
        return {"__array__": True}
    if isinstance(tree, dict):
        return {str(k): plain_of(v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [plain_of(v) for v in tree]
    return tree.item() if isinstance(tree, np.generic) else tree


def _filled(tree, arrays, path):
    """The inverse of `plain_of`, given the arrays."""
    if isinstance(tree, dict):
        if tree.get("__array__") is True:
            return arrays[path]
        filled = {k: _filled(v, arrays, f"{path}.{k}") for k, v in tree.items()}
        return {int(k) if k.isdigit() else k: v for k, v in filled.items()}
    if isinstance(tree, list):
        return [_filled(v, arrays, f"{path}.{i}") for i, v in enumerate(tree)]
    return tree
