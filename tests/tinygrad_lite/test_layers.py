"""Imports point down, and importing the engine is light."""

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A module belongs to the first layer whose prefix it has; it may import its own layer and those above it in this list.
LAYERS = [
    ["tinygrad_lite.xp", "tinygrad_lite.device", "tinygrad_lite.device_memory", "tinygrad_lite.dtypes", "tinygrad_lite.errors", "tinygrad_lite.config",
     "tinygrad_lite.philox", "tinygrad_lite.threads", "tinygrad_lite.turns", "tinygrad_lite.native"],
    ["tinygrad_lite.kernels"],
    ["tinygrad_lite.ops"],
    ["tinygrad_lite.autograd.record", "tinygrad_lite.autograd.walk", "tinygrad_lite.autograd.node",
     "tinygrad_lite.autograd.keep", "tinygrad_lite.autograd.mode"],
    ["tinygrad_lite.tensor"],
    ["tinygrad_lite.autograd", "tinygrad_lite.create", "tinygrad_lite.random", "tinygrad_lite.functions"],
    ["tinygrad_lite.functional", "tinygrad_lite.nn", "tinygrad_lite.optim"],
    ["tinygrad_lite.gradcheck", "tinygrad_lite.study"],
    ["tinygrad_lite"],
    ["transformer"],
]  # fmt: skip


def layer_of(module):
    """The number of the layer, by the longest prefix that fits."""
    best = None
    for number, names in enumerate(LAYERS):
        for name in names:
            if (module == name or module.startswith(name + ".")) and (best is None or len(name) > best[0]):
                best = len(name), number
    return None if best is None else best[1]


def modules():
    found = {}
    for package in ("tinygrad_lite", "transformer", "tokenizer"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


@functools.cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(name, path, known):
    """(imported module, whether at module level) of our own packages."""
    tree = parsed(path)
    inside = {
        id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(f)
    }
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names]
        else:
            continue
        for target in targets:
            if target in known:
                yield target, id(node) not in inside


KNOWN = modules()


def test_imports_point_down():
    wrong = []
    for name, path in KNOWN.items():
        own = layer_of(name)
        for target, top in imports(name, path, KNOWN):
            theirs = layer_of(target)
            if own is None or theirs is None:
                if name.split(".")[0] == "tokenizer" != target.split(".")[0]:
                    wrong.append(f"{name} imports {target}: tokenizer stands alone")
            elif theirs > own and top:
                wrong.append(f"{name} imports {target}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_in_a_circle():
    edges = {
        n: {t for t, top in imports(n, p, KNOWN) if top and t != n and not n.startswith(t + ".")}
        for n, p in KNOWN.items()
    }
    done, path = set(), []

    def visit(name):
        if name in path:
            raise AssertionError("a circle: " + " -> ".join([*path[path.index(name) :], name]))
        if name in done:
            return
        path.append(name)
        for target in sorted(edges[name]):
            visit(target)
        path.pop()
        done.add(name)

    for name in edges:
        visit(name)


def test_import_is_light_and_changes_no_environment_variable():
    code = (
        "import os, sys; before = dict(os.environ); import tinygrad_lite; "
        "assert dict(os.environ) == before, 'environment'; "
        "heavy = [m for m in ('numba', 'cupy', 'torch', 'scipy', 'matplotlib') if m in sys.modules]; assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_environment_variables_are_read_in_one_file_of_each_package():
    readers = []
    for name, path in KNOWN.items():
        tree = parsed(path)
        attributes = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
        names = [a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "os" for a in n.names]
        if {"environ", "environb", "getenv", "getenvb"} & {*attributes, *names}:
            readers.append(name)
    assert readers == ["tinygrad_lite.config", "tokenizer.native"]  # which stands alone


@pytest.mark.parametrize("name", ["tinygrad_lite"])
def test_package_imports_from_another_folder(name, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", f"import {name}"], check=True, cwd=tmp_path, env=env, timeout=60)
