"""The tree of modules as a whole: its picture, and what stands outside it by mistake."""

from __future__ import annotations

from itertools import islice

from ..tensor import Tensor

MOST_LOOKED_AT = 1000  # entries of a plain list: a longer one holds data


def refuse_missed(tree):
    """Raise TypeError if a plain list or dict holds a module or parameter that is nowhere in the tree.

    tree: (dotted name, module) of all modules. Such layers would compute and never learn, nor be saved.
    """
    known = {id(module) for _, module in tree}
    for _, module in tree:
        known.update(id(module.__dict__[name]) for name in module._kinds)
    for path, module in tree:
        for name, value in module.__dict__.items():
            if type(value) in (list, dict) and not name.startswith("_"):
                for held in _members(value):
                    if id(held) not in known:
                        place = f"{path}.{name}" if path else name
                        raise TypeError(
                            f"{type(tree[0][1]).__name__}: {place} is a {type(value).__name__} with a "
                            f"{type(held).__name__} that would neither be trained nor saved: use ModuleList for "
                            "modules and attributes for parameters, or a tuple for what is to stay outside"
                        )


def _members(value):
    """The modules and parameters in nested lists and dicts."""
    for held in islice(value.values() if type(value) is dict else value, MOST_LOOKED_AT):
        if type(held) in (list, dict):
            yield from _members(held)
        elif hasattr(held, "_kinds") or type(held) is Tensor and held.node is not None and held.is_leaf:
            yield held


def tree_lines(module, label: str = "", seen=None) -> list[str]:
    """Lines of repr: each module with its settings, the shapes it owns, and all parameters below it, ties once."""
    seen = set() if seen is None else seen
    own = []
    for name, p in module._own_parameters():
        own.append(f"{name} {p.shape}{' tied' if id(p) in seen else ''}{'' if p.requires_grad else ' frozen'}")
    own += [f"{name} {b.shape}" for name, b in module._own_buffers()]
    sizes = {id(p): p.size for below in module.modules() for _, p in below._own_parameters()}
    total = sum(size for key, size in sizes.items() if key not in seen)
    seen.update(id(p) for _, p in module._own_parameters())
    head = f"{label}{type(module).__name__}({module.extra_repr()})"
    lines = [f"{head}: {', '.join(own) + ': ' if own else ''}{total:,} parameter{'' if total == 1 else 's'}"]
    children = module._own_modules()
    for i, (name, child) in enumerate(children):
        last = i == len(children) - 1
        below = tree_lines(child, f"{name}: ", seen)
        lines.append(("└─ " if last else "├─ ") + below[0])
        lines += [("   " if last else "│  ") + line for line in below[1:]]
    return lines
