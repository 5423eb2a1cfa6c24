"""Matrix products by pieces: BLAS computes each on the thread that took it, without the interpreter in between."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compile import inline, jit, vectorise

ROW_MAJOR, AS_IS, TRANSPOSED = 101, 111, 112  # CBLAS's


@intrinsic
def call_gemm(typing_context, gemm, flip_x, flip_y, m, n, k, alpha, x, ldx, y, ldy, beta, out, ldo):
    """out (m, n) = alpha op(x) op(y) + beta out, by cblas_sgemm or cblas_dgemm at an address; arrays give where data begin."""
    index, double, arrays = types.intp, types.float64, (x, y, out)
    signature = types.void(*[index] * 6, double, x, index, y, index, double, out, index)

    def generate(context, builder, signature, args):
        real = context.get_value_type(out.dtype)
        int32, int64 = ir.IntType(32), ir.IntType(64)
        kind = ir.FunctionType(
            ir.VoidType(),
            [int32] * 3 + [int64] * 3 + [real, real.as_pointer(), int64, real.as_pointer(), int64]
            + [real, real.as_pointer(), int64],
        )  # fmt: skip
        gemm, flip_x, flip_y, m, n, k, alpha, _, ldx, _, ldy, beta, _, ldo = args
        x_data, y_data, out_data = (
            context.make_array(array)(context, builder, args[place]).data for array, place in zip(arrays, (7, 9, 12))
        )
        flip_x, flip_y = builder.trunc(flip_x, int32), builder.trunc(flip_y, int32)
        if out.dtype == types.float32:
            alpha, beta = builder.fptrunc(alpha, real), builder.fptrunc(beta, real)
        builder.call(
            builder.inttoptr(gemm, kind.as_pointer()),
            [
                ir.Constant(int32, ROW_MAJOR), flip_x, flip_y, m, n, k, alpha,
                x_data, ldx, y_data, ldy, beta, out_data, ldo,
            ],
        )  # fmt: skip
        return context.get_dummy_value()

    return signature, generate


@inline
def layout(rows, columns, row, column, size):
    """How BLAS is to read a matrix that `fits`, from its strides, and the distance between its rows (or columns).

    The stride along an axis of length 1 may be anything, and BLAS refuses a distance below the other length.
    """
    if column == size and (rows == 1 or row >= columns * size):
        return AS_IS, max(row // size, columns)
    return TRANSPOSED, max(column // size, rows)


@jit("i i i i i a2 a2 r1 a2 w2")
def pieces(start, stop, gemm, row_step, column_step, x, y, bias, residual, out):
    """Pieces start to stop of out = x @ y + bias + residual: blocks of row_step x column_step, numbered along the rows.

    bias (columns,) and residual (rows, columns) may be empty. BLAS adds the product to what is there, where it would
    else write zeros first.
    """
    vectorise()
    columns = (out.shape[1] + column_step - 1) // column_step
    flip_x, ldx = layout(x.shape[0], x.shape[1], x.strides[0], x.strides[1], x.itemsize)
    flip_y, ldy = layout(y.shape[0], y.shape[1], y.strides[0], y.strides[1], y.itemsize)
    for piece in range(start, stop):
        i, j = piece // columns * row_step, piece % columns * column_step
        target = out[i : i + row_step, j : j + column_step]
        if residual.size:
            _add_rows(residual[i : i + row_step, j : j + column_step], bias[j : j + column_step], target)
        elif bias.size:
            for r in range(target.shape[0]):
                row = target[r]
                for c in range(row.size):
                    row[c] = bias[j + c]
        beta = 1.0 if residual.size or bias.size else 0.0
        call_gemm(
            gemm, flip_x, flip_y, target.shape[0], target.shape[1], x.shape[1], 1.0, x[i:], ldx, y[:, j:], ldy,
            beta, target, out.shape[1],
        )  # fmt: skip


@inline
def _add_rows(x, bias, out):
    for r in range(out.shape[0]):
        source, target = x[r], out[r]
        if bias.size:
            for j in range(target.size):
                target[j] = source[j] + bias[j]
        else:
            for j in range(target.size):
                target[j] = source[j]


@jit("i i i a3 a3 w3")
def stack(start, stop, gemm, x, y, out):
    """Matrices start to stop of out = x @ y."""
    flip_x, ldx = layout(x.shape[1], x.shape[2], x.strides[1], x.strides[2], x.itemsize)
    flip_y, ldy = layout(y.shape[1], y.shape[2], y.strides[1], y.strides[2], y.itemsize)
    for i in range(start, stop):
        call_gemm(
            gemm, flip_x, flip_y, out.shape[1], out.shape[2], x.shape[2], 1.0, x[i], ldx, y[i], ldy, 0.0, out[i],
            out.shape[2],
        )  # fmt: skip


def fits(x):
    """Whether BLAS can read these matrices where they are: one of the last two axes is dense."""
    (rows, columns), (row, column), size = x.shape[-2:], x.strides[-2:], x.itemsize
    return (column == size and (rows == 1 or (row >= columns * size and row % size == 0))) or (
        row == size and (columns == 1 or (column >= rows * size and column % size == 0))
    )


FOUR = 4  # columns of the result that few_rows computes at once


@inline
def _four_dots(x, y0, y1, y2, y3, zero):
    total0, total1, total2, total3 = zero, zero, zero, zero
    for k in range(x.size):
        total0 += x[k] * y0[k]
        total1 += x[k] * y1[k]
        total2 += x[k] * y2[k]
        total3 += x[k] * y3[k]
    return total0, total1, total2, total3


@inline
def _eight_dots(x0, x1, y0, y1, y2, y3, zero):
    total00, total01, total02, total03 = zero, zero, zero, zero
    total10, total11, total12, total13 = zero, zero, zero, zero
    for k in range(x0.size):
        total00 += x0[k] * y0[k]
        total01 += x0[k] * y1[k]
        total02 += x0[k] * y2[k]
        total03 += x0[k] * y3[k]
        total10 += x1[k] * y0[k]
        total11 += x1[k] * y1[k]
        total12 += x1[k] * y2[k]
        total13 += x1[k] * y3[k]
    return (total00, total01, total02, total03), (total10, total11, total12, total13)


@jit("i i r2 r2 r1 r2 w2")
def few_rows(start, stop, x, y, bias, residual, out):
    """Fours start to stop of the columns of out = x @ y.T + bias + residual, for an x of few rows: y is read once.

    bias (columns,) and residual (rows, columns) may be empty. BLAS would copy all of y first: the products of GPT-2 124M's
    layers, of 4 and 16 rows, take 10 and 20 ms, by BLAS 24 and 27. Four rows of y at once are read from memory in four
    places, at 50 to 69 GB/s in place of 35 to 60.
    """
    vectorise()
    zero, rows = out.dtype.type(0), x.shape[0]
    for four in range(start, stop):
        j, end = four * FOUR, min((four + 1) * FOUR, y.shape[0])
        if end - j == FOUR:
            y0, y1, y2, y3, pairs = y[j], y[j + 1], y[j + 2], y[j + 3], rows // 2 * 2
            for i in range(0, pairs, 2):
                out0, out1 = out[i, j:end], out[i + 1, j:end]
                first, second = _eight_dots(x[i], x[i + 1], y0, y1, y2, y3, zero)
                out0[0], out0[1], out0[2], out0[3] = first
                out1[0], out1[1], out1[2], out1[3] = second
            for i in range(pairs, rows):
                last = out[i, j:end]
                last[0], last[1], last[2], last[3] = _four_dots(x[i], y0, y1, y2, y3, zero)
        else:
            for i in range(rows):
                for c in range(j, end):
                    x_row, y_row, total = x[i], y[c], zero
                    for k in range(x_row.size):
                        total += x_row[k] * y_row[k]
                    out[i, c] = total
        for i in range(rows):
            if bias.size:
                for c in range(j, end):
                    out[i, c] += bias[c]
            if residual.size:
                for c in range(j, end):
                    out[i, c] += residual[i, c]
