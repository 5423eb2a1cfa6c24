"""Matrix products by NVIDIA's cuBLASLt, called through ctypes: what is added to a product comes with the product.

A bias, a residual or an earlier gradient that is added by a kernel of its own is read, and the product read and written
once more, rounded twice in 16 bits. cuBLASLt adds in float32 before it rounds. It can be captured in a CUDA graph, too,
which CuPy's own products refuse.

cuBLAS keeps matrices by columns, we by rows: memory that is an array (r, c) to us is c x r to it. So it is asked for the
transpose, out' = y' x', which has y for its first operand ("A") and x for its second ("B").

The library itself, with its names in capitals, is cublaslt_library.py.
"""

from __future__ import annotations

import contextlib
import json
import os
from ctypes import byref, c_float, c_int, c_int32, c_int64, c_uint32, c_uint64, c_void_p, sizeof
from functools import cache
from typing import NamedTuple

import numpy as np

from ...dtypes import bfloat16, float16, float32
from ...turns import Turns
from . import cublaslt_library as lt
from . import nvrtc
from .launch import cupy

TYPES = {float32: lt.CUDA_R_32F, float16: lt.CUDA_R_16F, bfloat16: lt.CUDA_R_16BF}
WORKSPACE_BYTES = 32 << 20  # at most for what a product needs on the way; what NVIDIA recommends for Hopper
ALIGNMENT = 256  # bytes; CuPy's allocations begin at multiples, views may not
ALGORITHMS = 8  # asked of the heuristic, its guess at the best first
TIMED = 3  # runs of each
WORTH_TIMING = 1e9  # operations, some 10 microseconds
ONE, ZERO = c_float(1.0), c_float(0.0)


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
    x_stays: bool  # one matrix for all products
    y_stays: bool
    epilogue: int
    adds: bool
    alignments: tuple  # in bytes, of the Operands

    def __str__(self):
        x, y = ("x'" if self.x_turned else "x"), ("y'" if self.y_turned else "y")
        x, y = ("one " * self.x_stays + x), ("one " * self.y_stays + y)
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
    are multiplied pairwise, without a bias; x or y may be (1, ., .), the same for all.

    Returns False, nothing done, where cuBLASLt has no algorithm for it. Raises RuntimeError where a call fails.
    """
    lib, epilogue = cupy(), lt.CUBLASLT_EPILOGUE_DEFAULT if bias is None else lt.CUBLASLT_EPILOGUE_BIAS
    if before_gelu is not None:
        epilogue = lt.CUBLASLT_EPILOGUE_GELU_AUX if bias is None else lt.CUBLASLT_EPILOGUE_GELU_AUX_BIAS
    elif slope_at is not None:
        epilogue = lt.CUBLASLT_EPILOGUE_DGELU
    aux = slope_at if before_gelu is None else before_gelu
    operands = Operands(
        Pointer(y), Pointer(x), Pointer(out if addend is None else addend), Pointer(out),
        None if bias is None else Pointer(bias), None if aux is None else Pointer(aux),
    )  # fmt: skip
    *batch, m, n = out.shape
    x_stays, y_stays = ([z.shape[0]] != batch if batch else False for z in (x, y))
    problem = Problem(
        lib.cuda.Device().id, lib.__name__, batch[0] if batch else None, m, x.shape[-2 if x_turned else -1], n, x.dtype,
        out.dtype, x_turned, y_turned, x_stays, y_stays, epilogue, addend is not None,
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
        self.library, self.handle = lt.library(), _handle(p.device, p.library)
        self.description, self.chosen, self.turns = c_void_p(), None, Turns()
        self.beta = ONE if p.adds else ZERO
        self._call("cublasLtMatmulDescCreate", byref(self.description), lt.CUBLAS_COMPUTE_32F, lt.CUDA_R_32F)
        self._describe(lt.CUBLASLT_MATMUL_DESC_TRANSA, c_int32(lt.CUBLAS_OP_T if p.y_turned else lt.CUBLAS_OP_N))
        self._describe(lt.CUBLASLT_MATMUL_DESC_TRANSB, c_int32(lt.CUBLAS_OP_T if p.x_turned else lt.CUBLAS_OP_N))
        self._describe(lt.CUBLASLT_MATMUL_DESC_EPILOGUE, c_uint32(p.epilogue))
        # The heuristic looks how these pointers are aligned: their alignments stand for them until there are arrays.
        *_, bias, aux = p.alignments
        if bias is not None:
            self._describe(lt.CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, c_int32(TYPES[p.out_dtype]))
            self._describe(lt.CUBLASLT_MATMUL_DESC_BIAS_POINTER, c_void_p(bias))
        if aux is not None:  # of the result's type by default
            self._describe(lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, c_int64(p.n))
            self._describe(lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, c_void_p(aux))
        self.a = self._layout(p.dtype, p.k, p.n, p.y_turned, p.y_stays)
        self.b = self._layout(p.dtype, p.m, p.k, p.x_turned, p.x_stays)
        self.d = self._layout(p.out_dtype, p.m, p.n, False, False)
        self.algorithms = self._algorithms()

    def run(self, operands: Operands, stream: int, algorithm):
        """Launch the product of the matrices at these pointers on a stream, the current one.

        Its workspace goes back to the pool at once, as any array that dies: what the stream launches next may write
        there, and what a graph captures has it in the graph's own pool.
        """
        a, b, c, d, bias, aux = operands
        needed = algorithm.workspaceSize
        workspace = Pointer(cupy().empty((needed,), dtype=np.uint8)) if needed else None
        rest = (
            self.handle, self.description, byref(ONE), a, self.a, b, self.b, byref(self.beta),
            c, self.d, d, self.d, byref(algorithm.algo), workspace, needed, stream,
        )  # fmt: skip
        self.turns.run(self._launch, bias, aux, rest)

    def _launch(self, bias, aux, rest):
        """In turns: until the launch the description holds these pointers, not another thread's."""
        if bias is not None:
            self._describe(lt.CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias)
        if aux is not None:
            self._describe(lt.CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux)
        self._call("cublasLtMatmul", *rest)

    def _layout(self, dtype, rows, columns, is_turned, stays):
        """The descriptor of our matrix (rows, columns): its transpose to cuBLAS, by columns. stays: all are this one."""
        if is_turned:
            rows, columns = columns, rows
        layout, batch = c_void_p(), self.problem.batch
        self._call("cublasLtMatrixLayoutCreate", byref(layout), TYPES[dtype], columns, rows, columns)
        if batch is not None:
            set_to = "cublasLtMatrixLayoutSetAttribute", layout
            self._set(*set_to, lt.CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, c_int32(batch))
            step = 0 if stays else rows * columns
            self._set(*set_to, lt.CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, c_int64(step))
        return layout

    def _algorithms(self):
        """What the heuristic proposes for the workspace, the alignments and the rounding that we allow."""
        preference, found, count = c_void_p(), (lt.HeuristicResult * ALGORITHMS)(), c_int()
        self._call("cublasLtMatmulPreferenceCreate", byref(preference))
        set_to = "cublasLtMatmulPreferenceSetAttribute", preference
        self._set(*set_to, lt.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, c_uint64(WORKSPACE_BYTES))
        self._set(
            *set_to, lt.CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, c_uint32(lt.CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
        )
        for attribute, alignment in zip(
            (lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
             lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES),
            self.problem.alignments,
        ):  # fmt: skip
            self._set(*set_to, attribute, c_uint32(alignment))
        self._call(
            "cublasLtMatmulAlgoGetHeuristic", self.handle, self.description, self.a, self.b, self.d, self.d, preference,
            ALGORITHMS, found, byref(count), allowed=lt.CUBLAS_STATUS_NOT_SUPPORTED,
        )  # fmt: skip
        self._call("cublasLtMatmulPreferenceDestroy", preference)
        return [result for result in found[: count.value] if result.state == lt.CUBLAS_STATUS_SUCCESS]

    def _describe(self, attribute, value):
        self._set("cublasLtMatmulDescSetAttribute", self.description, attribute, value)

    def _set(self, name, descriptor, attribute, value):
        self._call(name, descriptor, attribute, byref(value), sizeof(value))

    def _call(self, name, *arguments, allowed=lt.CUBLAS_STATUS_SUCCESS):
        status = getattr(self.library, name)(*arguments)
        if status not in (lt.CUBLAS_STATUS_SUCCESS, allowed):
            raise RuntimeError(f"{name}: {lt.status_name(self.library, status)}: {self.problem}")


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
    asked = ALGORITHMS, WORKSPACE_BYTES, lt.CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
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


def _alignment(pointer):
    """The largest power of two, up to ALIGNMENT, that divides where an array begins."""
    return None if pointer is None else min(ALIGNMENT, pointer.value & -pointer.value or ALIGNMENT)


@cache
def _handle(device: int, library_name: str) -> c_void_p:
    """cuBLASLt's state for a device, the current one."""
    handle, found = c_void_p(), lt.library()
    status = found.cublasLtCreate(byref(handle))
    if status:
        raise RuntimeError(f"cublasLtCreate: {lt.status_name(found, status)} on GPU {device}")
    return handle
