"""What layer_norm and rms_norm share: norm.cu and its launches."""

from ...dtypes import float32
from .arrays import VECTOR_BYTES, blocks, buffer, empty
from .launch import Source
from .row_kernels import WARPS, instance_for, instances, matrix_shape, row_launch, sum_launch, sum_partials

# Of a warp over a row of GPT-2's 768 columns in 16 bits: an instance of its own, 45.1 us in place of 49.8 on an H200.
TURNS = 3


class Norm:
    """norm.cu with the mean taken off each row and a bias, or without both."""

    def __init__(self, centre: bool):
        self.centre = centre
        centring = str(centre).lower()
        self.forward_names = instances(f"norm_forward<T, {centring}, VECTORS, WARPS>")
        self.backward_names = instances(f"norm_backward<T, {centring}, VECTORS, WARPS, 0>")
        self.whole_turns = f"norm_backward<T, {centring}, true, 1, {TURNS}>"
        names = *self.forward_names.values(), *self.backward_names.values(), self.whole_turns
        self.kernels = Source("norm.cu", *names, "sum_partials<T>")

    def forward(self, x, weight, bias, eps):
        """(out, mean (N,), rstd (N,)) of x (..., C), the statistics in float32; mean is None without centring."""
        n, c = matrix_shape(x)
        out, rstd, mean = empty(x.shape, x.dtype), empty(n, float32), empty(n, float32) if self.centre else None
        if x.size:
            instance = instance_for(x, out, weight, bias)
            kernel = self.kernels[x.dtype][self.forward_names[instance]]
            kernel(*row_launch(n, instance), out, mean, rstd, x, weight, bias, n, c, eps)
        return out, mean, rstd

    def backward(self, g, x, weight, mean, rstd, needs, into, previous):
        """Gradients of x, weight and, with centring, bias: one pass over g and x, then the sum of what blocks summed.

        x's is added to `previous` where that is not None.
        """
        kernels, (n, c) = self.kernels[x.dtype], matrix_shape(x)
        gx = buffer(into[0], x) if needs[0] else None
        instance = instance_for(x, g, gx, weight, previous)
        grid, block = sum_launch(n, instance) if x.size else ((0,), (0,))
        partial = empty((grid[0], 2 if self.centre else 1, c), float32) if any(needs[1:]) else None
        if x.size and any(needs):
            is_whole = instance == (True, 1) and c * x.dtype.itemsize == TURNS * 32 * VECTOR_BYTES
            kernel = kernels[self.whole_turns if is_whole else self.backward_names[instance]]
            shared = _shared_bytes(instance, x)
            kernel(grid, block, gx, partial, previous, g, x, weight, mean, rstd, n, c, shared=shared)
        return gx, *sum_partials(kernels, partial, weight, needs[1:], into[1:])


def _shared_bytes(instance, x):
    """What norm_backward copies rows of three arrays to, 16 bytes a thread and turn, and where its warps meet."""
    vectors, warps = instance
    turns = blocks(x.shape[-1], 32 * (VECTOR_BYTES // x.dtype.itemsize if vectors else 1))
    return turns * WARPS * 32 * (3 * VECTOR_BYTES if vectors else 4) if warps == 1 else 0
