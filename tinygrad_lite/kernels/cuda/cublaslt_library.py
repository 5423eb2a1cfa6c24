"""NVIDIA's cuBLASLt as a library: what of cublasLt.h we use, and where it is found.

Names in capitals are the header's; a test compares the values with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint64, c_void_p
from functools import cache

from ...config import settings
from .launch import cupy

CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF = 0, 2, 14
CUBLAS_COMPUTE_32F = 68  # products and sums in float32, without TF32
CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_NOT_SUPPORTED = 0, 15

CUBLASLT_MATMUL_DESC_TRANSA = 3
CUBLASLT_MATMUL_DESC_TRANSB = 4
CUBLASLT_MATMUL_DESC_EPILOGUE = 7
CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8
CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER = 11
CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD = 12
CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26
CUBLASLT_EPILOGUE_DEFAULT = 1
CUBLASLT_EPILOGUE_BIAS = 4  # adds a vector to every row of ours
CUBLASLT_EPILOGUE_GELU_AUX = 160  # gelu of the sums, by tanh; the sums themselves go to a matrix of their own
CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 164
CUBLASLT_EPILOGUE_DGELU = 192  # the sums times gelu's slope at the numbers of a matrix
CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT = 5
CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET = 6
CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1
CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7
CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2  # parts of a sum meet in float32, where 16 bits would round each

NAMES = "libcublasLt.so.13", "libcublasLt.so.12"


class HeuristicResult(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm, and what it needs."""

    _fields_ = [
        ("algo", c_uint64 * 8), ("workspaceSize", c_size_t), ("state", c_int), ("wavesCount", c_float),
        ("reserved", c_int * 4),
    ]  # fmt: skip


SIGNATURES = {
    "cublasLtCreate": [POINTER(c_void_p)],
    "cublasLtMatmulDescCreate": [POINTER(c_void_p), c_int, c_int],
    "cublasLtMatmulDescSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "cublasLtMatrixLayoutCreate": [POINTER(c_void_p), c_int, c_uint64, c_uint64, c_int64],
    "cublasLtMatrixLayoutSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "cublasLtMatmulPreferenceCreate": [POINTER(c_void_p)],
    "cublasLtMatmulPreferenceSetAttribute": [c_void_p, c_int, c_void_p, c_size_t],
    "cublasLtMatmulPreferenceDestroy": [c_void_p],
    # handle, description, layouts of A, B, C and D, preference, how many algorithms, where, how many there are
    "cublasLtMatmulAlgoGetHeuristic": [c_void_p] * 7 + [c_int, POINTER(HeuristicResult), POINTER(c_int)],
    # handle, description, alpha, A, B, beta, C, D (each but alpha and beta with its layout), algorithm, workspace, stream
    "cublasLtMatmul": [c_void_p] * 14 + [c_size_t, c_void_p],
}


def library():
    """libcublasLt, or what the emulator has in its place."""
    lib = cupy()
    return load() if lib.__name__ == "cupy" else lib.cuda.cublaslt


@cache
def load() -> ctypes.CDLL:
    """NVIDIA's library, its functions' signatures set. Raises RuntimeError where it is not found."""
    errors = []
    for path in _candidates():
        try:
            found = ctypes.CDLL(path)
        except OSError as error:
            errors.append(f"  {error}")
            continue
        for name, signature in SIGNATURES.items():
            getattr(found, name).argtypes = signature
        found.cublasLtGetStatusName.argtypes, found.cublasLtGetStatusName.restype = [c_int], c_char_p
        return found
    raise RuntimeError(
        "cuBLASLt: libcublasLt.so, which multiplies matrices on a GPU, was not found. Install the CUDA libraries beside "
        'CuPy: pip install "cupy-cuda13x[ctk]" (or nvidia-cublas), or set CUDA_PATH to a CUDA toolkit. Tried:\n'
        + "\n".join(errors)
    )


def _candidates():
    """Names and paths to try: the library that CuPy has loaded first, then where CuPy looks, then the usual folders."""
    with contextlib.suppress(Exception):  # whatever is missing: there are other ways
        import cupy_backends.cuda.libs.cublas  # noqa: F401 - loads cuBLAS, and with it cuBLASLt
    yield from NAMES
    with contextlib.suppress(Exception):
        from cuda.pathfinder import load_nvidia_dynamic_lib

        yield load_nvidia_dynamic_lib("cublasLt").abs_path or NAMES[0]
    folders = [os.path.join(p, "nvidia", package, "lib") for p in sys.path for package in ("cu13", "cublas")]
    folders += [os.path.join(toolkit, "lib64") for toolkit in (*settings.cuda_toolkits, "/usr/local/cuda")]
    paths = (os.path.join(folder, name) for folder in folders for name in NAMES)
    yield from filter(os.path.exists, paths)


def status_name(found, status: int) -> str:
    """CUBLAS_STATUS_..., for an error's text."""
    return found.cublasLtGetStatusName(status).decode()
