"""Bank conflicts and coalescing of patterns whose cost is known."""

import numpy as np
import pytest
from kernels.cuda.emulated import Kernels, needs_emulator

from tinygrad_lite.kernels.cuda import emulator

pytestmark = needs_emulator

SOURCE = r"""
#include "gpu.cuh"

template <class T, int STRIDE> __global__ void strided(T* out, const T* in) {
  __shared__ __align__(16) T s[32 * STRIDE];
  s[threadIdx.x * STRIDE] = in[threadIdx.x];                  // write
  __syncwarp();
  out[threadIdx.x] = s[threadIdx.x * STRIDE];                 // read
}

template <int STRIDE> __global__ void gathered(float* out, const float* in) {
  out[threadIdx.x] = in[threadIdx.x * STRIDE];                // gather
}

// A tile of 32 x 32, its rows PADDING further apart: written by rows, read by columns.
template <int PADDING> __global__ void transposed(float* out, const float* in) {
  __shared__ float tile[32][32 + PADDING];
  for (int i = 0; i < 32; i++) tile[i][threadIdx.x] = in[32 * i + threadIdx.x];
  __syncwarp();
  for (int i = 0; i < 32; i++) out[32 * i + threadIdx.x] = tile[threadIdx.x][i];  // columns
}

// ldmatrix of 32 rows of 64 numbers, their 16-byte pieces exchanged by the row's number or not.
template <bool SWIZZLED> __global__ void rows(u32* out, const bf16* in) {
  __shared__ __align__(16) bf16 s[32 * 64];
  int row = threadIdx.x;
  for (int piece = 0; piece < 8; piece++)
    cp_async16(s + row * 64 + (SWIZZLED ? piece ^ row % 8 : piece) * 8, in + row * 64 + piece * 8);  // copy
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  u32 r[4];
  ldmatrix_x4(r, s + row * 64 + (SWIZZLED ? row % 8 : 0) * 8);  // matrices
  for (int j = 0; j < 4; j++) out[4 * row + j] = r[j];
}

__global__ void half_of_a_warp(float* out, const float* in) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = in[threadIdx.x];  // half
}
"""
STRIDED = [("float", 1), ("float", 2), ("float", 32), ("float", 33), ("double", 1), ("double", 2), ("float4", 1)]
STRIDED += [("float4", 2), ("unsigned short", 1)]


def aligned(size, dtype=np.float32, offset=0):
    """Ones that begin `offset` bytes behind a multiple of 64."""
    dtype = np.dtype(dtype)
    base = np.ones(size * dtype.itemsize + 128, np.uint8)
    begin = -base.ctypes.data % 64 + offset
    array = base[begin : begin + size * dtype.itemsize].view(dtype)
    array[:] = 1
    return array


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    names = [f"strided<{t}, {stride}>" for t, stride in STRIDED]
    names += [f"gathered<{stride}>" for stride in (0, 1, 2, 8, 32)]
    names += ["transposed<0>", "transposed<1>", "rows<false>", "rows<true>", "half_of_a_warp"]
    return Kernels(tmp_path_factory.mktemp("counts"), SOURCE, *names)


def counted(kernels, name, out, x, grid=1, block=32, launches=1):
    """The record of each (mark, memory, access) of the kernel."""
    with emulator.count_accesses() as records:
        for _ in range(launches):
            kernels.run(name, grid, block, out, x)
    assert {r.kernel for r in records} == {name} and {r.file for r in records} == {"planted.cu"}
    marks = [line.rpartition("// ")[2] for line in SOURCE.split("\n")]
    found = {(marks[r.line - 1], r.memory, r.access): r for r in records}
    assert len(found) == len(records)
    return found


@pytest.mark.parametrize("t, stride", STRIDED)
def test_bank_conflicts(kernels, t, stride):
    """32 banks of 4 bytes; lanes are served together as far as 128 bytes go."""
    size = {"float": 4, "double": 8, "float4": 16, "unsigned short": 2}[t]
    found = counted(kernels, f"strided<{t}, {stride}>", *(aligned(32 * size, np.uint8) for _ in range(2)))
    least = max(1, 32 * size // 128)
    # Lanes served together, stride * size bytes apart: so many of them want the same bank at once.
    taken = {("float", 2): 2, ("float", 32): 32, ("double", 2): 4, ("float4", 2): 8}.get((t, stride), least)
    for access in ("write", "read"):
        r = found[access, "shared", access]
        assert (r.bytes, r.requests, r.wavefronts, r.least_wavefronts) == (size, 1, taken, least)
        r = found[access, "global", "read" if access == "write" else "write"]
        assert (r.bytes, r.requests, r.sectors, r.least_sectors) == (size, 1, size, size)


@pytest.mark.parametrize("stride, sectors, least", [(0, 1, 1), (1, 4, 4), (2, 8, 4), (8, 32, 4), (32, 32, 4)])
def test_coalescing(kernels, stride, sectors, least):
    """Sectors of 32 bytes, from a base at a multiple of them; one address for all lanes is one sector."""
    out = np.zeros(32, np.float32)
    r = counted(kernels, f"gathered<{stride}>", out, aligned(31 * stride + 1))["gather", "global", "read"]
    assert (out == 1).all() and (r.requests, r.sectors, r.least_sectors) == (1, sectors, least)


def test_misaligned_base_costs_a_sector(kernels):
    r = counted(kernels, "gathered<1>", np.zeros(32, np.float32), aligned(32, offset=4))["gather", "global", "read"]
    assert (r.sectors, r.least_sectors) == (5, 4)


@pytest.mark.parametrize("padding, wavefronts", [(0, 32 * 32), (1, 32)])
def test_padding_takes_bank_conflicts_away(kernels, padding, wavefronts):
    x, out = np.arange(1024, dtype=np.float32), np.zeros(1024, np.float32)
    r = counted(kernels, f"transposed<{padding}>", out, x)["columns", "shared", "read"]
    np.testing.assert_array_equal(out.reshape(32, 32), x.reshape(32, 32).T)
    assert (r.requests, r.wavefronts, r.least_wavefronts) == (32, wavefronts, 32)


@pytest.mark.parametrize("swizzled, wavefronts", [("false", 32), ("true", 4)])
def test_swizzle_takes_bank_conflicts_of_ldmatrix_away(kernels, swizzled, wavefronts):
    """Rows of 128 bytes begin in the same bank: without it the 8 rows of a matrix are read one by one."""
    found = counted(kernels, f"rows<{swizzled}>", np.zeros(128, np.uint32), aligned(32 * 64, np.uint16))
    r = found["matrices", "shared", "read"]
    assert (r.bytes, r.requests, r.wavefronts, r.least_wavefronts) == (16, 1, wavefronts, 4)
    r = found["copy", "shared", "write"]
    assert (r.bytes, r.requests, r.least_wavefronts) == (16, 8, 32)
    assert found["copy", "global", "read"].requests == 8


def test_counts_add_up_over_warps_and_launches(kernels):
    x, out = np.ones(128, np.float32), np.zeros(128, np.float32)
    found = counted(kernels, "gathered<1>", out, x, block=128, launches=2)
    assert found["gather", "global", "read"].requests == found["gather", "global", "write"].requests == 8


def test_lanes_that_do_nothing_are_not_counted(kernels):
    r = counted(kernels, "half_of_a_warp", np.zeros(64, np.float32), aligned(64), block=64)["half", "global", "read"]
    assert (r.requests, r.sectors, r.least_sectors) == (2, 4, 4)


def test_nothing_is_counted_outside(kernels):
    x = np.ones(32, np.float32)
    with emulator.count_accesses() as records:
        pass
    with emulator.options.set(mode="race"):
        kernels.run("gathered<1>", 1, 32, np.zeros(32, np.float32), x)
    assert records == [] and emulator.options.mode == "fast"
