"""Products of a warpgroup (wgmma.cuh): what they compute, held to NumPy; and planted bugs, each found by its name."""

import re
import types

import ml_dtypes
import numpy as np
import pytest
from kernels.cuda.emulated import SCHEDULES, Kernels, needs_emulator
from kernels.cuda.test_compilation import _real_compiler as real_compiler

from tinygrad_lite.kernels.cuda import nvrtc
from tinygrad_lite.kernels.cuda.emulator import count_accesses, cupy, options
from tinygrad_lite.kernels.cuda.launch import FOLDER

pytestmark = needs_emulator
TYPES = {"bf16": ml_dtypes.bfloat16, "half": np.float16}
COLUMNS = (64, 128)
INNER = 64  # of a product: four steps of 16

SOURCE = r"""
#include "wgmma.cuh"

constexpr int INNER = 64;

// The place of 16-byte chunk c in row r of a tile of 64 numbers a row.
__device__ __forceinline__ int place(int row, int chunk) { return row * 64 + (chunk ^ row % 8) * 8; }

template <class T> __device__ void fill(T* tile, const T* rows, int count, bool publish = true) {
  for (int i = threadIdx.x; i < count * 8; i += blockDim.x)
    cp_async16(tile + place(i / 8, i % 8), rows + 8 * i);  // fill
  cp_async_commit();
  cp_async_wait<0>();
  if (publish) wgmma_publish();
  __syncthreads();
}

// This lane's part of columns k to k + 16 of a (rows, INNER).
template <class T> __device__ __forceinline__ void load_a(u32 (&r)[4], const T* a, int k) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, column = k + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < 4; i++) r[i] = *(const u32*)(a + (row + i % 2 * 8) * INNER + column + i / 2 * 8);
}

// Where d[n][i] stands in a matrix of so many columns.
__device__ __forceinline__ int sum_at(int columns, int n, int i) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
  return (row + i / 2 * 8) * columns + 8 * n + lane % 4 * 2 + i % 2;
}
template <int N> __device__ __forceinline__ void store(float* out, const float (&sums)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; n++)
#pragma unroll
    for (int i = 0; i < 4; i++) out[sum_at(8 * N, n, i)] = sums[n][i];
}

enum Way { ROWS, COLUMNS, SHARED };

// out += a b, or a b where `add` is 0: out (blockDim.x / 2, N), a (blockDim.x / 2, INNER), b (INNER, N). One block.
// b comes in rows of 64 numbers: its ROWS, 64 columns after 64 columns, or its COLUMNS; SHARED: so, and a, too, is read
// from shared memory.
template <class T, int N, int WAY>
__global__ void __launch_bounds__(256) multiply(float* out, const T* a, const T* b, int add) {
  DYNAMIC_SHARED(T, tile);
  float sums[N / 8][4];
  u32 aa[INNER / 16][4];
  constexpr int B_ROWS = WAY != ROWS ? N : N == 128 ? 2 * INNER : INNER;
  T* const a_tile = tile + B_ROWS * 64;
  fill(tile, b, B_ROWS);
  if (WAY == SHARED) fill(a_tile, a, blockDim.x / 2);
  const Operand right = wgmma_operand(tile, INNER * 128);
  const Operand left = wgmma_operand(a_tile + threadIdx.x / 128 * 64 * 64);
#pragma unroll
  for (int n = 0; n < N / 8; n++)
#pragma unroll
    for (int i = 0; i < 4; i++) sums[n][i] = out[sum_at(N, n, i)];
#pragma unroll
  for (int k = 0; k < INNER / 16; k++) load_a(aa[k], a, 16 * k);
  wgmma_begin();
#pragma unroll
  for (int k = 0; k < INNER / 16; k++) {
    if constexpr (WAY == ROWS) wgmma(T(), sums, aa[k], right + 16 * k * 128, k ? 1 : add);
    else if constexpr (WAY == COLUMNS) wgmma_transposed(T(), sums, aa[k], right + 32 * k, k ? 1 : add);
    else wgmma_transposed(T(), sums, left + 32 * k, right + 32 * k, k ? 1 : add);
  }
  wgmma_commit();
  wgmma_wait<0>();
  store(out, sums);
}

enum Bug {
  NONE, NO_BEGIN, NO_COMMIT, NO_WAIT, SKIPS, SKIPS_BEFORE_BARRIER, SKIPS_AT_END, OTHER_B, LANES_DIFFER, MISALIGNED,
  BETWEEN_STEPS, UNEVEN_NEXT, BEHIND, GLOBAL, EARLY, READS_SUMS, WRITES_SUMS, OVERWRITES, UNPUBLISHED,
  PUBLISHED_LATE, STORES_UNPUBLISHED, UNWRITTEN, OVERLAPPING, A_SHARED, A_UNPUBLISHED, A_MISALIGNED, A_BEHIND,
  A_OVERWRITES,
};

// out[0] = a b, out[1] = a b', both 64 x 64 and of the first 16 columns of a: b' is the first 16 rows, as rows, of the
// 64 of which b is the first 16 columns, as columns.
template <int BUG> __global__ void planted(float* out, const bf16* a, const bf16* b) {
  DYNAMIC_SHARED(bf16, tile);
  const bool odd = threadIdx.x / 32 == 2;
  float sums[8][4], others[16][4];
  float (&other)[8][4] = (float (&)[8][4])others;
  u32 aa[4];
  if (BUG != UNWRITTEN) fill(tile, b, 64, BUG != UNPUBLISHED && BUG != PUBLISHED_LATE);
  if (BUG == PUBLISHED_LATE) wgmma_publish();  // behind the barrier
  if (BUG == STORES_UNPUBLISHED) {
    if (threadIdx.x < 64) tile[place(threadIdx.x, 0)] = b[64 * threadIdx.x];  // stores
    __syncthreads();
  }
  load_a(aa, a, 0);
  bf16* const a_tile = tile + 64 * 64;
  if (BUG >= A_SHARED) fill(a_tile, a, 64, BUG != A_UNPUBLISHED);
  const int a_off = BUG == A_MISALIGNED ? 8 : BUG == A_BEHIND ? 8 * 64 : 0;
  if (BUG != NO_BEGIN) wgmma_begin();
  const int off = BUG == MISALIGNED ? 64 : BUG == BETWEEN_STEPS ? 8 : BUG == BEHIND ? 8 * 64 : 0;
  const bf16* begin = BUG == GLOBAL ? b : tile + off;
  if constexpr (BUG < A_SHARED) wgmma_transposed(bf16(), sums, aa, wgmma_operand(begin), 0);  // first
  else wgmma_transposed(bf16(), sums, wgmma_operand(a_tile + a_off), wgmma_operand(begin), 0);  // shared
  wgmma_commit();
  const int differs = BUG == OTHER_B && odd || BUG == LANES_DIFFER && threadIdx.x % 32 == 5;
  if (BUG == UNEVEN_NEXT) wgmma(bf16(), others, aa, wgmma_operand(tile, 128), 0);  // uneven
  else if ((BUG != SKIPS && BUG != SKIPS_BEFORE_BARRIER) || !odd)
    wgmma(bf16(), other, aa, wgmma_operand(tile + differs * 16 * 64), 0);  // second
  if (BUG == OVERLAPPING) wgmma(bf16(), (float (&)[8][4])others[4], aa, wgmma_operand(tile), 0);  // overlapping
  if (BUG == SKIPS_BEFORE_BARRIER) {
    __syncthreads();  // barrier
    if (odd) wgmma(bf16(), other, aa, wgmma_operand(tile), 0);
  }
  if (BUG != NO_COMMIT) wgmma_commit();  // commit
  if (BUG == WRITES_SUMS) other[0][0] = 0.f;  // writes sums
  if (BUG == OVERWRITES) {
    __syncthreads();
    tile[threadIdx.x] = a[0];  // overwrites
  }
  if (BUG == A_OVERWRITES) {
    __syncthreads();
    a_tile[threadIdx.x] = a[0];  // overwrites a
  }
  if (BUG == NO_WAIT) return;
  wgmma_wait<1>();  // wait
  store(out, sums);
  if (BUG == READS_SUMS) out[64 * 64] = other[1][2];  // reads sums
  if (BUG == EARLY) wgmma_wait<1>();
  else if (BUG != SKIPS_AT_END || !odd) wgmma_wait<0>();  // last wait
  if (BUG != EARLY) store(out + 64 * 64, other);
  else {
    for (int i = 0; i < 4; i++) out[64 * 64 + sum_at(64, 3, i)] = other[3][i];
    wgmma_wait<0>();
  }
}

// out (64, 64) = a b, over `tiles` pieces of INNER rows of b in two buffers: while one is read the next one comes.
__global__ void pipelined(float* out, const half* a, const half* b, int tiles) {
  DYNAMIC_SHARED(half, shared);
  constexpr int TILE = INNER * 64;
  float sums[8][4];
  u32 aa[INNER / 16][4];
  fill(shared, b, INNER);
  for (int tile = 0; tile < tiles; tile++) {
    for (int k = 0; k < INNER / 16; k++) load_a(aa[k], a + tile * 64 * INNER, 16 * k);
    wgmma_begin();
    for (int k = 0; k < INNER / 16; k++)
      wgmma(half(), sums, aa[k], wgmma_operand(shared + tile % 2 * TILE) + 16 * k * 128, tile || k);
    wgmma_commit();
    wgmma_wait<1>();  // of the tile before
    __syncthreads();
    if (tile + 1 < tiles) fill(shared + (tile + 1) % 2 * TILE, b + (tile + 1) * TILE, INNER);
  }
  wgmma_wait<0>();
  store(out, sums);
}
"""
BUGS = re.findall(r"[A-Z_]+", re.search(r"enum Bug \{(.*?)\}", SOURCE, re.S)[1])
WAYS = ("ROWS", "COLUMNS", "SHARED")
MULTIPLY = [f"multiply<{t}, {n}, {way}>" for t in TYPES for n in COLUMNS for way in WAYS]
WITHOUT_A_BUG = [*MULTIPLY, "planted<NONE>", "pipelined"]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return Kernels(tmp_path_factory.mktemp("warpgroup"), SOURCE, *WITHOUT_A_BUG)


@pytest.fixture(scope="module")
def bugs(tmp_path_factory):
    return Kernels(tmp_path_factory.mktemp("warpgroup_bugs"), SOURCE, *(f"planted<{bug}>" for bug in BUGS))


def rng():
    return np.random.default_rng(11)


def matrices(kind, rows, columns):
    """a (rows, INNER), b (INNER, columns): whole numbers, which every type holds and whose sums are exact."""
    a, b = rng().integers(-99, 100, (rows, INNER)), rng().integers(-99, 100, (INNER, columns))
    if kind == "ones in a":  # row i of the product is row 3 i + 1 of b
        a = np.arange(INNER) == (3 * np.arange(rows)[:, None] + 1) % INNER
    if kind == "ones in b":  # column j of the product is column 5 j + 3 of a
        b = np.arange(INNER)[:, None] == (5 * np.arange(columns) + 3) % INNER
    return a.astype(np.float32), b.astype(np.float32)


def rows_of_64(b, way):
    """b as the kernel multiply takes it."""
    if way != "ROWS":
        return b.T
    padded = np.pad(b, ((0, 0), (0, -b.shape[1] % 64)))
    return np.concatenate(np.split(padded, padded.shape[1] // 64, axis=1))


def multiply(kernels, t, a, b, d, way, add, **changes):
    out = d.copy()
    name = f"multiply<{t}, {b.shape[1]}, {way}>"
    given = [np.ascontiguousarray(x.astype(TYPES[t])) for x in (a, rows_of_64(b, way))]
    shared = given[1].nbytes + (way == "SHARED") * given[0].nbytes
    kernels.run(name, 1, 2 * len(a), out, *given, np.int32(add), shared=shared, **changes)
    return out


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("t", TYPES)
def test_products(kernels, t, columns, way):
    """Of one warpgroup and of two, with and without sums before."""
    for kind in ("random", "ones in a", "ones in b"):
        for rows, add in ((64, 1), (128, 0)):
            a, b = matrices(kind, rows, columns)
            d = rng().integers(-999, 1000, (rows, columns)).astype(np.float32)
            got = multiply(kernels, t, a, b, d, way, add)
            np.testing.assert_array_equal(got, add * d + a @ b, err_msg=f"{kind}, add {add}")


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("mode", ["fast", "race"])
def test_products_in_every_order(kernels, mode, schedule):
    for t, columns, way in (("bf16", 128, "ROWS"), ("half", 64, "COLUMNS"), ("bf16", 64, "SHARED")):
        a, b = matrices("random", 128, columns)
        d = rng().integers(-999, 1000, (128, columns)).astype(np.float32)
        got = multiply(kernels, t, a, b, d, way, 1, mode=mode, **schedule)
        np.testing.assert_array_equal(got, d + a @ b)
    np.testing.assert_array_equal(*planted(kernels, "NONE", mode=mode, **schedule))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("mode", ["fast", "race"])
def test_groups_of_products_that_overlap_copies(kernels, mode, schedule):
    tiles = 5
    a = rng().integers(-99, 100, (tiles, 64, INNER)).astype(np.float16)
    b = rng().integers(-99, 100, (tiles, INNER, 64)).astype(np.float16)
    out = np.full((64, 64), np.nan, np.float32)
    kernels.run("pipelined", 1, 128, out, a, b, np.int32(tiles), shared=2 * INNER * 128, mode=mode, **schedule)
    expected = (a.astype(np.float32) @ b.astype(np.float32)).sum(0)
    np.testing.assert_array_equal(out, expected)


def planted(kernels, bug, threads=128, **changes):
    """(what the kernel planted gave, what it should)."""
    shared = 64 * 128 * (1 + bug.startswith("A_"))
    a = rng().integers(-99, 100, (64, INNER)).astype(np.float32)
    b = rng().integers(-99, 100, (64, 64)).astype(np.float32)
    out, given = np.zeros((2, 64, 64), np.float32), [x.astype(TYPES["bf16"]) for x in (a, b)]
    kernels.run(f"planted<{bug}>", 1, threads, out, *given, shared=shared, **changes)
    return out, np.stack([a[:, :16] @ b[:, :16].T, a[:, :16] @ b[:16]])


# What the emulator says, and the mark of the line that it names, or None.
ERRORS = {
    "NO_BEGIN": ("no wgmma_begin since the last wgmma_wait", "first"),
    "NO_COMMIT": ("products without a wgmma_commit behind them", "wait"),
    "NO_WAIT": ("exits before a wgmma_wait for wgmma", "first"),
    "SKIPS": ("warpgroup divergence: another of the four warps called wgmma", None),
    "SKIPS_BEFORE_BARRIER": ("warpgroup divergence: not all four warps have called wgmma", "second"),
    "SKIPS_AT_END": ("warpgroup divergence: not all four warps have called wgmma_wait", "last wait"),
    "OTHER_B": ("warpgroup divergence.* with another operand", "second"),
    "LANES_DIFFER": ("lanes of a warp call with different operands", "second"),
    "MISALIGNED": ("the operand must lie in 1024-byte aligned shared memory.* 128 bytes behind", "first"),
    "BETWEEN_STEPS": ("b point at a row that is a multiple of 8, column 0, 16, 32 or 48.* 16 bytes behind", "first"),
    "UNEVEN_NEXT": ("next_columns is 128: it must be a multiple of 1024", "uneven"),
    "BEHIND": ("out of bounds: the rows of b reach 1024 bytes behind shared memory", "first"),
    "A_MISALIGNED": ("a point at a row that is a multiple of 8, column 0, 16, 32 or 48.* 16 bytes behind", "shared"),
    "A_BEHIND": ("out of bounds: the rows of a reach 1024 bytes behind shared memory", "shared"),
    "GLOBAL": ("b does not point at shared memory", "first"),
    "WRITES_SUMS": ("wrote its sums between a product and the wgmma_wait that covers it", "wait"),
    "OVERLAPPING": ("the sums overlap others that are under way", "overlapping"),
}  # fmt: skip
FINDINGS = {
    "READS_SUMS": ("sums touched before the wgmma_wait: .*its sums", "reads sums", "second"),
    "WRITES_SUMS": ("sums touched before the wgmma_wait: .*its sums", "writes sums", "second"),
    "OVERWRITES": ("write where a wgmma is under way: ", "overwrites", "second"),
    "UNPUBLISHED": (r"not published \(wgmma_publish\)", "first", "fill"),
    "PUBLISHED_LATE": (r"not published \(wgmma_publish\)", "first", "fill"),
    "STORES_UNPUBLISHED": (r"not published \(wgmma_publish\)", "first", "stores"),
    "A_OVERWRITES": ("write where a wgmma is under way: ", "overwrites a", "shared"),
    "A_UNPUBLISHED": (r"not published \(wgmma_publish\)", "shared", "fill"),
    "UNWRITTEN": ("read of uninitialised shared memory: ", "first", None),
}


@pytest.mark.parametrize("mode", [pytest.param("fast", marks=pytest.mark.slow), "race"])
@pytest.mark.parametrize("bug", ERRORS)
def test_errors_that_end_a_launch(bugs, bug, mode):
    message, mark = ERRORS[bug]
    for schedule in SCHEDULES:
        with pytest.raises(RuntimeError, match=message) as found:
            planted(bugs, bug, mode=mode, **schedule)
        assert mark is None or bugs.line(mark) in str(found.value)


@pytest.mark.parametrize("bug", FINDINGS)
def test_findings_in_mode_race(bugs, bug):
    message, *marks = FINDINGS[bug]
    for schedule in SCHEDULES:
        with pytest.raises(RuntimeError, match=message) as found:
            planted(bugs, bug, mode="race", **schedule)
        (line,) = [x for x in str(found.value).split("\n") if re.search(message, x)][:1]
        assert all(bugs.line(mark) in line for mark in marks if mark)


def test_nothing_is_found_where_nothing_is_wrong(bugs):
    for schedule in SCHEDULES:
        np.testing.assert_array_equal(*planted(bugs, "A_SHARED", mode="race", **schedule))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_sums_are_nan_until_the_wait_that_covers_them(bugs, schedule):
    got, expected = planted(bugs, "EARLY", **schedule)
    np.testing.assert_array_equal(got[0], expected[0])
    assert np.isnan(got[1][:, 24:32]).all()


def test_a_tile_overwritten_too_early_shows_at_the_last_moment(bugs):
    for lazy in (False, True):
        got, expected = planted(bugs, "OVERWRITES", lazy_copies=lazy)
        assert (got[1] == expected[1]).all() == (not lazy)


def test_whole_warpgroups_only(bugs):
    with pytest.raises(RuntimeError, match="a block of 96 threads: warpgroups are of 128"):
        planted(bugs, "NONE", threads=96)


def test_products_are_no_accesses_that_count(kernels):
    with count_accesses() as records:
        planted(kernels, "NONE")
    assert [r.access for r in records if r.memory == "shared"] == ["write"]  # the cp.async


def test_cards_without_warpgroups(tmp_path):
    """The device names its architecture, a kernel sees a macro, and wgmma does not compile where there is none."""
    source = tmp_path / "uses.cu"
    source.write_text("__global__ void f(int* x) { *x = WARPGROUPS; }")
    for capability, arch, has in (("90", "sm_90a", 1), ("80", "sm_80", 0)):
        with options.set(compute_capability=capability):
            assert nvrtc.architecture(cupy) == arch
            x = cupy.zeros(1, np.int32)
            library, symbols = nvrtc.cubin(cupy, source, ("f",), arch)
            cupy.RawModule(path=str(library)).get_function(symbols["f"])((1,), (1,), (x,))
            assert x.get()[0] == has
    source.write_text(SOURCE)
    with pytest.raises(RuntimeError, match="wgmma is sm_90a's"):
        nvrtc.compile_source(cupy, source, ("pipelined",), "sm_80", (f"-I{FOLDER}",))


def test_nvrtc_compiles_the_kernels(tmp_path):
    lib = types.SimpleNamespace(cuda=types.SimpleNamespace(nvrtc=real_compiler()))
    source = tmp_path / "warpgroup.cu"
    source.write_text(SOURCE)
    _, _, log = nvrtc.compile_source(lib, source, WITHOUT_A_BUG, "sm_90a", (f"-I{FOLDER}", "-Xptxas", "-v"))
    spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", log)]
    assert len(spilled) == 2 * len(WITHOUT_A_BUG) and not any(spilled)
