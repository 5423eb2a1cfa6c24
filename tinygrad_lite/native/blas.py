"""The OpenBLAS that NumPy brings: how many threads it has, and where its matrix products are.

It reads its environment when NumPy loads it, so afterwards only its own functions reach it. Most wheels of NumPy have it,
those for macOS 14 and later have Accelerate instead; where there is none, products are np.matmul's, on the threads of whatever BLAS that uses.
"""

import ctypes
import functools
import os

import numpy as np


@functools.cache
def _library():
    root = os.path.dirname(np.__file__)
    for folder in (root + ".libs", os.path.join(root, ".dylibs")):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if "openblas" in name:
                return ctypes.CDLL(os.path.join(folder, name))
    return None


def _function(*names):
    for name in names if _library() is not None else ():
        if hasattr(_library(), name):
            return getattr(_library(), name)
    return None


def set_blas_threads(n):
    """Let NumPy's own BLAS use n threads. From the first kernel or product of ours on it has one.

    After a product on several threads OpenBLAS's spin for another 0.1 s, on cores that our threads then share with them:
    one such product a step halves the speed of all others. Setting it back around each product of ours instead was
    tried: no Python code can promise that Ctrl-C does not come between.
    """
    function = _function("scipy_openblas_set_num_threads64_", "openblas_set_num_threads")
    if function is not None:
        function(n)


def get_blas_threads():
    """The number of threads of NumPy's own BLAS, or None where it is no OpenBLAS."""
    function = _function("scipy_openblas_get_num_threads64_", "openblas_get_num_threads")
    return None if function is None else function()


@functools.cache
def gemm_address(dtype):
    """The address of cblas_sgemm or cblas_dgemm with 64-bit sizes, or 0 where there is none."""
    letter = {"float32": "s", "float64": "d"}[dtype.name]
    function = _function(f"scipy_cblas_{letter}gemm64_")
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value
