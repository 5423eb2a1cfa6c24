"""What warp operations, tensor-core instructions, conversions and atomics compute, held to NumPy and to gpu.cuh's text."""

import ml_dtypes
import numpy as np
import pytest
from kernels.cuda.emulated import SCHEDULES, Kernels, needs_emulator

pytestmark = needs_emulator
LANES = np.arange(32)
GROUP, PAIR = LANES // 4, LANES % 4 * 2  # of a lane, in the layouts of gpu.cuh
TYPES = {"bf16": ml_dtypes.bfloat16, "half": np.float16}

SOURCE = r"""
#include "gpu.cuh"

// One warp a block, its registers as arrays [block][lane][register].
template <class T> __global__ void product(float* d, const u32* a, const u32* b) {
  int at = blockIdx.x * 32 + threadIdx.x;
  float dd[4];
  u32 aa[4], bb[2];
  for (int i = 0; i < 4; i++) dd[i] = d[4 * at + i], aa[i] = a[4 * at + i];
  for (int i = 0; i < 2; i++) bb[i] = b[2 * at + i];
  mma_16816(T(), dd, aa, bb);
  for (int i = 0; i < 4; i++) d[4 * at + i] = dd[i];
}

__global__ void matrices(u32* plain, u32* transposed, const unsigned short* values, const int* rows) {
  __shared__ __align__(16) unsigned short s[512];
  u32 r[4];
  int lane = threadIdx.x;
  for (int i = lane; i < 512; i += 32) s[i] = values[i];
  __syncwarp();
  ldmatrix_x4(r, s + rows[lane]);
  for (int j = 0; j < 4; j++) plain[4 * lane + j] = r[j];
  ldmatrix_x4_trans(r, s + rows[lane]);
  for (int j = 0; j < 4; j++) transposed[4 * lane + j] = r[j];
}

__global__ void copies(float* out, const float* in, const int* bytes) {
  __shared__ __align__(16) float s[128];
  cp_async16(s + 4 * threadIdx.x, in + 4 * threadIdx.x, bytes[threadIdx.x]);
  cp_async_commit();
  cp_async_wait<0>();
  for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = s[4 * threadIdx.x + i];
}

// Block (argument, log2(width), kind).
template <class T> __global__ void shuffles(T* out, const T* in) {
  int lane = threadIdx.x, argument = blockIdx.x, width = 1 << blockIdx.y;
  T x = in[lane], y = x;
  if (blockIdx.z == 0) y = __shfl_sync(ALL_LANES, x, argument, width);
  if (blockIdx.z == 1) y = __shfl_up_sync(ALL_LANES, x, argument, width);
  if (blockIdx.z == 2) y = __shfl_down_sync(ALL_LANES, x, argument, width);
  if (blockIdx.z == 3) y = __shfl_xor_sync(ALL_LANES, x, argument, width);
  out[((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * 32 + lane] = y;
}

// out[block][7][lane]; lanes vote among those of their mask.
__global__ void votes(u32* out, const int* in, const u32* masks) {
  int lane = threadIdx.x, x = in[blockIdx.x * 32 + lane];
  u32 mask = masks[lane];
  u32* mine = out + blockIdx.x * 7 * 32 + lane;
  mine[0] = __ballot_sync(mask, x & 1);
  mine[32] = __any_sync(mask, x & 1);
  mine[64] = __all_sync(mask, x & 1);
  mine[96] = __reduce_add_sync(mask, x);
  mine[128] = __reduce_min_sync(mask, x);
  mine[160] = __reduce_max_sync(mask, x);
  mine[192] = __reduce_xor_sync(mask, (u32)x);
}

__global__ void block_votes(int* out, const int* in) {
  int t = threadIdx.x;
  out[t] = __syncthreads_count(in[t]);
  out[64 + t] = __syncthreads_or(in[t]);
  out[128 + t] = __syncthreads_and(in[t]);
}

template <class T> __device__ unsigned short bits(T x);
template <> __device__ unsigned short bits(bf16 x) { return __bfloat16_as_ushort(x); }
template <> __device__ unsigned short bits(half x) { return __half_as_ushort(x); }
template <class T> __device__ T number(unsigned short x);
template <> __device__ bf16 number(unsigned short x) { return __ushort_as_bfloat16(x); }
template <> __device__ half number(unsigned short x) { return __ushort_as_half(x); }
__device__ float widened(bf16 x) { return __bfloat162float(x); }
__device__ float widened(half x) { return __half2float(x); }
template <class T> __device__ T rounded(float x);
template <> __device__ bf16 rounded(float x) { return __float2bfloat16_rn(x); }
template <> __device__ half rounded(float x) { return __float2half_rn(x); }

template <class T> __global__ void widen(float* out, const unsigned short* in, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = widened(number<T>(in[i]));
}
template <class T> __global__ void round_to(unsigned short* out, const float* in, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = bits(rounded<T>(in[i]));
}
template <class T> __global__ void calculate(unsigned short* out, const unsigned short* x, const unsigned short* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  T a = number<T>(x[i]), b = number<T>(y[i]);
  out[i] = bits(a + b);
  out[n + i] = bits(a - b);
  out[2 * n + i] = bits(a * b);
  out[3 * n + i] = bits(a / b);
}

__global__ void atomics(int* totals, int* before, float* sum, unsigned long long* wide, u32* ring) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  before[i] = atomicAdd(totals, 1);
  atomicSub(totals + 1, i);
  atomicMax(totals + 2, i);
  atomicMin(totals + 3, -i);
  atomicOr(totals + 4, 1 << i % 31);
  atomicAnd(totals + 5, ~(1 << i % 31));
  atomicXor(totals + 6, i);
  if (i == 3) atomicExch(totals + 7, 11);
  for (int seen = 0, given; seen < 1000000; seen = given)  // a product by compare and swap, modulo 10007
    if ((given = atomicCAS(totals + 8, seen, (seen ? seen : 1) * (i + 2) % 10007)) == seen) break;
  atomicAdd(sum, 0.5f);
  atomicAdd(wide, 1ull << 32);
  atomicInc(ring, 9);
  atomicDec(ring + 1, 9);
}

__global__ void functions(float* out, const float* x, int n) {
  int i = threadIdx.x;
  if (i >= n) return;
  float NOT = x[n];  // NaN
  float results[] = {max(x[i], NOT), max(NOT, x[i]), min(x[i], NOT), fmaxf(x[i], NOT), abs(x[i]), exp(x[i]), rsqrtf(abs(x[i])),
                     exp2_approx(x[i]), exp2_approx(-140.f), (float)max(i, 3u), (float)min(-1, 2ll), __saturatef(NOT)};
  for (int k = 0; k < 12; k++) out[k * n + i] = results[k];
}

__global__ void integers(u32* out, const u32* x, int n) {
  int i = threadIdx.x;
  if (i >= n) return;
  u32 results[] = {(u32)__popc(x[i]), (u32)__clz(x[i]), (u32)__ffs(x[i]), __brev(x[i]), __umulhi(x[i], x[0]),
                   __funnelshift_l(x[i], x[0], 5), __funnelshift_r(x[i], x[0], 5)};
  for (int k = 0; k < 7; k++) out[k * n + i] = results[k];
}
"""
NAMES = [
    *(f"{kernel}<{t}>" for kernel in ("product", "widen", "round_to", "calculate") for t in TYPES),
    "shuffles<int>", "shuffles<double>", "matrices", "copies", "votes", "block_votes", "atomics", "functions", "integers",
]  # fmt: skip


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return Kernels(tmp_path_factory.mktemp("instructions"), SOURCE, *NAMES)


def bits_of(x, t):
    return x.astype(TYPES[t]).view(np.uint16).astype(np.uint32)


def pairs(matrix, row, column):
    """matrix (..., R, C) of 16-bit numbers: what each lane holds of the pairs that begin at its row and column."""
    return matrix[..., row, column] | matrix[..., row, column + 1] << 16


def fragments(a, b, t):
    """The registers of A (..., 16, 16) and B (..., 16, 8), by the comment of mma_16816 in gpu.cuh."""
    a, b = bits_of(a, t), np.swapaxes(bits_of(b, t), -1, -2)  # B's pairs lie along its columns
    ra = [pairs(a, GROUP + row, PAIR + column) for row, column in ((0, 0), (8, 0), (0, 8), (8, 8))]
    rb = [pairs(b, GROUP, PAIR + row) for row in (0, 8)]
    return np.stack(ra, -1), np.stack(rb, -1)  # (..., 32, 4), (..., 32, 2)


def product(kernels, a, b, d, t):
    """d + a b by mma_16816, a block for each product of the first axis."""
    ra, rb = (np.ascontiguousarray(r) for r in fragments(a, b, t))
    places = [(GROUP, PAIR), (GROUP, PAIR + 1), (GROUP + 8, PAIR), (GROUP + 8, PAIR + 1)]
    rd = np.ascontiguousarray(np.stack([d[:, row, column] for row, column in places], -1), np.float32)
    kernels.run(f"product<{t}>", len(a), 32, rd, ra, rb)
    out = np.full(d.shape, np.nan)
    for i, (row, column) in enumerate(places):
        out[:, row, column] = rd[..., i]
    return out


@pytest.mark.parametrize("t", TYPES)
def test_mma_with_a_single_one_in_a(kernels, t):
    """A 1 at row i, column k picks row k of B into row i of D."""
    a = np.eye(256).reshape(256, 16, 16)
    b = np.arange(1.0, 129).reshape(16, 8) + np.zeros((256, 1, 1))
    d = -np.arange(128.0).reshape(16, 8) / 4 + np.zeros((256, 1, 1))
    expected = d.copy()
    for one in range(256):
        expected[one, one // 16] += b[one, one % 16]
    np.testing.assert_array_equal(product(kernels, a, b, d, t), expected)


@pytest.mark.parametrize("t", TYPES)
def test_mma_with_a_single_one_in_b(kernels, t):
    """A 1 at row k, column j picks column k of A into column j of D."""
    b = np.eye(128).reshape(128, 16, 8)
    a = np.arange(256.0).reshape(16, 16) + np.zeros((128, 1, 1))
    expected = np.zeros((128, 16, 8))
    for one in range(128):
        expected[one, :, one % 8] = a[one, :, one // 8]
    np.testing.assert_array_equal(product(kernels, a, b, np.zeros((128, 16, 8)), t), expected)


@pytest.mark.parametrize("stride, begin", [(8, 0), (16, 0), (8, 24)])
def test_ldmatrix(kernels, stride, begin):
    """Rows anywhere in shared memory, as the comment of ldmatrix_x4 in gpu.cuh says."""
    rows = (begin + stride * np.random.default_rng(3).permutation(32)).astype(np.int32) % 504 // 8 * 8
    values = (np.arange(512) * 77 % 65536).astype(np.uint16)
    plain, transposed = np.zeros((2, 32, 4), np.uint32)
    kernels.run("matrices", 1, 32, plain, transposed, values, rows)
    given = values[rows.reshape(4, 8, 1) + np.arange(8)].astype(np.uint32)  # (matrix, row, column)
    np.testing.assert_array_equal(plain, pairs(given, GROUP, PAIR).T)
    np.testing.assert_array_equal(transposed, pairs(np.swapaxes(given, 1, 2), GROUP, PAIR).T)


@pytest.mark.parametrize("lazy", [False, True])
def test_cp_async_fills_with_zeros(kernels, lazy):
    out, x = np.full(128, np.nan, np.float32), np.arange(1, 129, dtype=np.float32)
    n = (np.arange(32) % 5 * 4).astype(np.int32)
    kernels.run("copies", 1, 32, out, x, n, lazy_copies=lazy)
    np.testing.assert_array_equal(out.reshape(32, 4), np.where(np.arange(4) * 4 < n[:, None], x.reshape(32, 4), 0))


@pytest.mark.parametrize("t, dtype", [("int", np.int32), ("double", np.float64)])
def test_shuffles(kernels, t, dtype):
    x = (np.arange(32) * 3 + 1).astype(dtype)
    out = np.zeros((4, 6, 32, 32), dtype)  # kind, width, argument, lane
    kernels.run(f"shuffles<{t}>", (32, 6, 4), 32, out, x)
    for power in range(6):
        width, argument = 1 << power, np.arange(32)[:, None]
        first, last = LANES // width * width, LANES // width * width + width - 1
        by_index = first + argument % width
        up = np.where(LANES - argument >= first, LANES - argument, LANES)
        down = np.where(LANES + argument <= last, LANES + argument, LANES)
        crossed = np.where((LANES ^ argument) <= last, LANES ^ argument, LANES)
        for kind, source in enumerate((by_index, up, down, crossed)):
            np.testing.assert_array_equal(out[kind, power], x[source], err_msg=f"kind {kind} width {width}")


@pytest.mark.parametrize("schedule", SCHEDULES[::2], ids=str)
@pytest.mark.parametrize("groups", [np.zeros(32, int), LANES // 16, LANES % 2, LANES // 4, LANES])
def test_votes_and_reductions(kernels, groups, schedule):
    """All lanes of a mask receive the same, whatever the other masks do meanwhile (8 at once, at most)."""
    groups = np.minimum(groups, 7)
    x = np.random.default_rng(5).integers(-1000, 1000, (9, 32)).astype(np.int32)
    x[:3] = [[0], [1], [-2]]
    member = groups[:, None] == groups  # of a lane's mask
    masks = (member << LANES).sum(1).astype(np.uint32)
    out = np.zeros((9, 7, 32), np.uint32)
    kernels.run("votes", 9, 32, out, x, masks, **schedule)
    odd = (x & 1)[:, None] & member
    expected = [
        (odd << LANES).sum(-1),
        odd.any(-1),
        (odd == member).all(-1),
        np.where(member, x[:, None], 0).sum(-1),
        np.where(member, x[:, None], 2000).min(-1),
        np.where(member, x[:, None], -2000).max(-1),
        np.bitwise_xor.reduce(np.where(member, x[:, None], 0), -1),
    ]
    for k, e in enumerate(expected):
        np.testing.assert_array_equal(out[:, k], e.astype(np.int64).astype(np.uint32), err_msg=f"operation {k}")


@pytest.mark.parametrize("true", [0, 1, 63, 64])
def test_votes_of_a_block(kernels, true):
    out = np.zeros((3, 64), np.int32)
    kernels.run("block_votes", 1, 64, out, np.where(np.arange(64) < true, 5, 0).astype(np.int32))
    assert (out[0] == true).all() and (out[1] == (true > 0)).all() and (out[2] == (true == 64)).all()


def assert_same_numbers(bits, expected, dtype):
    """Bit for bit; a NaN may be any."""
    numbers, expected = bits.view(dtype), expected.astype(dtype)
    nan = np.isnan(expected.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(numbers.astype(np.float32)), nan)
    np.testing.assert_array_equal(bits[~nan], expected.view(np.uint16)[~nan])


@pytest.mark.parametrize("t", TYPES)
def test_widening_of_every_16_bit_number(kernels, t):
    x, out = np.arange(65536).astype(np.uint16), np.zeros(65536, np.float32)
    kernels.run(f"widen<{t}>", 64, 1024, out, x, np.int32(65536))
    np.testing.assert_array_equal(out, x.view(TYPES[t]).astype(np.float32))  # NaN equals NaN here


@pytest.mark.parametrize("t", TYPES)
def test_rounding_around_every_16_bit_number(kernels, t):
    """Each number, the middle between it and the next, and float32's neighbours of that: ties go to even."""
    numbers = np.arange(65536).astype(np.uint16).view(TYPES[t]).astype(np.float32)
    following = np.roll(numbers, -1)
    with np.errstate(all="ignore"):
        middle = (numbers.astype(np.float64) + following.astype(np.float64)) / 2  # infinity and NaN too
        middle = middle.astype(np.float32)
        x = np.concatenate(
            [numbers, middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, -np.float32(np.inf))]
        )
        largest = np.float32(ml_dtypes.finfo(TYPES[t]).max)
        x = np.concatenate(
            [x, largest * np.array([1, 1.0001, 1.001, 1.01, 2], np.float32), np.float32([1e-45, -1e-45, 1e-30])]
        )
        expected = x.astype(TYPES[t])
    out = np.zeros(len(x), np.uint16)
    kernels.run(f"round_to<{t}>", -(-len(x) // 1024), 1024, out, x, np.int32(len(x)))
    assert_same_numbers(out, expected, TYPES[t])


@pytest.mark.parametrize("t", TYPES)
def test_arithmetic_rounds_to_the_type(kernels, t):
    r = np.random.default_rng(2)
    x, y = (r.standard_normal(4000).astype(TYPES[t]) for _ in range(2))
    out = np.zeros((4, 4000), np.uint16)
    kernels.run(f"calculate<{t}>", 4, 1024, out, x.view(np.uint16), y.view(np.uint16), np.int32(4000))
    a, b = x.astype(np.float32), y.astype(np.float32)
    for result, expected in zip(out, (a + b, a - b, a * b, a / b)):
        assert_same_numbers(result, expected, TYPES[t])


@pytest.mark.parametrize("mode", ["fast", "race"])
@pytest.mark.parametrize("schedule", SCHEDULES[::2], ids=str)
def test_atomics(kernels, schedule, mode):
    totals = np.array([0, 0, -5, 5, 0, -1, 0, 0, 0], np.int32)
    before, total = np.full(96, -1, np.int32), np.zeros(1, np.float32)
    wide, ring = np.zeros(1, np.uint64), np.zeros(2, np.uint32)
    kernels.run("atomics", 3, 32, totals, before, total, wide, ring, mode=mode, **schedule)
    i, product = np.arange(96), 1
    for factor in range(2, 98):
        product = product * factor % 10007
    bits = np.bitwise_or.reduce(1 << i % 31)
    assert sorted(before) == list(i)
    assert list(totals) == [96, -i.sum(), 95, -95, bits, -1 & ~bits, np.bitwise_xor.reduce(i), 11, product]
    # A ring of 0 to 9: up 96 times, and down.
    assert total[0] == 48 and wide[0] == 96 << 32 and list(ring) == [96 % 10, -96 % 10]


def test_functions(kernels):
    x = np.array([-3.5, -1, -0.25, 0.5, 2, 9, np.nan], np.float32)
    n = len(x) - 1
    out = np.zeros((12, n), np.float32)
    kernels.run("functions", 1, 32, out, x, np.int32(n))
    x = x[:n]
    exact = [x, x, x, x, np.abs(x), np.exp(x), 1 / np.sqrt(np.abs(x)), np.exp2(x), 0 * x, np.maximum(np.arange(n), 3), 0 * x - 1, 0 * x]  # fmt: skip
    np.testing.assert_allclose(out, exact, rtol=2**-22)


def test_integers(kernels):
    x = np.array([0xC0000007, 0, 1, 2, 0x80000000, 0xFFFFFFFF, 12345], np.uint32)
    out = np.zeros((7, len(x)), np.uint32)
    kernels.run("integers", 1, 32, out, x, np.int32(len(x)))
    for i, (mine, v) in enumerate(zip(out.T, map(int, x))):
        pair = int(x[0]) << 32 | v
        expected = [
            v.bit_count(),
            32 - v.bit_length(),
            (v & -v).bit_length(),
            int(f"{v:032b}"[::-1], 2),
            v * int(x[0]) >> 32,
            (pair << 5) % 2**64 >> 32,
            (pair >> 5) % 2**32,
        ]
        assert list(mine) == expected, i
