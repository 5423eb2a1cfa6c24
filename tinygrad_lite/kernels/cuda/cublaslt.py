"""Matrix products by NVIDIA's cuBLASLt, called through ctypes: what is added to a product comes with the product.

A bias, a residual or an earlier gradient that is added by a kernel of its own is read, and the product read and written
once more, rounded twice in 16 bits. cuBLASLt adds in float32 before it rounds. It can be captured in a CUDA graph, too,
which CuPy's own products refuse.

cuBLAS keeps matrices by columns, we by rows: memory that is an array (r, c) to us is c x r to it. So it is asked for the
transpose, out' = y' x', which has y for its first operand ("A") and x for its second ("B").

Names in capitals are cublasLt.h's; a test compares the values with the header's.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import threading
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import NamedTuple

import numpy as np

from ...config import settings
from ...dtypes import bfloat16, float16, float32
from . import nvrtc
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
TYPES = {float32: CUDA_R_32F, float16: CUDA_R_16F, bfloat16: CUDA_R_16BF}
WORKSPACE_BYTES = 32 << 20  # what NVIDIA recommends for Hopper
ALIGNMENT = 256  # bytes; CuPy's allocations begin at multiples, views may not
ALGORITHMS = 8  # asked of the heuristic, its guess at the best first
TIMED = 3  # runs of each
WORTH_TIMING = 1e9  # operations, some 10 microseconds
ONE, ZERO = c_float(1.0), c_float(0.0)


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


class Pointer(c_void_p):
    """Where an array begins; the emulator's stand-in asks for the array itself."""

    def __init__(self, array):
        super().__init__(array.data.ptr)
        self.array = array


class Operands(NamedTuple):
    """Where things are, by cuBLASLt's names: d = epilogue(a b + c), with a vector and a matrix that an epilogue may need."""

    a: Pointer
    b: Pointer
    c: Pointer
    d: Pointer
    bias: Pointer | None
    aux: Pointer | None


class Problem(NamedTuple):
    """All that decides how a product is computed: what a plan is made for."""

    device: int
    library: str
    batch: int | None  # how many products, None where operands are plain matrices
    m: int
    k: int
    n: int
    dtype: np.dtype
    out_dtype: np.dtype
    x_turned: bool
    y_turned: bool
    epilogue: int
    adds: bool
    alignments: tuple  # in bytes, of the Operands

    def __str__(self):
        x, y = ("x'" if self.x_turned else "x"), ("y'" if self.y_turned else "y")
        many = "" if self.batch is None else f"{self.batch} times "
        return (
            f"{many}{x} ({self.m}, {self.k}) @ {y} ({self.k}, {self.n}), {self.dtype} to {self.out_dtype}, epilogue "
            f"{self.epilogue}, {'with' if self.adds else 'without'} an addend, alignments {self.alignments}"
        )


def matmul(out, x, y, x_turned, y_turned, *, bias=None, addend=None, before_gelu=None, slope_at=None) -> bool:
    """out (M, N) = x (M, K) @ y (K, N) + bias (N,) + addend (M, N).

    before_gelu (M, N), if given, is overwritten with that, and out is its gelu, by tanh. slope_at (M, N), without a
    bias: out is the product times gelu's slope there. Rows of both must be a multiple of 16 bytes, and begin at one.

    All C-contiguous; x_turned: x lies in memory as (K, M), y_turned: y as (N, K). addend may be out.
    out may be float32 where x and y are not, bias and addend are of its type. Stacks (B, ., .) of as many matrices each
    are multiplied pairwise, without a bias.

    Returns False, nothing done, where cuBLASLt has no algorithm for it. Raises RuntimeError where a call fails.
    """
    lib, epilogue = cupy(), CUBLASLT_EPILOGUE_DEFAULT if bias is None else CUBLASLT_EPILOGUE_BIAS
    if before_gelu is not None:
        epilogue = CUBLASLT_EPILOGUE_GELU_AUX if bias is None else CUBLASLT_EPILOGUE_GELU_AUX_BIAS
    elif slope_at is not None:
        epilogue = CUBLASLT_EPILOGUE_DGELU
    aux = slope_at if before_gelu is None else before_gelu
    operands = Operands(
        Pointer(y), Pointer(x), Pointer(out if addend is None else addend), Pointer(out),
        None if bias is None else Pointer(bias), None if aux is None else Pointer(aux),
    )  # fmt: skip
    *batch, m, n = out.shape
    problem = Problem(
        lib.cuda.Device().id, lib.__name__, batch[0] if batch else None, m, x.shape[-2 if x_turned else -1], n, x.dtype,
        out.dtype, x_turned, y_turned, epilogue, addend is not None,
        tuple([_alignment(p) for p in operands]),
    )  # fmt: skip
    plan = _plans.get(problem)
    if plan is None:
        plan = _plans[problem] = Plan(problem)
    if not plan.algorithms:
        return False
    stream = lib.cuda.get_current_stream()
    choice = plan.chosen
    if choice is None:
        choice = choose(plan, operands, stream)
        if not stream.is_capturing():  # where nothing could be tried
            plan.chosen = choice
    plan.run(operands, stream.ptr, plan.algorithms[choice])
    return True


class Plan:
    """The descriptors of one kind of product, made once, and the algorithms that the library proposes for it.

    algorithms: the library's guess at the best first; none where it supports nothing of the kind. chosen: the index of
    the one that is used, None until the first product has found it.
    """

    def __init__(self, problem: Problem):
        p = self.problem = problem
        self.library, self.handle = library(), _handle(p.device, p.library)
        self.description, self.chosen, self.lock = c_void_p(), None, threading.Lock()
        self.beta = ONE if p.adds else ZERO
        self._call("cublasLtMatmulDescCreate", byref(self.description), CUBLAS_COMPUTE_32F, CUDA_R_32F)
        self._describe(CUBLASLT_MATMUL_DESC_TRANSA, c_int32(CUBLAS_OP_T if p.y_turned else CUBLAS_OP_N))
        self._describe(CUBLASLT_MATMUL_DESC_TRANSB, c_int32(CUBLAS_OP_T if p.x_turned else CUBLAS_OP_N))
        self._describe(CUBLASLT_MATMUL_DESC_EPILOGUE, c_uint32(p.epilogue))
        # The heuristic looks how these pointers are aligned: their alignments stand for them until there are arrays.
        *_, bias, aux = p.alignments
        if bias is not None:
            self._describe(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, c_int32(TYPES[p.out_dtype]))
            self._describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, c_void_p(bias))
        if aux is not None:  # of the result's type by default
            self._describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, c_int64(p.n))
            self._describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, c_void_p(aux))
        self.a = self._layout(p.dtype, p.k, p.n, p.y_turned)
        self.b = self._layout(p.dtype, p.m, p.k, p.x_turned)
        self.d = self._layout(p.out_dtype, p.m, p.n, False)
        self.algorithms = self._algorithms()

    def run(self, operands: Operands, stream: int, algorithm):
        """Launch the product of the matrices at these pointers on a stream."""
        a, b, c, d, bias, aux = operands
        needed = algorithm.workspaceSize
        with self.lock:  # until the launch the description holds these pointers, not another thread's
            if bias is not None:
                self._describe(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias)
            if aux is not None:
                self._describe(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux)
            self._call(
                "cublasLtMatmul", self.handle, self.description, byref(ONE), a, self.a, b, self.b, byref(self.beta),
                c, self.d, d, self.d, byref(algorithm.algo), _workspace(stream) if needed else None, needed, stream,
            )  # fmt: skip

    def _layout(self, dtype, rows, columns, is_turned):
        """The descriptor of our matrix (rows, columns): its transpose to cuBLAS, by columns."""
        if is_turned:
            rows, columns = columns, rows
        layout, batch = c_void_p(), self.problem.batch
        self._call("cublasLtMatrixLayoutCreate", byref(layout), TYPES[dtype], columns, rows, columns)
        if batch is not None:
            set_to = "cublasLtMatrixLayoutSetAttribute", layout
            self._set(*set_to, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, c_int32(batch))
            self._set(*set_to, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, c_int64(rows * columns))
        return layout

    def _algorithms(self):
        """What the heuristic proposes for the workspace, the alignments and the rounding that we allow."""
        preference, found, count = c_void_p(), (HeuristicResult * ALGORITHMS)(), c_int()
        self._call("cublasLtMatmulPreferenceCreate", byref(preference))
        set_to = "cublasLtMatmulPreferenceSetAttribute", preference
        self._set(*set_to, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, c_uint64(WORKSPACE_BYTES))
        self._set(*set_to, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, c_uint32(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE))
        for attribute, alignment in zip(
            (CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
             CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES),
            self.problem.alignments,
        ):  # fmt: skip
            self._set(*set_to, attribute, c_uint32(alignment))
        self._call(
            "cublasLtMatmulAlgoGetHeuristic", self.handle, self.description, self.a, self.b, self.d, self.d, preference,
            ALGORITHMS, found, byref(count), allowed=CUBLAS_STATUS_NOT_SUPPORTED,
        )  # fmt: skip
        self._call("cublasLtMatmulPreferenceDestroy", preference)
        return [result for result in found[: count.value] if result.state == CUBLAS_STATUS_SUCCESS]

    def _describe(self, attribute, value):
        self._set("cublasLtMatmulDescSetAttribute", self.description, attribute, value)

    def _set(self, name, descriptor, attribute, value):
        self._call(name, descriptor, attribute, byref(value), ctypes.sizeof(value))

    def _call(self, name, *arguments, allowed=CUBLAS_STATUS_SUCCESS):
        status = getattr(self.library, name)(*arguments)
        if status not in (CUBLAS_STATUS_SUCCESS, allowed):
            raise RuntimeError(f"{name}: {status_name(self.library, status)}: {self.problem}")


def choose(plan: Plan, operands: Operands, stream) -> int:
    """The index of the fastest of a plan's algorithms, found by trying them, and kept on disk: the next process sums in
    the same order, so that it gives the same bits.

    The heuristic's first guess is up to a third slower: 538 against 745 TFLOP/s for (32768, 768) @ (768, 3072) on an
    H100. Small products, and those first met while a graph is captured, take it all the same.
    """
    lib, p = cupy(), plan.problem
    work = 2.0 * (p.batch or 1) * p.m * p.k * p.n
    if len(plan.algorithms) == 1 or work < WORTH_TIMING:
        return 0
    asked = ALGORITHMS, WORKSPACE_BYTES, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
    name = f"{_card()}, cuBLASLt {plan.library.cublasLtGetVersion()}, {asked}: {p._replace(device=0)}"
    kept = _read_choices()
    if name not in kept or kept[name] >= len(plan.algorithms):
        if stream.is_capturing():
            return 0
        try:  # what is added to must not change; else what is written here is written again
            if p.adds and operands.c.value == operands.d.value:
                operands = operands._replace(d=Pointer(lib.empty(operands.d.array.shape, dtype=p.out_dtype)))
        except MemoryError:
            return 0
        times = []
        for algorithm in plan.algorithms:
            marks = [lib.cuda.Event() for _ in range(TIMED + 1)]
            plan.run(operands, stream.ptr, algorithm)
            marks[0].record()
            for mark in marks[1:]:
                plan.run(operands, stream.ptr, algorithm)
                mark.record()
            marks[-1].synchronize()
            times.append(min(lib.cuda.get_elapsed_time(*pair) for pair in zip(marks, marks[1:])))
        kept = {name: times.index(min(times))} | _read_choices()  # another process's earlier choice is everyone's
        _write_choices(kept)
    return min(kept[name], len(plan.algorithms) - 1)


def _card() -> str:
    name = cupy().cuda.runtime.getDeviceProperties(cupy().cuda.Device().id)["name"]
    return name.decode() if isinstance(name, bytes) else name


def _choices_file():
    return nvrtc.cache_folder() / "products.json"


def _read_choices() -> dict[str, int]:
    try:
        return json.loads(_choices_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write_choices(kept: dict[str, int]):
    """Under a name of this process first; where nothing can be written, each process chooses for itself."""
    with contextlib.suppress(OSError):
        temporary = _choices_file().with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        os.replace(temporary, _choices_file())


_plans: dict[Problem, Plan] = {}
_workspaces: dict[tuple, object] = {}


def _alignment(pointer):
    """The largest power of two, up to ALIGNMENT, that divides where an array begins."""
    return None if pointer is None else min(ALIGNMENT, pointer.value & -pointer.value or ALIGNMENT)


def _workspace(stream: int) -> int:
    """Where the products of a stream put what they need on the way; kept, for a captured graph remembers it.

    Two products at once must not share one, so each stream has its own. From CuPy's own pool: what a graph captures
    may have another one, which goes with the graph.
    """
    lib = cupy()
    key = lib.cuda.Device().id, stream
    if key not in _workspaces:
        _workspaces[key] = lib.get_default_memory_pool().malloc(WORKSPACE_BYTES)
    return _workspaces[key].ptr


@cache
def _handle(device: int, library_name: str) -> c_void_p:
    """cuBLASLt's state for a device, the current one."""
    handle, lt = c_void_p(), library()
    status = lt.cublasLtCreate(byref(handle))
    if status:
        raise RuntimeError(f"cublasLtCreate: {status_name(lt, status)} on GPU {device}")
    return handle


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


def status_name(lt, status: int) -> str:
    """CUBLAS_STATUS_..., for an error's text."""
    return lt.cublasLtGetStatusName(status).decode()
