"""A register tile of a matrix product, for use inside kernels: what BLAS cannot give to a loop that holds no GIL.

Attention multiplies many matrices too small for a BLAS call each (64 x 32 @ 32 x 64: NumPy's stacked matmul spends 5
microseconds a product). LLVM does not keep a block of sums in registers by itself: the best that plain loops reached
was 79 GFLOP/s on one core of a Xeon with AVX-512, in long rows, and 56 in short ones. So the tile is written as vector
instructions: ROWS x COLUMNS sums stay in registers while k advances, each element of `b` loaded once for ROWS rows.
Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication".
"""

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# 32 vector registers hold 16 sums and what feeds them; AVX2 has 16 registers, and half the width.
_features = llvmlite.binding.get_host_cpu_features()
_WIDE = bool(_features.get("avx512f"))
ROWS = 8 if _WIDE or _features.get("neon") else 4
COLUMNS = 32 if _WIDE else 16
_VECTORS = 2 if _WIDE or not _features.get("neon") else 4
_LANES = COLUMNS // _VECTORS


def multiply_tile(accumulate, c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, k):
    """c[ROWS, COLUMNS] = (c if accumulate else 0) + a[ROWS, k] @ b[k, COLUMNS], in flat arrays at given places.

    Element (r, j) of c is c[c_at + r c_row + j]; (r, i) of a is a[a_at + r a_row + i a_step], so that a may be read
    transposed; (i, j) of b is b[b_at + i b_row + j]. `accumulate` is a literal.
    """
    view = np.lib.stride_tricks.as_strided
    size = c.itemsize
    cs = view(c[c_at:], (ROWS, COLUMNS), (c_row * size, size))
    a_tile = view(a[a_at:], (ROWS, k), (a_row * size, a_step * size))
    b_tile = view(b[b_at:], (k, COLUMNS), (b_row * size, size))
    cs[:] = (cs if accumulate else 0) + a_tile @ b_tile


if not numba.config.DISABLE_JIT:

    @intrinsic(prefer_literal=True)
    def multiply_tile(  # noqa: F811
        typing_context, accumulate, c, c_at, c_row, a, a_at, a_row, a_step, b, b_at, b_row, k
    ):
        index = types.intp
        array_types = (c, a, b)
        signature = types.void(accumulate, c, index, index, a, index, index, index, b, index, index, index)

        def generate(context, builder, signature, args):
            c_at, c_row = args[2], args[3]
            a_at, a_row, a_step = args[5], args[6], args[7]
            b_at, b_row, k = args[9], args[10], args[11]
            element = context.get_value_type(c.dtype)
            vector = ir.VectorType(element, _LANES)
            c_data, a_data, b_data = (
                context.make_array(kind)(context, builder, args[position]).data
                for kind, position in zip(array_types, (1, 4, 8))
            )

            def vector_at(data, at, lane):
                place = builder.add(at, ir.Constant(at.type, lane * _LANES))
                return builder.bitcast(builder.gep(data, [place]), vector.as_pointer())

            size = c.dtype.bitwidth // 8
            first_lane = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
            c_rows = [builder.add(c_at, builder.mul(c_row, ir.Constant(c_row.type, r))) for r in range(ROWS)]
            a_rows = [builder.add(a_at, builder.mul(a_row, ir.Constant(a_row.type, r))) for r in range(ROWS)]
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(_VECTORS)] for _ in range(ROWS)]
            for row, at in zip(sums, c_rows):
                for lane, place in enumerate(row):
                    start = ir.Constant(vector, [0.0] * _LANES)
                    if accumulate.literal_value:
                        start = builder.load(vector_at(c_data, at, lane), align=size)
                    builder.store(start, place)
            with cgutils.for_range(builder, k, intp=k.type) as loop:
                b_place = builder.add(b_at, builder.mul(loop.index, b_row))
                b_vectors = [builder.load(vector_at(b_data, b_place, lane), align=size) for lane in range(_VECTORS)]
                step = builder.mul(loop.index, a_step)
                for row, at in zip(sums, a_rows):
                    value = builder.load(builder.gep(a_data, [builder.add(at, step)]))
                    lone = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _int32(0))
                    spread = builder.shuffle_vector(lone, lone, first_lane)
                    for place, b_vector in zip(row, b_vectors):
                        product = builder.fmul(spread, b_vector, flags=("contract",))
                        builder.store(builder.fadd(product, builder.load(place), flags=("contract",)), place)
            for row, at in zip(sums, c_rows):
                for lane, place in enumerate(row):
                    builder.store(builder.load(place), vector_at(c_data, at, lane), align=size)
            return context.get_dummy_value()

        return signature, generate


def _int32(value):
    return ir.Constant(ir.IntType(32), value)
