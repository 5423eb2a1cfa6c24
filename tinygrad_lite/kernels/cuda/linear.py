"""linear: y = x @ weight.T + bias + residual. The product is the library's; what is added to it, one pass of ours."""

from ...dtypes import bfloat16, float16, float32
from .arrays import VECTOR_BYTES, blocks, buffer, empty, fits_vectors, rows
from .column_sums import column_sums
from .launch import Source
from .product import matmul

DTYPES = (float32, bfloat16, float16)
THREADS = 256  # as in linear.cu
ITEMS = 4 * THREADS  # what a block is given, as nearly as whole rows allow

_kernels = Source("linear.cu", "add_bias_residual<T, true>", "add_bias_residual<T, false>")


def forward(x, weight, bias, residual):
    """x (..., I), weight (O, I), bias (O,) or None, residual (..., O) or None. Returns y (..., O), saves x, weight."""
    x2 = rows(x)
    y = matmul(x2, weight.T, empty((x2.shape[0], weight.shape[0]), x.dtype))
    if not (bias is None and residual is None):
        _add(y, bias, residual)
    return y.reshape(*x.shape[:-1], weight.shape[0]), (x, weight)


def backward(g, saved, needs, into):
    """forward: y = x @ weight.T + bias + residual, so gx = g @ weight, gw = g.T @ x, gb = sum of g's rows."""
    x, weight = saved
    g2 = rows(g)
    gx = gw = gb = gresidual = None
    if needs[0]:
        gx = buffer(into[0], x)
        matmul(g2, weight, rows(gx))
    if needs[1]:
        gw = matmul(g2.T, rows(x), buffer(into[1], weight))
    if needs[2]:
        gb = column_sums(g2, empty((g2.shape[1],), g.dtype) if into[2] is None else into[2])
    if needs[3]:
        gresidual = g
        if into[3] is not None:
            gresidual = into[3]
            gresidual[...] = g
    return gx, gw, gb, gresidual


def _add(y, bias, residual):
    """y (N, O) += bias (O,) + residual (..., O) in place."""
    if not y.size:
        return
    n, columns = y.shape
    vectors = fits_vectors(y, bias, residual)
    items = columns // (VECTOR_BYTES // y.dtype.itemsize if vectors else 1)
    rows_per_block = max(1, ITEMS // items)
    _kernels[y.dtype][f"add_bias_residual<T, {'true' if vectors else 'false'}>"](
        (blocks(n, rows_per_block),), (THREADS,), y, bias, residual, n, columns, rows_per_block
    )
