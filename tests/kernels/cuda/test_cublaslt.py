"""cuBLASLt by way of ctypes: what we tell it, against its header and, where it is installed, the library itself."""

import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from kernels.cuda.checks import EMULATED, capture, device, host, needs_cuda, rng

from tinygrad_lite import Generator
from tinygrad_lite.config import settings
from tinygrad_lite.dtypes import bfloat16, float16, float32
from tinygrad_lite.kernels.cuda import cublaslt
from tinygrad_lite.kernels.cuda import cublaslt_library as lt
from tinygrad_lite.kernels.cuda.graph import Graph
from tinygrad_lite.kernels.cuda.launch import cupy
from tinygrad_lite.kernels.cuda.product import matmul

pytestmark = needs_cuda

CONSTANTS = {
    name: value for name, value in vars(lt).items() if name.startswith(("CUDA_R_", "CUBLAS")) and isinstance(value, int)
}
PROGRAM = """
#include <cstddef>
#include <cstdio>
#include <cublasLt.h>
int main() {
%s
  using Result = cublasLtMatmulHeuristicResult_t;
  printf("size %%zu\\n", sizeof(Result));
  printf("algo %%zu\\nworkspaceSize %%zu\\nstate %%zu\\n", offsetof(Result, algo), offsetof(Result, workspaceSize),
         offsetof(Result, state));
  printf("wavesCount %%zu\\nreserved %%zu\\n", offsetof(Result, wavesCount), offsetof(Result, reserved));
}
"""


def include_directories():
    """Where CUDA's headers may be: pip's packages, or a toolkit."""
    found = [os.path.join(p, "nvidia", package, "include") for p in sys.path for package in ("cu13", "cublas")]
    found += [os.path.join(toolkit, "include") for toolkit in (*settings.cuda_toolkits, "/usr/local/cuda")]
    return [folder for folder in found if os.path.isdir(folder)]


def test_constants_and_the_structure_are_those_of_the_header(tmp_path):
    folders = include_directories()
    if not any(os.path.exists(os.path.join(folder, "cublasLt.h")) for folder in folders):
        pytest.skip("cublasLt.h is not installed: pip install nvidia-cublas")
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    prints = "\n".join(f'  printf("{name} %lld\\n", (long long){name});' for name in CONSTANTS)
    (tmp_path / "values.cpp").write_text(PROGRAM % prints)
    program = tmp_path / "values"
    subprocess.run(["g++", *(f"-I{f}" for f in folders), tmp_path / "values.cpp", "-o", program], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    values = {name: int(value) for name, value in map(str.split, printed.splitlines())}
    fields = {name: getattr(lt.HeuristicResult, name).offset for name, _ in lt.HeuristicResult._fields_}
    assert len(CONSTANTS) > 20
    assert values == {**CONSTANTS, **fields, "size": ctypes.sizeof(lt.HeuristicResult)}


@pytest.fixture
def installed(monkeypatch):
    """The library itself, which makes descriptors without a GPU too; it finds no algorithm."""
    try:
        found = lt.load()
    except RuntimeError as error:
        pytest.skip(str(error).splitlines()[0])
    monkeypatch.setattr(lt, "library", lambda: found)
    monkeypatch.setattr(cublaslt, "_handle", lambda *given: ctypes.c_void_p())
    monkeypatch.setattr(cublaslt, "_plans", {})
    return found


def attribute(get, descriptor, number, kind):
    held, written = kind(), ctypes.c_size_t()
    assert get(descriptor, number, ctypes.byref(held), ctypes.c_size_t(ctypes.sizeof(held)), ctypes.byref(written)) == 0
    assert written.value == ctypes.sizeof(held)
    return held.value


@pytest.mark.parametrize("dtype", [float32, bfloat16, float16], ids=str)
def test_the_library_holds_what_it_was_told(dtype, installed, monkeypatch):
    monkeypatch.setattr(cublaslt.Plan, "_algorithms", lambda *given: [])
    x, y, out = (cupy().empty(shape, dtype=dtype) for shape in ((3, 5, 7), (3, 7, 2), (3, 5, 2)))
    bias = cupy().empty((2,), dtype=dtype)  # begins at a multiple of 512 bytes, of the emulator's of 256
    assert not cublaslt.matmul(out[0], x[0], y[0], False, False, bias=bias)
    assert not cublaslt.matmul(out, x, y, False, False)
    assert not cublaslt.matmul(out[0], cupy().empty((7, 5), dtype=dtype), y[0], True, False)
    plain, stack, turned = cublaslt._plans.values()
    wide, aux = (cupy().empty((5, 16), dtype=dtype) for _ in range(2))
    given = wide, x[0], cupy().empty((7, 16), dtype=dtype), False, False
    assert not cublaslt.matmul(*given, bias=cupy().empty((16,), dtype=dtype), before_gelu=aux)
    assert not cublaslt.matmul(*given, before_gelu=aux) and not cublaslt.matmul(*given, slope_at=aux)
    gelus = list(cublaslt._plans.values())[3:]

    told = lambda plan, number: attribute(
        installed.cublasLtMatmulDescGetAttribute, plan.description, number, ctypes.c_int32
    )
    assert [told(plan, lt.CUBLASLT_MATMUL_DESC_EPILOGUE) for plan in (plain, stack)] == [4, 1]
    assert [told(turned, n) for n in (0, 1, 3, 4)] == [lt.CUBLAS_COMPUTE_32F, lt.CUDA_R_32F, 0, 1]
    assert told(plain, lt.CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE) == cublaslt.TYPES[dtype]
    pointer = attribute(installed.cublasLtMatmulDescGetAttribute, plain.description, 8, ctypes.c_void_p)
    assert pointer == 256  # what is known of it until there is one
    assert [told(plan, lt.CUBLASLT_MATMUL_DESC_EPILOGUE) for plan in gelus] == [164, 160, 192]
    for number, kind, value in ((12, ctypes.c_int64, 16), (11, ctypes.c_void_p, 256)):
        got = [attribute(installed.cublasLtMatmulDescGetAttribute, p.description, number, kind) for p in gelus]
        assert got == [value] * 3

    of_layout = lambda layout, number, kind: attribute(installed.cublasLtMatrixLayoutGetAttribute, layout, number, kind)
    # type, rows, columns, leading dimension, number of matrices, from one to the next
    kinds = {
        0: ctypes.c_int32,
        2: ctypes.c_uint64,
        3: ctypes.c_uint64,
        4: ctypes.c_int64,
        5: ctypes.c_int32,
        6: ctypes.c_int64,
    }
    described = [[of_layout(layout, n, kinds[n]) for n in kinds] for layout in (stack.a, stack.b, stack.d, turned.b)]
    element = cublaslt.TYPES[dtype]
    assert described == [
        [element, 2, 7, 2, 3, 14], [element, 7, 5, 7, 3, 35], [element, 2, 5, 2, 3, 10], [element, 5, 7, 5, 1, 0]
    ]  # fmt: skip


@pytest.mark.skipif(not EMULATED, reason="a GPU is there")
def test_the_librarys_errors_say_what_was_asked_for(installed):
    x = cupy().empty((2, 3), dtype=bfloat16)
    said = r"cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_INITIALIZED: x \(2, 3\) @ y' \(3, 4\), "
    with pytest.raises(RuntimeError, match=said + "bfloat16 to float32"):
        cublaslt.matmul(cupy().empty((2, 4), dtype=float32), x, cupy().empty((4, 3), dtype=bfloat16), False, True)


@pytest.mark.skipif(not EMULATED, reason="of the stand-in")
def test_the_stand_in_refuses_what_does_not_fit(monkeypatch):
    monkeypatch.setattr(cublaslt, "_plans", {})
    x, y, out = (cupy().empty(shape, dtype=float32) for shape in ((2, 3), (3, 5), (2, 5)))
    with pytest.raises(
        RuntimeError, match=r"CUBLAS_STATUS_INVALID_VALUE: x \(2, 3\) @ y \(3, 5\), float32 to bfloat16"
    ):
        cublaslt.matmul(cupy().empty((2, 5), dtype=bfloat16), x, y, False, False)
    with pytest.raises(RuntimeError, match="a vector of 5 of float32, got 4 of float32"):
        cublaslt.matmul(out, x, y, False, False, bias=cupy().empty((4,), dtype=float32))
    with pytest.raises(RuntimeError, match="10 elements of float32 in an array of 6"):
        cublaslt.matmul(out, x, y, False, False, addend=x)
    with pytest.raises(RuntimeError, match="INVALID_VALUE.*epilogue 160"):  # rows of 5, where 8 must divide them
        cublaslt.matmul(out, x, y, False, False, before_gelu=cupy().empty((2, 5), dtype=float32))
    y, out, flat = (cupy().empty(shape, dtype=float32) for shape in ((3, 8), (2, 8), (17,)))
    with pytest.raises(RuntimeError, match="INVALID_VALUE.*epilogue 192"):  # begins at 4 bytes
        cublaslt.matmul(out, x, y, False, False, slope_at=flat[1:].reshape(2, 8))
    with pytest.raises(RuntimeError, match="16 elements of float32 in an array of 8"):
        cublaslt.matmul(out, x, y, False, False, slope_at=flat[:8])


def test_a_missing_library_is_said_with_the_way_out(monkeypatch):
    monkeypatch.setattr(lt, "_candidates", lambda: ["libthatisnotthere.so"])
    with pytest.raises(RuntimeError, match=r"(?s)was not found.*pip install.*libthatisnotthere"):
        lt.load.__wrapped__()


def test_a_plan_is_made_once_for_each_kind_of_product(monkeypatch):
    monkeypatch.setattr(cublaslt, "_plans", {})
    flat = device(rng().standard_normal(200).astype(float32))
    x, y = flat[:32].reshape(4, 8), flat[64:112].reshape(8, 6)
    for bias in (None, flat[:6], flat[64:70]):
        for _ in range(2):
            matmul(x, y, bias=bias)
    assert len(cublaslt._plans) == 2  # with a bias, and without
    matmul(flat[1:33].reshape(4, 8), y)  # begins at 4 bytes: not every algorithm reads it
    assert len(cublaslt._plans) == 3
    matmul(x, y, residual=cupy().zeros((4, 6), dtype=float32))
    assert len(cublaslt._plans) == 4


def test_a_workspace_goes_back_with_its_product_whatever_stream_or_graph_it_was_for():
    def used():
        return cupy().get_default_memory_pool().used_bytes()

    x, y = (np.ones(shape, np.float32) for shape in ((4, 8), (8, 6)))
    given, graph = (device(x), device(y)), Graph(lambda x, y: [matmul(x, y)], Generator(0))
    before = used()
    cupy().cuda.get_current_stream().synchronize()  # it wrote what is multiplied
    for _ in range(3):
        with cupy().cuda.Stream(non_blocking=True) as stream:
            out = matmul(*given)
            stream.synchronize()
            np.testing.assert_array_equal(host(out), 8)
            del out
    assert used() == before
    for _ in range(3):
        np.testing.assert_array_equal(graph(x, y)[0], 8)
    assert graph.graph is not None and used() == before


def test_two_threads_do_not_take_each_others_vectors_and_matrices(monkeypatch):
    describe, is_wrong = cublaslt.Plan._describe, []

    def describe_and_wait(*given):
        describe(*given)
        time.sleep(0.002)  # so that the other thread comes between

    def work(value):
        x, y, bias = (device(np.full(shape, value, bfloat16)) for shape in ((4, 8), (8, 8), (8,)))
        for _ in range(8):
            before = cupy().zeros((4, 8), dtype=bfloat16)
            out = matmul(x, y, bias=bias, before_gelu=before)
            is_wrong.append((host(before) != 8 * value**2 + value).any() or (host(out) != host(before)).any())

    work(1)  # the plan is made
    monkeypatch.setattr(cublaslt.Plan, "_describe", describe_and_wait)
    threads = [threading.Thread(target=work, args=(value,)) for value in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(is_wrong) == 24 and not any(is_wrong)


def test_products_are_captured_with_operands_that_nobody_holds(monkeypatch):
    r = rng()
    x, y, bias = (device(r.standard_normal(shape).astype(float32)) for shape in ((6, 8), (8, 5), (5,)))
    graph, (out,) = capture(lambda: (matmul(x + x, y + y, bias=bias + bias),), monkeypatch)
    graph.launch()
    expected = 4 * host(x) @ host(y) + 2 * host(bias)
    np.testing.assert_allclose(host(out), expected, rtol=1e-5, atol=1e-5)
    if EMULATED:
        assert cupy().launches[-1] == "matmul + bias"


def test_the_fastest_algorithm_is_chosen_once_and_remembered(monkeypatch, tmp_path):
    monkeypatch.setattr(cublaslt.nvrtc, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(cublaslt, "WORTH_TIMING", 1.0)
    proposed = cublaslt.Plan._algorithms
    monkeypatch.setattr(cublaslt.Plan, "_algorithms", lambda plan: proposed(plan)[:1] * 3)
    ms, lib = iter([3.0, 3.0, 3.0, 2.0, 1.0, 3.0, 2.0, 2.0, 2.0]), cupy()
    monkeypatch.setattr(lib.cuda, "get_elapsed_time", lambda *pair: next(ms))

    def chosen():
        monkeypatch.setattr(cublaslt, "_plans", {})
        x, out = device(np.ones((4, 8), np.float32)), device(np.full((4, 5), 2, np.float32))
        matmul(x, device(np.ones((8, 5), np.float32)), out, accumulate=True)
        np.testing.assert_array_equal(host(out), 10)  # once, not once for each trial
        (plan,) = cublaslt._plans.values()
        return plan.chosen

    assert chosen() == 1  # its best of three runs
    assert chosen() == 1 and next(ms, None) is None  # read from the file, nothing is timed again
    (tmp_path / "products.json").write_text("{ half a file")
    ms = iter([1.0] * 9)
    assert chosen() == 0
