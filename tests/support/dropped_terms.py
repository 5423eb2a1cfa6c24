"""Functions with one term of one sum left out, made from their source."""

from __future__ import annotations

import ast
import types
from functools import cache


def without_a_term(fn):
    """(what was dropped, the function without it) for each term of each sum in fn and in the helpers that it calls."""
    for name, function in {fn.__name__: fn, **_helpers(fn)}.items():
        node = _source(function)
        for nth, text in enumerate(_terms(node) if node is not None else ()):
            for side in ("left", "right"):
                fresh = _Drop(nth, side).visit(ast.parse(ast.unparse(node)).body[0])
                fresh = fresh.value if isinstance(fresh, ast.Expr) else fresh
                yield f"{side} of {text!r} in {name}", _rebuilt(fn, name, fresh)


@cache
def _tree(path: str) -> ast.Module:
    with open(path, encoding="utf-8") as file:
        return ast.parse(file.read())


def _source(fn) -> ast.AST | None:
    """The function's node in its file: a lambda is found by its compiled code."""
    code = fn.__code__
    for node in ast.walk(_tree(code.co_filename)):
        if isinstance(node, ast.FunctionDef) and node.name == fn.__name__ and node.lineno == code.co_firstlineno:
            return node
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno:
            made = compile(ast.Expression(node), code.co_filename, "eval").co_consts[0]
            if (made.co_code, made.co_names, made.co_varnames) == (code.co_code, code.co_names, code.co_varnames):
                return node
    return None


def _helpers(fn) -> dict[str, types.FunctionType]:
    """Functions of the same module that fn calls, and those that they call."""
    found, queue = {}, [fn]
    while queue:
        here = queue.pop()
        for name in here.__code__.co_names:
            other = here.__globals__.get(name)
            same = isinstance(other, types.FunctionType) and other.__module__ == fn.__module__
            if same and name not in found and name.startswith("_"):
                found[name] = other
                queue.append(other)
    return found


class _Drop(ast.NodeTransformer):
    """Replaces the nth sum or difference by one of its terms."""

    def __init__(self, nth: int, side: str):
        self.nth, self.side, self.seen = nth, side, 0

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if not isinstance(node.op, (ast.Add, ast.Sub)):
            return node
        self.seen += 1
        if self.seen - 1 != self.nth:
            return node
        if self.side == "right":
            return node.left
        return node.right if isinstance(node.op, ast.Add) else ast.UnaryOp(ast.USub(), node.right)


def _terms(node) -> list[str]:
    """Each sum or difference in the function's body, as text, in the order that _Drop counts them."""
    found = []

    class Count(ast.NodeVisitor):
        def visit_BinOp(self, node):
            self.generic_visit(node)
            if isinstance(node.op, (ast.Add, ast.Sub)):
                found.append(ast.unparse(node))

    Count().visit(node)
    return found


def _rebuilt(fn, name: str, node: ast.AST):
    """fn with the function called `name` (fn itself, or a helper) compiled again from node."""
    scope = dict(fn.__globals__)
    for helper, original in _helpers(fn).items():
        made = types.FunctionType(original.__code__, scope, helper, original.__defaults__)
        made.__kwdefaults__ = original.__kwdefaults__
        scope[helper] = made
    if isinstance(node, ast.Lambda):
        new = eval(compile(ast.fix_missing_locations(ast.Expression(node)), "<mutant>", "eval"), scope)
    else:
        node.decorator_list = []
        made = {}
        exec(compile(ast.fix_missing_locations(ast.Module([node], [])), "<mutant>", "exec"), scope, made)
        new = made[node.name]
    if name == fn.__name__:
        return new
    scope[name] = new
    return types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__)
