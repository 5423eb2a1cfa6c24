"""Matrix products and einsum."""

import math

from ._axes import ndim_of
from .registry import Case, primitive


def _swapped(xp, x):
    d = len(x.shape)
    if d == 2:
        return xp.transpose(x, axes=(1, 0))
    return xp.transpose(x, axes=(*range(d - 2), d - 1, d - 2))


@primitive(Case((2, 3), (3, 4)), Case((2, 2, 3), (3, 2)), Case((2, 1, 2, 3), (3, 3, 2)))
def matmul(xp, x, y):
    """Matrix product of the last two axes, broadcasting the others; both have at least two axes."""
    if y.ndim == 2 and x.ndim > 2 and x.flags.c_contiguous:
        # One product over all rows: NumPy would call BLAS once a matrix.
        rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
        return xp.matmul(rows, y).reshape(*x.shape[:-1], y.shape[-1])
    return xp.matmul(x, y)


@matmul.validate
def _(x, y):
    a, b = getattr(x, "shape", ()), getattr(y, "shape", ())
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError(
            f"matmul: the last axis of x must equal the second to last of y, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    return {}


def _matmul_y(xp, g, x, y_shape):
    # forward: x @ y, so gy = x.T @ g, summed over what was broadcast
    if len(y_shape) == 2 and len(x.shape) > 2:
        n = math.prod(x.shape[:-1])
        x, g = xp.reshape(x, shape=(n, x.shape[-1])), xp.reshape(g, shape=(n, g.shape[-1]))
    return xp.matmul(_swapped(xp, x), g)


matmul.vjp(x=lambda xp, g, y: xp.matmul(g, _swapped(xp, y)), y=_matmul_y)


@primitive(
    Case((2, 3), (3, 4), subscripts="ij,jk->ik"),
    Case((2, 3), (3,), (2,), subscripts="ij,j,i->"),
    Case((2, 2, 3), (2, 3, 2), subscripts="bij,bjk->bki"),
    Case((2, 3), subscripts="ij->j"),
)
def einsum(xp, *xs, subscripts):
    """Sum of products over named axes, as numpy.einsum with the output named."""
    return xp.einsum(*xs, subscripts=subscripts)


@einsum.validate
def _(*xs, subscripts):
    return {"subscripts": explicit_subscripts(subscripts, [ndim_of(x) for x in xs])}


def explicit_subscripts(subscripts: str, ndims) -> str:
    """Subscripts with the ellipsis replaced by letters and the output written out."""
    left, arrow, out = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, got {len(ndims)}")
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in subscripts]
    widest = 0
    for i, (term, ndim) in enumerate(zip(terms, ndims, strict=True)):
        named = len(term.replace("...", ""))
        if named > ndim or (named < ndim and "..." not in term):
            raise ValueError(f"einsum: {term!r} names {named} axes, operand {i} has {ndim}")
        if "..." in term:
            count = ndim - named
            widest = max(widest, count)
            terms[i] = term.replace("...", "".join(free[:count][::-1]))
    shared = "".join(free[:widest][::-1])
    if not arrow:
        letters = "".join(terms)
        out = shared + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in shared))
    out = out.replace("...", shared)
    for term in terms:
        if len(set(term)) != len(term):
            raise ValueError(f"einsum: {subscripts!r} repeats an axis within an operand: take .diagonal() first")
    if len(set(out)) != len(out) or not set(out) <= set("".join(terms)):
        raise ValueError(f"einsum: the output {out!r} must name axes of the operands, each once")
    return ",".join(terms) + "->" + out


def _operand(xp, g, index, xs, xs_shape, subscripts):
    # The product is linear in each operand: its gradient is the einsum of g with the others.
    terms, out = subscripts.split("->")
    terms = terms.split(",")
    mine, shape = terms[index], xs_shape[index]
    others = [i for i in range(len(terms)) if i != index]
    known = set(out).union(*(terms[i] for i in others)) if others else set(out)
    reach = "".join(c for c in mine if c in known)
    equation = ",".join([out, *(terms[i] for i in others)]) + "->" + reach
    gx = xp.einsum(g, *(xs[i] for i in others), subscripts=equation)
    # An axis that was only summed gets the same gradient everywhere; one that was broadcast is summed by the walk.
    full = xp.reshape(gx, shape=tuple(gx.shape[reach.index(c)] if c in reach else 1 for c in mine))
    target = tuple(max(n, shape[i]) for i, n in enumerate(full.shape))
    return xp.broadcast_to(full, shape=target)


einsum.vjp(xs=_operand)
