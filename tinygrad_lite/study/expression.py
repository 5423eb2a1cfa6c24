"""A few lines of arithmetic as a function that can be stepped through: "a=-4.0; b=2.0; c = a*b; c + b**3"."""

from __future__ import annotations

import ast
import builtins
import itertools
import linecache
import math
import re

import numpy as np

from .. import functional as F
from ..tensor import Tensor

_numbers = itertools.count(1)


class Expression:
    """Statements, and the names in them that have values.

    text     statements separated by `;` or new lines. A name that is given a number, or a list of numbers, becomes a
             float64 Tensor that requires a gradient. `x += y` is read as `x = x + y`: a recorded Tensor is not changed
             in place. What `from tinygrad_lite import functional` has can be called: relu(x), softmax(x)
    values   values of names that the text does not give: numbers, lists, arrays or Tensors

    Calling it runs the statements and returns the last one's value. Raises ValueError where the text is no Python, or
    names something unknown.
    """

    def __init__(self, text: str, values: dict | None = None):
        values = values or {}
        try:
            tree = _Plain().visit(ast.parse(text.strip()))
        except SyntaxError as error:
            raise ValueError(f"step: {text!r} is no Python: {error.msg}") from None
        if not tree.body:
            raise ValueError("step: expected an expression, a*b + b**3 say, got nothing")
        self.source = "\n".join(ast.unparse(ast.fix_missing_locations(s)) for s in tree.body)
        number = next(_numbers)
        self.file = "<expression>" if number == 1 else f"<expression {number}>"
        linecache.cache[self.file] = (len(self.source), None, self.source.splitlines(keepends=True), self.file)
        self.body = ast.parse(self.source, self.file).body
        self.values = {name: _tensor(value) for name, value in values.items()}
        self._check_names(values)

    def __call__(self):
        names = {**_namespace(), **self.values}
        result = None
        for statement in self.body:
            given = _given(statement)
            if given is not None:
                name, value = given
                names[name] = _tensor(value)
            elif isinstance(statement, ast.Expr):
                result = eval(compile(ast.Expression(statement.value), self.file, "eval"), names)
                continue
            else:
                exec(compile(ast.Module([statement], []), self.file, "exec"), names)
            targets = getattr(statement, "targets", ())
            if len(targets) == 1 and isinstance(targets[0], ast.Name):
                result = names[targets[0].id]
        return result

    def _check_names(self, values):
        known = {*_namespace(), *dir(builtins), *values}
        twice = set()
        for node in ast.walk(ast.Module(self.body, [])):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known.add(node.id)
            elif isinstance(node, (ast.arg, ast.FunctionDef)):
                known.add(node.arg if isinstance(node, ast.arg) else node.name)
        twice = {given[0] for s in self.body if (given := _given(s)) is not None} & set(values)
        if twice:
            raise ValueError(f"step: {', '.join(sorted(twice))}: has a value in the expression already")
        used = {n.id for n in ast.walk(ast.Module(self.body, [])) if isinstance(n, ast.Name)}
        if unknown := sorted(used - known):
            name = unknown[0]
            raise ValueError(f"step: {name} has no value: begin with `{name}=2.0;`, or give it with --let {name}=2.0")


class _Plain(ast.NodeTransformer):
    def visit_AugAssign(self, node):
        if not isinstance(node.target, ast.Name):
            return node
        return ast.Assign([node.target], ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value))


def _given(statement):
    """(name, number or list) of a statement that gives a name a number; else None."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target = statement.targets[0]
    try:
        value = ast.literal_eval(statement.value)
    except ValueError:
        return None
    return (target.id, value) if isinstance(target, ast.Name) and _is_numeric(value) else None


def _is_numeric(value):
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_numeric, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tensor(value):
    if isinstance(value, Tensor):
        return value
    return Tensor(np.asarray(value, dtype=np.float64), requires_grad=True)


def _namespace():
    functions = {name: getattr(F, name) for name in F.__all__}
    return {**functions, "F": F, "Tensor": Tensor, "math": math, "np": np}


def value_of(text: str, generator: np.random.Generator):
    """The value that a text names: a number, a list of numbers, or a shape, 2x3 say, of normal random numbers.

    Raises ValueError for anything else.
    """
    text = text.strip()
    if re.fullmatch(r"\d+(x\d+)+", text):
        return generator.standard_normal([int(n) for n in text.split("x")])
    try:
        value = ast.literal_eval(text)
        if _is_numeric(value):
            return np.asarray(value, dtype=np.float64)
    except (ValueError, SyntaxError, TypeError):
        pass
    raise ValueError(f"expected a number, a list of numbers or a shape such as 2x3, got {text!r}")
