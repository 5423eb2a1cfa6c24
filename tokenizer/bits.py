"""Which of 64 bytes lie in a range, as the bits of one number: what vector instructions answer in one step.

LLVM makes of a comparison of 64 bytes whatever the machine has: one instruction with AVX-512, a few with AVX2 or NEON.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from .native import types as t

BLOCK = 64


def bytes_in_range(data: np.ndarray, place: int, fold: int, first: int, count: int) -> np.uint64:
    """Bit n says whether (data[place + n] | fold) - first is in 0 .. count - 1, for n in 0 .. 63."""
    found = ((data[place : place + BLOCK] | np.uint8(fold)) - np.uint8(first)) < count
    return np.packbits(found, bitorder="little").view(np.uint64)[0]


def lowest_bit(mask: np.uint64) -> int:
    """The number of the lowest bit that is set; mask is not 0."""
    return (int(mask) & -int(mask)).bit_length() - 1


def highest_bit(mask: np.uint64) -> int:
    """The number of the highest bit that is set; mask is not 0."""
    return int(mask).bit_length() - 1


if not numba.config.DISABLE_JIT:

    @intrinsic
    def bytes_in_range(typing_context, data, place, fold, first, count):  # noqa: F811
        vector = ir.VectorType(ir.IntType(8), BLOCK)

        def generate(context, builder, signature, arguments):
            def repeated(value):
                value = builder.trunc(value, ir.IntType(8))
                lone = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
                return builder.shuffle_vector(lone, ir.Constant(vector, ir.Undefined), zeros)

            array = make_array(signature.args[0])(context, builder, arguments[0])
            address = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
            folded = builder.or_(builder.load(address, align=1), repeated(arguments[2]))
            found = builder.icmp_unsigned("<", builder.sub(folded, repeated(arguments[3])), repeated(arguments[4]))
            return builder.bitcast(found, ir.IntType(64))

        return t.uint64(data, t.int64, t.int64, t.int64, t.int64), generate

    @intrinsic
    def lowest_bit(typing_context, mask):  # noqa: F811
        def generate(context, builder, signature, arguments):
            return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

        return t.int64(t.uint64), generate

    @intrinsic
    def highest_bit(typing_context, mask):  # noqa: F811
        def generate(context, builder, signature, arguments):
            return builder.sub(
                ir.Constant(ir.IntType(64), 63), builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
            )

        return t.int64(t.uint64), generate
