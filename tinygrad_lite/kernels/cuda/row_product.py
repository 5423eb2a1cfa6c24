"""row_product: a linear layer of one row, which is as fast as its weights are read."""

from .arrays import VECTOR_BYTES, blocks, fits_vectors
from .launch import Source

WARPS, AT_ONCE = 8, 4  # as in row_product.cu
COLUMNS = 4  # outputs of a warp where one for each would be more than a card has warps under way
MANY = 32768  # outputs: an H100 has 132 processors of 64 warps

_names = {
    (element, columns, with_gelu): f"row_product<T, {element}, {columns}, {str(with_gelu).lower()}>"
    for element in ("T", "float")
    for columns in (1, COLUMNS)
    for with_gelu in (False, True)
    if element == "T" or not with_gelu
}
_kernels = Source("row_product.cu", *_names.values())


def supports(out, x, w) -> bool:
    """Whether there is a kernel for out (1, N) = x (1, K) @ w (N, K)'."""
    return out.shape[0] == 1 and out.size > 0 and x.size > 0 and fits_vectors(x, w)


def multiply(out, x, w, bias=None, addend=None, before_gelu=None):
    """out (1, N) = x (1, K) @ w (N, K)' + bias (N,) + addend (1, N), which may be out; rounded once.

    x and w are of one type, out, bias and addend of that or float32. before_gelu (1, N), of x's type as out is then: takes
    the sums, and out their gelu, by tanh.
    """
    n, k = w.shape
    turns = blocks(k, 32 * VECTOR_BYTES // x.dtype.itemsize)  # of a warp along a row
    split = min(WARPS, 1 << (blocks(turns, AT_ONCE) - 1).bit_length())
    columns = COLUMNS if n * split >= MANY else 1
    kernel = _kernels[x.dtype][_names["T" if out.dtype == x.dtype else "float", columns, before_gelu is not None]]
    grid = (blocks(n, columns * (WARPS // split)),)
    kernel(grid, (32 * WARPS,), out, before_gelu, x, w, bias, addend, n, k, split)
    return out
