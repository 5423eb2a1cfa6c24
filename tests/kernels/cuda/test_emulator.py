"""Planted bugs: each is found by the check that its test names, and the same kernel without it passes every check."""

import re

import numpy as np
import pytest
from kernels.cuda.emulated import SCHEDULES, Kernels, needs_emulator

from tinygrad_lite.kernels.cuda.emulator import cupy, options

pytestmark = needs_emulator
N = 64  # threads of a block: two warps

# BUG is what a template leaves out or does wrong. All read in (N floats) and write out (N floats) unless they say so.
SOURCE = r"""
#include "gpu.cuh"
#define KERNEL(name) template <bool BUG> __global__ void name(float* out, const float* in, int n)

KERNEL(reversed) {
  __shared__ float s[64];
  int t = threadIdx.x;
  s[t] = in[t];                                  // write
  if (!BUG) __syncthreads();
  out[t] = s[n - 1 - t];                         // read
}

KERNEL(two_rounds) {  // the second round's writes must not overtake the first one's reads
  DYNAMIC_SHARED(float, s);
  int t = threadIdx.x;
  float sum = 0.f;
  for (int round = 0; round < 2; round++) {
    s[t] = in[t] * (round + 1);                  // overtakes
    __syncthreads();
    sum += s[n - 1 - t];                         // overtaken
    if (!BUG) __syncthreads();
  }
  out[t] = sum;
}

KERNEL(copied) {
  __shared__ __align__(16) float s[64];
  int t = threadIdx.x;
  if (t < n / 4) cp_async16(s + 4 * t, in + 4 * t);
  cp_async_commit();
  if (!BUG) cp_async_wait<0>();
  __syncthreads();
  out[t] = s[t];                                 // copied
}

KERNEL(copied_uncommitted) {  // a wait is for committed copies only
  __shared__ __align__(16) float s[64];
  int t = threadIdx.x;
  if (t < n / 4) cp_async16(s + 4 * t, in + 4 * t);
  if (!BUG) cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  out[t] = s[t];
}

KERNEL(two_stages) {  // waits for the older of two groups, then for the other; the bug: too early by one
  DYNAMIC_SHARED(float, s);
  int t = threadIdx.x;
  for (int half = 0; half < 2; half++) {
    if (t < n / 8) cp_async16(s + half * n / 2 + 4 * t, in + half * n / 2 + 4 * t);
    cp_async_commit();
  }
  cp_async_wait<1>();
  __syncthreads();
  if (t < n / 2) out[t] = s[t];
  cp_async_wait<BUG ? 1 : 0>();
  __syncthreads();
  if (t >= n / 2) out[t] = s[t];
}

KERNEL(too_far) { out[threadIdx.x + BUG] = in[threadIdx.x]; }  // far

KERNEL(too_far_in_shared) {
  DYNAMIC_SHARED(float, s);
  int t = threadIdx.x;
  s[t + BUG] = in[t];                            // far in shared
  __syncthreads();
  if (!BUG || t) out[t] = s[t];
}

KERNEL(much_too_far_in_shared) {
  DYNAMIC_SHARED(float, s);
  s[threadIdx.x + (BUG ? 2048 : 0)] = in[threadIdx.x];  // much too far
  out[threadIdx.x] = in[threadIdx.x];
}

KERNEL(outside_of_an_array) {
  __shared__ float s[64];
  int i = threadIdx.x + BUG;
  s[i] = in[threadIdx.x];                        // outside
  out[threadIdx.x] = s[i];
}

KERNEL(unwritten) {
  __shared__ float s[64];
  int t = threadIdx.x;
  if (!BUG || t != 5) s[t] = in[t];
  __syncthreads();
  volatile float x = s[t];  /* or GCC 16 lets thread 5 not read */  // unwritten
  out[t] = BUG && t == 5 ? in[t] : x;
}

KERNEL(two_barriers) {
  if (!BUG || threadIdx.x < 32) __syncthreads();
  else __syncthreads();                          // other barrier
  out[threadIdx.x] = in[threadIdx.x];
}

KERNEL(early_exit) {
  if (BUG && threadIdx.x >= 40) return;
  __syncthreads();                               // left alone
  out[threadIdx.x] = in[threadIdx.x];
}

KERNEL(shuffle_of_a_half) {
  float x = in[threadIdx.x];
  if (!BUG || threadIdx.x % 32 < 16) x = __shfl_xor_sync(ALL_LANES, x, 0);  // half
  out[threadIdx.x] = x;
}

KERNEL(two_shuffles) {
  float x = in[threadIdx.x];
  if (!BUG || threadIdx.x % 2) x = __shfl_xor_sync(ALL_LANES, x, 0);
  else x = __shfl_xor_sync(ALL_LANES, x, 0);     // other shuffle
  out[threadIdx.x] = x;
}

KERNEL(mask_without_the_caller) {
  out[threadIdx.x] = __shfl_sync(BUG ? 0x7fffffffu : ALL_LANES, in[threadIdx.x], threadIdx.x);  // no caller
}

KERNEL(mask_of_lanes_that_are_not) {  // launched with 40 threads
  out[threadIdx.x] = __shfl_sync(BUG || threadIdx.x < 32 ? ALL_LANES : 0xffu, in[threadIdx.x], threadIdx.x % 32);
}

KERNEL(overlapping_masks) {
  unsigned mask = threadIdx.x % 32 >= 16 ? 0xffff0000u : BUG ? ALL_LANES : 0xffffu;
  out[threadIdx.x] = __shfl_sync(mask, in[threadIdx.x], threadIdx.x % 32);
}

KERNEL(source_outside_of_the_mask) {
  unsigned mask = threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u;
  out[threadIdx.x] = __shfl_sync(mask, in[threadIdx.x], (threadIdx.x + 16 * BUG) % 32);
}

KERNEL(shuffle_for_a_barrier) {  // a shuffle gives no order to memory, __syncwarp does
  __shared__ float s[64];
  int t = threadIdx.x;
  s[t] = in[t];
  if (BUG) __shfl_sync(ALL_LANES, t, 0);
  else __syncwarp();
  float x = s[t ^ 1];                            // neighbour
  __syncwarp();
  s[t] = x;
  __syncwarp();
  out[t] = s[t ^ 1];
}

KERNEL(unequal_counts) {
  barrier_sync(1, BUG && threadIdx.x >= 32 ? 32 : 64);  // counts
  out[threadIdx.x] = in[threadIdx.x];
}

KERNEL(misaligned) {  // by 4 bytes
  int t = threadIdx.x;
  if (t < n / 4 - 1) *(float4*)(out + 4 * t + BUG) = *(const float4*)(in + 4 * t + BUG);  // misaligned
  if (t < 4) out[n - 4 + t] = in[n - 4 + t];
  if (BUG) return;
}

KERNEL(misaligned_copy) {
  __shared__ __align__(16) float s[68];
  int t = threadIdx.x;
  if (t < n / 4) cp_async16(s + 4 * t + BUG, in + 4 * t);  // misaligned copy
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  out[t] = s[t + BUG];
}

KERNEL(misaligned_rows) {
  __shared__ __align__(16) unsigned short s[64 * 9];
  u32 r[4];
  for (int i = threadIdx.x; i < 64 * 9; i += 64) s[i] = i;
  __syncthreads();
  ldmatrix_x4(r, s + threadIdx.x % 32 * (BUG ? 9 : 8));  // misaligned rows
  out[threadIdx.x] = in[threadIdx.x];
}

KERNEL(nowhere) { out[threadIdx.x] = *(BUG ? (const float*)8 : in + threadIdx.x); }  // nowhere

KERNEL(divided) { out[threadIdx.x] = in[threadIdx.x] + (n / (BUG ? (int)threadIdx.x / 64 : 1) > n); }  // divided

__noinline__ __device__ int deep(volatile int* below, int levels) {
  volatile int here[256];
  here[levels % 256] = levels;
  return levels ? deep(here, levels - 1) + here[levels % 256] + below[0] : 0;
}
KERNEL(deep_recursion) {
  volatile int none = 0;
  out[threadIdx.x] = in[threadIdx.x] + 0 * deep(&none, BUG ? 100000 : 3);
}

KERNEL(blocks_in_each_others_way) {  // launched with two blocks
  if (BUG || blockIdx.x == 0) out[threadIdx.x] = in[threadIdx.x];  // both
}

KERNEL(last_block) {  // the block that is last to count itself reads what the others wrote: n floats a block, then a counter
  __shared__ unsigned before;
  u32* counter = (u32*)(out + 3 * n);
  out[n + blockIdx.x * n + threadIdx.x] = in[threadIdx.x] / 2;
  if (!BUG) __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) before = atomicAdd(counter, 1);
  __syncthreads();
  if (before == 1) out[threadIdx.x] = out[n + threadIdx.x] + out[2 * n + threadIdx.x];  // last block
}

KERNEL(in_place) {  // all threads read all, then each writes its own; the bug: others are still reading
  float sum = 0.f;
  out[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  for (int i = 0; i < n; i++) sum += out[i];
  if (!BUG) __syncthreads();
  out[threadIdx.x] = in[threadIdx.x] + 0.f * sum;  // in place
}

KERNEL(bytes) {  // neighbouring bytes are different places; the bug: the same byte
  __shared__ unsigned char s[64];
  s[BUG ? 0 : threadIdx.x] = 1;                  // byte
  __syncthreads();
  out[threadIdx.x] = in[threadIdx.x] * s[BUG ? 0 : threadIdx.x];
}

// A comment may say __launch_bounds__(1) too.
template <int WARPS>
__global__ void __launch_bounds__(32 * WARPS)
bounded(float* out, float (*unused)(float), int n) {
  out[threadIdx.x] = n;
}
template <int WARPS> __global__ __launch_bounds__(32 * (WARPS)) void bounded_too(float* out, int n) { out[threadIdx.x] = n; }

__global__ void types(float* p, float x, double y, int i, long long j, unsigned u, const short* q) {
  p[0] = x + y + i + j + u + (q ? q[0] : 0);
}
"""
NAMES = sorted(set(re.findall(r"KERNEL\((\w+)\) {", SOURCE)))

# Kernel -> the mode, the message (a regular expression), the line (a comment's text) or None.
FOUND = {
    "reversed": ("race", r"race \(read after write\): block 0 thread \d+ reads 4 bytes", "read"),
    "two_rounds": ("race", r"race \(write after read\): block 0 thread \d+ writes 4 bytes", "overtakes"),
    "copied": ("race", "read where a cp.async is under way", "copied"),
    "copied_uncommitted": ("race", "read where a cp.async is under way", None),
    "two_stages": ("race", "read where a cp.async is under way", None),
    "too_far": ("race", "out of bounds: block 0 thread 63 writes 4 bytes", "far"),
    "too_far_in_shared": ("race", "out of bounds: block 0 thread 63 writes 4 bytes", "far in shared"),
    "much_too_far_in_shared": ("fast", r"thread \(0,0,0\): access outside of its 256 bytes of dynamic", "much too far"),
    "outside_of_an_array": ("fast", r"thread \(63,0,0\): array at .*: index 64 is out of bounds", "outside"),
    "unwritten": ("race", "read of uninitialised shared memory: block 0 thread 5 .* __shared__", "unwritten"),
    "two_barriers": (
        "fast",
        r"thread \(\d+,0,0\): __syncthreads at .*: divergent barrier: others wait in __syncthreads",
        "other barrier",
    ),
    "early_exit": ("fast", "deadlock: waits for ever in __syncthreads at .*24 of 64 threads have exited", "left alone"),
    "shuffle_of_a_half": ("fast", r"thread \(0,0,0\): deadlock: waits for ever in __shfl_xor_sync", "half"),
    "two_shuffles": (
        "fast",
        r"thread \(\d+,0,0\): __shfl_xor_sync at .*: warp divergence: other lanes",
        "other shuffle",
    ),
    "mask_without_the_caller": ("fast", r"lane 31 calls with mask 7fffffff, which does not name it", "no caller"),
    "overlapping_masks": ("fast", "__shfl_sync at .*: warp divergence: of its mask ffff0000, lanes wait", None),
    "source_outside_of_the_mask": ("fast", r"lane 0 reads lane 16, which is not in mask 0000ffff", None),
    "shuffle_for_a_barrier": ("race", r"race \(read after write\)", "neighbour"),
    "unequal_counts": (
        "fast",
        r"barrier_sync at .*: barrier 1 with \d+ threads, which others began with \d+",
        "counts",
    ),
    "misaligned": (
        "fast",
        r"thread \(\d+,0,0\): access at .*: misaligned address 0x.*, not a multiple of 16",
        "misaligned",
    ),
    "misaligned_copy": ("fast", "cp_async16 at .* misaligned address", "misaligned copy"),
    "misaligned_rows": ("fast", "ldmatrix_x4 at .* misaligned address: lane 1's row", "misaligned rows"),
    "nowhere": ("fast", "access to address 0x8, where there is no memory", "nowhere"),
    "divided": ("fast", "integer division by zero", "divided"),
    "deep_recursion": ("fast", "stack overflow: a thread has 256 KiB", None),
    "bytes": ("race", r"race \(write after write\)", "byte"),
    "in_place": ("race", r"race \(write after read\)", "in place"),
}
SHARED = {"two_rounds": 4 * N, "two_stages": 4 * N, "too_far_in_shared": 4 * N, "much_too_far_in_shared": 4 * N}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    names = [f"{name}<{bug}>" for name in NAMES for bug in ("true", "false")]
    return Kernels(tmp_path_factory.mktemp("planted"), SOURCE, *names, *BOUNDED, "types")


def launch(kernels, name, bug, grid=1, block=N, size=N, **changes):
    """What the kernel makes of the numbers 1 to N."""
    out, x = np.full(size, np.nan, np.float32), np.arange(1, N + 1, dtype=np.float32)
    out[3 * N :] = 0  # last_block's counter
    shared = SHARED.get(name, 0)
    kernels.run(f"{name}<{str(bug).lower()}>", grid, block, out, x, np.int32(N), shared=shared, **changes)
    return out


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "reversed" else n for n in FOUND])
def test_bug_is_found(kernels, name):
    mode, message, mark = FOUND[name]
    with pytest.raises(RuntimeError, match=message) as error:
        launch(kernels, name, True, mode=mode)
    assert str(error.value).startswith(f"{name}<true>: ")
    assert mark is None or kernels.line(mark) in str(error.value)
    launch(kernels, name, False, mode=mode)  # and what was left in the middle disturbs nothing


X_ = np.arange(1, N + 1, dtype=np.float32)
RESULTS = {"reversed": X_[::-1], "two_rounds": 3 * X_[::-1]}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("mask_of_lanes_that_are_not", "last_block")])
def test_correct_kernel_passes_every_check_with_the_same_bits(kernels, name):
    for mode in ("fast", "race"):
        for schedule in SCHEDULES:
            out = launch(kernels, name, False, mode=mode, **schedule)
            np.testing.assert_array_equal(out, RESULTS.get(name, X_), err_msg=str(schedule))


@pytest.mark.parametrize("name", ["copied", "copied_uncommitted", "two_stages"])
def test_missing_wait_shows_in_fast_mode_with_lazy_copies_only(kernels, name):
    np.testing.assert_array_equal(launch(kernels, name, True, lazy_copies=False), X_)
    assert np.isnan(launch(kernels, name, True, lazy_copies=True)).any()  # poison: bytes 0xff


def test_missing_barrier_shows_in_fast_mode_in_some_order(kernels):
    results = {launch(kernels, "reversed", True, **schedule).tobytes() for schedule in SCHEDULES}
    assert len(results) > 1


@pytest.mark.parametrize("poison", [0x00, 0xFF])
def test_shared_memory_is_poisoned(kernels, poison):
    """Also what __shared__ declares: warp 0 reads what warp 1 has not written."""
    out = launch(kernels, "reversed", True, order="ascending", poison=poison)
    expected = np.full(32 * 4, poison, np.uint8).view(np.float32)
    np.testing.assert_array_equal(out[:32], expected)


def test_write_just_behind_dynamic_shared_memory_is_seen_in_fast_mode(kernels):
    with pytest.raises(RuntimeError, match="wrote behind its 256 bytes of dynamic shared memory"):
        launch(kernels, "too_far_in_shared", True)


def test_mask_names_lanes_that_the_block_does_not_have(kernels):
    with pytest.raises(RuntimeError, match="mask ffffffff names lanes that the block of 40 threads does not have"):
        launch(kernels, "mask_of_lanes_that_are_not", True, block=40)
    np.testing.assert_array_equal(launch(kernels, "mask_of_lanes_that_are_not", False, block=40)[:40], X_[:40])


def test_race_between_blocks(kernels):
    with pytest.raises(RuntimeError, match=r"race \(write after write\): block 1 .* block 0") as error:
        launch(kernels, "blocks_in_each_others_way", True, grid=2, mode="race")
    assert kernels.line("both") in str(error.value)
    launch(kernels, "blocks_in_each_others_way", False, grid=2, mode="race")


def test_last_block_may_read_what_others_wrote_before_a_fence_and_an_atomic(kernels):
    for order in ("ascending", "descending"):
        out = launch(kernels, "last_block", False, grid=2, size=3 * N + 1, mode="race", order=order)
        np.testing.assert_array_equal(out[:N], X_)
    with pytest.raises(RuntimeError, match=r"race \(read after write\): block 1") as error:
        launch(kernels, "last_block", True, grid=2, size=3 * N + 1, mode="race")
    assert kernels.line("last block") in str(error.value)


@pytest.mark.parametrize(
    "grid, block, shared, message",
    [
        (0, 64, 0, "a grid of 0 x 1 x 1"),
        ((1, 65536), 64, 0, "a grid of 1 x 65536 x 1"),
        (1, 0, 0, "a block of 0 x 1 x 1"),
        (1, 1025, 0, "a block of 1025 x 1 x 1"),
        (1, (1, 1, 65), 0, "a block of 1 x 1 x 65"),
        (1, (32, 33), 0, "a block of 32 x 33 x 1"),
        (1, 64, 227 * 1024 + 1, "232449 bytes of dynamic shared memory"),
    ],
)
def test_launch_configuration_is_refused(kernels, grid, block, shared, message):
    x = np.zeros(N, np.float32)
    with pytest.raises(RuntimeError, match=message):
        kernels.run("reversed<false>", grid, block, x, x, np.int32(N), shared=shared)


BOUNDED = "bounded<2>", "bounded_too<2>"


@pytest.mark.parametrize(
    "name, arguments", [("bounded<2>", [np.uint64(0), np.int32(7)]), ("bounded_too<2>", [np.int32(7)])]
)
def test_launch_bounds(kernels, name, arguments):
    out = np.zeros(96, np.float32)
    kernels.run(name, 1, 64, out, *arguments)
    assert (out == [7] * 64 + [0] * 32).all()
    with pytest.raises(RuntimeError, match=r"launched with 96 threads a block, above __launch_bounds__\(64\)"):
        kernels.run(name, 1, 96, out, *arguments)


GOOD = [np.zeros(1, np.float32), np.float32(1), np.float64(2), np.int32(3), np.int64(4), np.uint32(5), np.uint64(0)]


def test_arguments_arrive(kernels):
    kernels.run("types", 1, 1, *GOOD)
    assert GOOD[0] == 15


@pytest.mark.parametrize(
    "i, value",
    [(0, np.int64(8)), (1, np.float64(1)), (1, np.int32(1)), (1, 1.0), (2, np.float32(1)), (3, np.int64(1)), (3, 3),
     (3, np.float32(1)), (3, np.zeros(1, np.int32)), (0, np.zeros(4, np.float32)[::2]), (4, np.int32(1)), (5, None), (6, np.int32(0))],
)  # fmt: skip
def test_argument_of_a_wrong_type_is_refused(kernels, i, value):
    with pytest.raises(TypeError, match=f"types argument {i}: "):
        kernels.run("types", 1, 1, *GOOD[:i], value, *GOOD[i + 1 :])


def test_wrong_number_of_arguments_is_refused(kernels):
    with pytest.raises(TypeError, match="types: takes 7 arguments, got 6"):
        kernels.run("types", 1, 1, *GOOD[:-1])


def test_host_arrays_are_refused(kernels):
    kernel = cupy.RawModule(path=kernels.module.path).get_function("reversed<false>")
    x = cupy.zeros(N, np.float32)
    with pytest.raises(TypeError, match=r"reversed<false> argument 1: an array of the host"):
        kernel((1,), (N,), (x, np.zeros(N, np.float32), np.int32(N)))
    kernel((1,), (N,), (x, x, np.int32(N)))


def test_source_that_does_not_compile_says_where(tmp_path):
    broken = Kernels(tmp_path, "__global__ void f(float* x) {\n  x[0] = undeclared;\n}\n", "f")
    with pytest.raises(RuntimeError, match="planted.cu:2:.*undeclared"):
        broken.run("f", 1, 1, np.zeros(1, np.float32))


def test_options_come_back_after_an_error():
    with pytest.raises(KeyError), options.set(order="random", mode="race"):
        raise KeyError
    assert (options.order, options.mode) == ("ascending", "fast")


def test_all_libraries_share_their_threads_stacks(tmp_path):
    """Linux allows a process 65,530 mappings, and a stack with its guard is two: 32 libraries' 1,024 threads are all."""

    def mappings_after(n):
        folder = tmp_path / str(n)
        folder.mkdir()
        text = f'extern "C" __global__ void k(float* out) {{ out[threadIdx.x] = {n}; __syncthreads(); }}'
        kernels, out = Kernels(folder, text, "k"), np.zeros(1024, np.float32)
        kernels.run("k", 1, 1024, out)
        assert (out == n).all()
        loaded.append(kernels)
        with open("/proc/self/maps") as file:
            return sum(1 for _ in file)

    loaded = []
    first = mappings_after(1)
    assert mappings_after(2) - first < 100  # a library itself has a few
