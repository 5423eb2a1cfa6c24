"""A stand-in for libcublasLt: descriptors that are read as NVIDIA documents them, and products by NumPy.

Every product of 16-bit or float32 matrices is added up in float32, what is added to it too, and then rounded once.
Only what the library's caller uses is there; a wrong size of an attribute, shapes that do not fit, types that do not
go together and accesses outside of an array are errors. Products are recorded in CuPy's `launches`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ....dtypes import bfloat16, float16, float32
from .. import cublaslt_library as lt
from .arrays import check_guards
from .streams import Stream

TYPES = {lt.CUDA_R_32F: float32, lt.CUDA_R_16F: float16, lt.CUDA_R_16BF: bfloat16}
# Bytes of each attribute, as cublasLt.h says.
DESCRIPTION = {
    lt.CUBLASLT_MATMUL_DESC_TRANSA: 4, lt.CUBLASLT_MATMUL_DESC_TRANSB: 4, lt.CUBLASLT_MATMUL_DESC_EPILOGUE: 4,
    lt.CUBLASLT_MATMUL_DESC_BIAS_POINTER: 8, lt.CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: 4,
    lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: 8, lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: 8,
}  # fmt: skip
LAYOUT = {lt.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: 4, lt.CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: 8}
PREFERENCE = {
    lt.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: 8, lt.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: 4,
    lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: 4, lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: 4,
    lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: 4, lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: 4,
}  # fmt: skip
WITH_BIAS = lt.CUBLASLT_EPILOGUE_BIAS, lt.CUBLASLT_EPILOGUE_GELU_AUX_BIAS
WITH_GELU = lt.CUBLASLT_EPILOGUE_GELU_AUX, lt.CUBLASLT_EPILOGUE_GELU_AUX_BIAS
WITH_AUX = *WITH_GELU, lt.CUBLASLT_EPILOGUE_DGELU
EPILOGUES = {
    lt.CUBLASLT_EPILOGUE_DEFAULT: "", lt.CUBLASLT_EPILOGUE_BIAS: " + bias", lt.CUBLASLT_EPILOGUE_GELU_AUX: ", gelu",
    lt.CUBLASLT_EPILOGUE_GELU_AUX_BIAS: " + bias, gelu", lt.CUBLASLT_EPILOGUE_DGELU: ", gelu's slope",
}  # fmt: skip
AUX_LD_MULTIPLE, AUX_ALIGNMENT = 8, 16  # elements, as cublasLt.h says; bytes
INVALID_VALUE = 7
WORKSPACE_BYTES = 512  # that the one algorithm asks for, and overwrites

launches: list[str] = []  # CuPy's own list, which it puts here


@dataclass
class _Descriptor:
    """What a create function was given, and the attributes that were set since."""

    given: tuple
    sizes: dict[int, int]
    attributes: dict = field(default_factory=dict)

    def set(self, attribute, value, size):
        if self.sizes.get(attribute) != size:
            return INVALID_VALUE
        held = value._obj  # of byref
        self.attributes[attribute] = held if hasattr(held, "array") else held.value
        return 0


_made: dict[int, _Descriptor] = {}


def _make(place, *given, sizes):
    place._obj.value = len(_made) + 1
    _made[place._obj.value] = _Descriptor(given, sizes)
    return 0


def cublasLtGetVersion():
    """0: of no release of NVIDIA's."""
    return 0


def cublasLtCreate(handle):
    """A handle, which holds nothing."""
    return _make(handle, sizes={})


def cublasLtMatmulDescCreate(place, compute_type, scale_type):
    """What is to be computed. INVALID_VALUE unless sums and scales are float32."""
    if (compute_type, scale_type) != (lt.CUBLAS_COMPUTE_32F, lt.CUDA_R_32F):
        return INVALID_VALUE
    return _make(place, sizes=DESCRIPTION)


def cublasLtMatrixLayoutCreate(place, element, rows, columns, ld):
    """A matrix by columns, ld elements from one to the next. INVALID_VALUE where they would overlap."""
    return INVALID_VALUE if ld < rows else _make(place, TYPES[element], rows, columns, ld, sizes=LAYOUT)


def cublasLtMatmulPreferenceCreate(place):
    """What an algorithm may need."""
    return _make(place, sizes=PREFERENCE)


def _set(descriptor, attribute, value, size):
    return _made[descriptor.value].set(attribute, value, size)


cublasLtMatmulDescSetAttribute = cublasLtMatrixLayoutSetAttribute = cublasLtMatmulPreferenceSetAttribute = _set


def cublasLtMatmulPreferenceDestroy(preference):
    """Nothing is freed: Python does."""
    return 0


def cublasLtGetStatusName(status):
    """CUBLAS_STATUS_..., in bytes."""
    return {INVALID_VALUE: b"CUBLAS_STATUS_INVALID_VALUE"}.get(status, str(status).encode())


def cublasLtMatmulAlgoGetHeuristic(handle, description, a, b, c, d, preference, asked, results, count):
    """One algorithm, if shapes and types go together, and the workspace may be as large as it needs."""
    try:
        if _made[preference.value].attributes[lt.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES] < WORKSPACE_BYTES:
            return lt.CUBLAS_STATUS_NOT_SUPPORTED
        _check(*(_made[x.value] for x in (description, a, b, c, d)))
    except ValueError:
        return INVALID_VALUE
    results[0].state, results[0].workspaceSize, count._obj.value = 0, WORKSPACE_BYTES, 1
    return 0


def cublasLtMatmul(
    handle,
    description,
    alpha,
    a,
    a_layout,
    b,
    b_layout,
    beta,
    c,
    c_layout,
    d,
    d_layout,
    algorithm,
    workspace,
    workspace_bytes,
    stream,
):
    """D = alpha op(A) op(B) + beta C, and what the epilogue says; noted down where the stream is captured."""
    attributes = dict(_made[description.value].attributes)
    layouts = [_made[x.value] for x in (a_layout, b_layout, c_layout, d_layout)]
    _check(_made[description.value], *layouts)
    a, b, c, d = (_matrix(pointer, layout) for pointer, layout in zip((a, b, c, d), layouts, strict=True))
    alpha, beta, epilogue = alpha._obj.value, beta._obj.value, attributes[lt.CUBLASLT_MATMUL_DESC_EPILOGUE]
    vector = _vector(attributes, d.dtype, d.shape[-2]) if epilogue in WITH_BIAS else None
    aux = _aux(attributes, layouts[3]) if epilogue in WITH_AUX else None
    if attributes[lt.CUBLASLT_MATMUL_DESC_TRANSA]:
        a = a.swapaxes(-1, -2)
    if attributes[lt.CUBLASLT_MATMUL_DESC_TRANSB]:
        b = b.swapaxes(-1, -2)
    name = "matmul" + EPILOGUES[epilogue] + (" + C" if beta else "")
    scratch = workspace.array._host
    if not WORKSPACE_BYTES <= workspace_bytes <= scratch.nbytes:
        raise RuntimeError(f"cublasLtMatmul: {workspace_bytes} of {WORKSPACE_BYTES} bytes, in {scratch.nbytes}")

    def run():
        launches.append(name)
        scratch[...] = 0xA5  # so that nobody finds there what was before
        with np.errstate(all="ignore"):  # a GPU does not warn
            result = np.float32(alpha) * np.matmul(a.astype(np.float32), b.astype(np.float32))
            if beta:
                result += np.float32(beta) * c.astype(np.float32)
            if vector is not None:
                result += vector[:, None].astype(np.float32)
            if epilogue in WITH_GELU:
                aux[...] = result
                result = _gelu(result)[0]
            elif aux is not None:
                result *= _gelu(aux.astype(np.float32))[1]
            d[...] = result
        check_guards(name)

    graph = Stream.current.graph
    graph.work.append(run) if graph else run()
    return 0


def _check(description, a, b, c, d):
    """Raise ValueError unless op(A) (m, k), op(B) (k, n), C and D (m, n) fit, in shapes, types and batches."""
    turned = [description.attributes.get(x) for x in (lt.CUBLASLT_MATMUL_DESC_TRANSA, lt.CUBLASLT_MATMUL_DESC_TRANSB)]
    (m, k), (k2, n) = (x.given[1:3][:: -1 if turn else 1] for x, turn in zip((a, b), turned, strict=True))
    types = [x.given[0] for x in (a, b, c, d)]
    counts = [x.attributes.get(lt.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 1) for x in (a, b, c, d)]
    if k != k2 or not c.given[1:3] == d.given[1:3] == (m, n) or min(m, n, k) < 1:  # of nothing NVIDIA says nothing
        raise ValueError(f"cublasLtMatmul: op(A) {m, k}, op(B) {k2, n}, C {c.given[1:3]}, D {d.given[1:3]}")
    if types[0] != types[1] or types[2] != types[3] or types[3] not in (types[0], float32):
        raise ValueError(f"cublasLtMatmul: types of A, B, C, D: {types}")
    if len(set(counts)) > 1:
        raise ValueError(f"cublasLtMatmul: numbers of matrices in A, B, C, D: {counts}")
    if description.attributes[lt.CUBLASLT_MATMUL_DESC_EPILOGUE] in WITH_AUX:
        ld = description.attributes[lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD]
        place = description.attributes[lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER]
        place = getattr(place, "value", place)  # before there is an array, its alignment
        if counts[0] > 1 or ld < m or ld % AUX_LD_MULTIPLE or not place or place % AUX_ALIGNMENT:
            raise ValueError(
                f"cublasLtMatmul: the epilogue's matrix at {place}, ld {ld} for {m} rows, {counts[0]} times"
            )


def _matrix(pointer, layout):
    """(..., rows, columns) of a layout that is by columns, as a view of the array that it lies in."""
    dtype, rows, columns, ld = layout.given
    count = layout.attributes.get(lt.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, 1)
    stride = layout.attributes.get(lt.CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, 0)
    host = pointer.array._host
    needed = (count - 1) * stride + (columns - 1) * ld + rows
    if host.dtype != dtype or not host.flags.c_contiguous or needed > host.size:
        raise RuntimeError(f"cublasLtMatmul: {needed} elements of {dtype} in an array of {host.size} of {host.dtype}")
    view = as_strided(host.reshape(-1), (count, rows, columns), [n * dtype.itemsize for n in (stride, 1, ld)])
    return view if count > 1 else view[0]


def _aux(attributes, layout):
    """The matrix beside D: of its shape and type, of a leading dimension of its own."""
    ld = attributes[lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD]
    return _matrix(attributes[lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER], _Descriptor((*layout.given[:3], ld), {}))


def _gelu(x):
    """Value and slope of x (1 + tanh u) / 2, u = sqrt(2 / pi) (x + 0.044715 x^3), in float32."""
    factor, cubic = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
    t = np.tanh(factor * (x + cubic * x * x * x))
    slope = (1 + t) / 2 + x * (1 - t * t) / 2 * factor * (1 + 3 * cubic * x * x)
    return x * (1 + t) / 2, slope


def _vector(attributes, dtype, size):
    """The bias."""
    host = attributes[lt.CUBLASLT_MATMUL_DESC_BIAS_POINTER].array._host
    declared = TYPES[attributes[lt.CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE]]
    if not declared == host.dtype == dtype or math.prod(host.shape) != size:
        raise RuntimeError(
            f"cublasLtMatmul: a vector of {size} of {dtype}, got {host.size} of {host.dtype}, {declared}"
        )
    return host.reshape(-1)
