"""The text of what runs, an op's formula and its backward rules, and the same with numbers in it.

The text is the source itself. For the numbers the source's own statements are evaluated on the recorded arrays, one
after the other, and written out with values for names; `xp.multiply(a, b)` is written `a * b`.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from functools import lru_cache
from typing import NamedTuple

import numpy as np

INLINE = 8  # elements of an array that are still written out in a formula
AGAIN = 4096  # elements of all inputs up to which a formula is computed again for what is shown
_OPERATORS = {
    "add": ast.Add, "subtract": ast.Sub, "multiply": ast.Mult, "divide": ast.Div, "power": ast.Pow,
    "matmul": ast.MatMult, "remainder": ast.Mod, "floor_divide": ast.FloorDiv,
}  # fmt: skip
_RELATIONS = {
    "equal": ast.Eq, "not_equal": ast.NotEq, "less": ast.Lt, "less_equal": ast.LtE, "greater": ast.Gt,
    "greater_equal": ast.GtE,
}  # fmt: skip


class Source(NamedTuple):
    """The text of a function's body, without decorators and docstring, and where it stands."""

    text: str
    file: str
    line: int

    def __str__(self):
        return self.text


def summary(op) -> str:
    """The first paragraph of an op's docstring, with the formula that follows it indented, if one does."""
    paragraphs = inspect.cleandoc(op.__doc__ or "").split("\n\n")
    shown = paragraphs[:2] if len(paragraphs) > 1 and paragraphs[1].startswith("  ") else paragraphs[:1]
    return "\n".join(shown)


def source_of(fn) -> Source | None:
    """The body of a function or lambda as it is written; None where the file is not there to be read."""
    node = _node_of(fn)
    if node is None:
        return None
    file = fn.__code__.co_filename
    lines = linecache.getlines(file)
    if isinstance(node, ast.Lambda):
        return Source(ast.get_source_segment("".join(lines), node.body), file, node.body.lineno)
    body = _statements(node)
    first = body[0].lineno
    while first > node.lineno + 1 and lines[first - 2].lstrip().startswith("#"):  # comments that lead it
        first -= 1
    return Source(textwrap.dedent("".join(lines[first - 1 : body[-1].end_lineno])).rstrip(), file, first)


def worked(fn, xp, values: dict) -> list[str]:
    """The formula with numbers in it: a line for each assignment on the way and one for the result.

    values: the arguments after xp, by name: arrays, numbers, shapes. Arrays of more than INLINE elements keep their
    name. Empty where no array is so short, where they are too large to compute it all again, or where the source is not
    there or has statements of another kind.
    """
    node = _node_of(fn)
    sizes = [v.size for v in values.values() if hasattr(v, "dtype")]
    if node is None or min(sizes, default=INLINE + 1) > INLINE or sum(sizes) > AGAIN:
        return []
    free = inspect.getclosurevars(fn)
    scope = {**fn.__globals__, **free.nonlocals, node.args.args[0].arg: xp}
    with np.errstate(all="ignore"):  # log(0) was warned of when it ran
        try:
            return _Worked(scope, dict(values), xp).run(_statements(node))
        except (_Unreadable, RecursionError):
            return []


# -- finding ------------------------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def _tree(file):
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # a notebook's magic, say
        return None


@lru_cache(maxsize=1024)
def _node_of(fn):
    code = getattr(fn, "__code__", None)
    tree = _tree(code.co_filename) if code is not None else None
    if tree is None:
        return None
    spans = set(code.co_positions()) if code.co_name == "<lambda>" else ()
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and code.co_name == "<lambda>":
            body = node.body
            if (body.lineno, body.end_lineno, body.col_offset, body.end_col_offset) in spans:
                return node
        elif isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            if min([node.lineno, *(d.lineno for d in node.decorator_list)]) == code.co_firstlineno:
                return node
    return None


def _statements(node):
    if isinstance(node, ast.Lambda):
        return [ast.Return(node.body)]
    body = node.body
    has_doc = isinstance(body[0], ast.Expr) and isinstance(getattr(body[0], "value", None), ast.Constant)
    return body[1:] if has_doc and len(body) > 1 else body


# -- with numbers -------------------------------------------------------------------------------------------
class _Unreadable(Exception):
    """A statement that this does not write out."""


class _Worked:
    def __init__(self, scope, values, xp):
        self.scope, self.values, self.xp = scope, values, xp
        self.lines: list[str] = []

    def run(self, statements) -> list[str]:
        self._block(statements)
        return self.lines

    def _block(self, statements) -> bool:
        """Whether a return was reached."""
        for statement in statements:
            if isinstance(statement, ast.If):
                if self._block(statement.body if self.value(statement.test) else statement.orelse):
                    return True
            elif isinstance(statement, ast.Return):
                self._write(None, statement.value)
                return True
            elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                self._assign(statement.targets[0], statement.value)
            else:
                raise _Unreadable
        return False

    def _assign(self, target, value):
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple):
            if not isinstance(value, ast.Tuple) or len(value.elts) != len(target.elts):
                raise _Unreadable
            pairs = list(zip(target.elts, value.elts, strict=True))
        if not all(isinstance(name, ast.Name) for name, _ in pairs):
            raise _Unreadable
        found = {}
        for name, part in pairs:
            found[name.id] = result = self.value(part)
            if isinstance(getattr(result, "shape", None), tuple):  # sizes and axes on the way say little
                self._write(name.id, part)
        self.values.update(found)

    def value(self, node):
        expression = ast.fix_missing_locations(ast.Expression(node))
        try:
            return eval(compile(expression, "<formula>", "eval"), self.scope, self.values)
        except Exception as error:
            raise _Unreadable from error

    def _write(self, name, node):
        numbers = _Numbers(self)
        shown, result = ast.unparse(numbers.visit(ast.parse(ast.unparse(node), mode="eval").body)), self.value(node)
        is_value = isinstance(result, (int, float)) or hasattr(result, "dtype")  # and no `At`, say
        if not is_value or (not numbers.found and not _is_short(result)):
            return
        if self.lines and shown == number(result):  # the last line again
            return
        name, result = f"{name} = " if name else "", number(result)
        self.lines.append(f"{name}{result}" if shown == result else f"{name}{shown} = {result}")


class _Numbers(ast.NodeTransformer):
    """Values for names, operators for calls of the namespace, and of a choice the part that is taken."""

    def __init__(self, worked):
        self.worked, self.found = worked, False

    def visit_IfExp(self, node):
        return self.visit(node.body if self.worked.value(node.test) else node.orelse)

    def visit_Name(self, node):
        value = self.worked.values.get(node.id)
        self.found |= _is_short(value)
        return _as_node(value) or node if node.id in self.worked.values else node

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name) and (node.value.id in self.worked.values or node.value.id == "math"):
            return _as_node(self.worked.value(node)) or node
        return node

    def visit_Call(self, node):
        name, scope = node.func, self.worked.scope
        if isinstance(name, ast.Call) and ast.unparse(name.func) == "getattr":  # of the namespace, by a name
            name = ast.Attribute(name.args[0], self.worked.value(name.args[1]))
        of_namespace = isinstance(name, ast.Attribute) and isinstance(name.value, ast.Name)
        of_namespace = of_namespace and scope.get(name.value.id) is self.worked.xp
        arguments = [a for a in node.args if not (isinstance(a, ast.Name) and scope.get(a.id) is self.worked.xp)]
        arguments = [self.visit(a) for a in arguments]
        if of_namespace and not node.keywords and len(arguments) == 2:
            if name.attr in _OPERATORS:
                return ast.BinOp(arguments[0], _OPERATORS[name.attr](), arguments[1])
            if name.attr in _RELATIONS:
                return ast.Compare(arguments[0], [_RELATIONS[name.attr]()], [arguments[1]])
        if of_namespace and name.attr == "negative":
            return ast.UnaryOp(ast.USub(), arguments[0])
        if of_namespace and name.attr == "stop_gradient":
            return arguments[0]
        keywords = [ast.keyword(k.arg, self.visit(k.value)) for k in node.keywords]
        return ast.Call(ast.Name(name.attr.rstrip("_")) if of_namespace else name, arguments, keywords)


def _is_short(value) -> bool:
    return isinstance(value, (int, float)) or (hasattr(value, "dtype") and value.size <= INLINE)


def _as_node(value):
    if isinstance(value, (bool, str, type(None), tuple)):
        return ast.Name(repr(value)) if not isinstance(value, tuple) or _is_plain(value) else None
    if not _is_short(value):
        return None
    text = number(value)
    return ast.UnaryOp(ast.USub(), ast.Name(text[1:])) if text.startswith("-") else ast.Name(text)


def _is_plain(values):
    return all(isinstance(v, (int, float, str, type(None))) for v in values)


def number(value, digits: int = 7) -> str:
    """A number, or an array in one line, as short as its digits allow; a large array by its shape."""
    if hasattr(value, "get") and hasattr(value, "device"):  # an array of the GPU
        value = value.get()
    if not hasattr(value, "dtype"):
        return f"{value:.{digits}g}" if isinstance(value, float) else repr(value)
    if value.size > INLINE:
        return f"{value.dtype} {tuple(value.shape)}"
    return _nested(np.asarray(value), digits if value.size == 1 else 4)


def _nested(array, digits):
    if array.ndim:
        return "[" + ", ".join(_nested(a, digits) for a in array) + "]"
    value = array.item()
    return f"{value:.{digits}g}" if isinstance(value, float) else repr(value)
