// sort_indices: where the indices of an embedding stand, by index and, of the same index, in order of position.
//
// A stable sort by digits of BITS bits, the lowest digit first, of entries {index, position}. Each block has its part
// of the entries in every pass, and needs to know where its first entry of each digit goes: behind all entries of
// smaller digits, and those of the same digit in the blocks before. `counts` (passes, blocks, DIGITS) says how many
// there are:
//
//   1. count_digits    counts the lowest digits of each block's part
//   2. place_entries   sums those counts, moves entries, and counts the next digit at where they arrive; once a pass
//
// Vocabularies of up to 512, 262,144, ... take 1, 2, ... passes. The only atomics add whole numbers, in any order the
// same. Nothing depends on how often an index comes.
#include "gpu.cuh"

constexpr int TILE = 1024, WARPS = TILE / 32;  // entries that a block moves at once, one a thread
constexpr int BITS = 9, DIGITS = 1 << BITS;    // at most half of the threads
constexpr int HALVES = TILE / DIGITS;

// grid (blocks): block b has positions b part to (b + 1) part, part a multiple of TILE.
__global__ void __launch_bounds__(TILE) count_digits(
    int* __restrict__ counts, const i64* __restrict__ indices, int n, int part, int passes) {
  __shared__ int count[DIGITS];
  if (threadIdx.x < DIGITS) count[threadIdx.x] = 0;
  __syncthreads();
  const int first = blockIdx.x * part, stop = min(first + part, n);
  for (int k = first + (int)threadIdx.x; k < stop; k += TILE) atomicAdd(&count[(int)indices[k] & (DIGITS - 1)], 1);
  __syncthreads();
  if (threadIdx.x < DIGITS) {
    for (int pass = 0; pass < passes; pass++)
      counts[((size_t)pass * gridDim.x + blockIdx.x) * DIGITS + threadIdx.x] = pass == 0 ? count[threadIdx.x] : 0;
  }
}

// entries (n): the ones that the pass before has placed; null in the first, which takes them from `indices`. counts
// (blocks, DIGITS) of this digit, which begins at bit `shift`; next_counts of the following one, null in the last pass.
__global__ void __launch_bounds__(TILE) place_entries(
    int2* __restrict__ placed, int* __restrict__ next_counts, const int* __restrict__ counts,
    const i64* __restrict__ indices, const int2* __restrict__ entries, int n, int part, int shift) {
  __shared__ int sums[2][HALVES][DIGITS];
  __shared__ int start[DIGITS];  // where the block's next entry of each digit goes
  __shared__ int warp_sums[WARPS];
  __shared__ unsigned short before[WARPS][DIGITS];  // entries of a digit in a warp, then in the warps before
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int mine = threadIdx.x % DIGITS, half = threadIdx.x / DIGITS;

  // All of this digit, and those in the blocks before: half of the blocks for each half of the threads.
  int all = 0, earlier = 0;
#pragma unroll 8
  for (int b = half; b < gridDim.x; b += HALVES) {
    const int count = counts[(size_t)b * DIGITS + mine];
    all += count;
    earlier += b < blockIdx.x ? count : 0;
  }
  sums[0][half][mine] = all, sums[1][half][mine] = earlier;
  __syncthreads();
  all = earlier = 0;
#pragma unroll
  for (int h = 0; h < HALVES; h++) all += sums[0][h][mine], earlier += sums[1][h][mine];

  // Those of smaller digits: a sum over the lanes up to this one, and over the warps before it.
  int up_to = all;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int x = __shfl_up_sync(ALL_LANES, up_to, offset);
    if (lane >= offset) up_to += x;
  }
  if (lane == 31) warp_sums[warp] = up_to;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < DIGITS / 32; w++) up_to += w < warp ? warp_sums[w] : 0;
  if (half == 0) start[mine] = up_to - all + earlier;

  const int first = blockIdx.x * part, stop = min(first + part, n);
  for (int tile = first; tile < stop; tile += TILE) {
    const int k = tile + (int)threadIdx.x;
    const bool here = k < stop;
    int2 entry = make_int2(0, 0);
    if (here) entry = entries ? entries[k] : make_int2((int)indices[k], k);
    const int digit = entry.x >> shift & (DIGITS - 1);

    // The lanes with the same digit, by a vote on each bit; an entry's place among them is how many come before it.
    for (int d = lane; d < DIGITS; d += 32) before[warp][d] = 0;
    u32 same = __ballot_sync(ALL_LANES, here);
#pragma unroll
    for (int bit = 0; bit < BITS; bit++) {
      const bool set = digit >> bit & 1;
      const u32 those = __ballot_sync(ALL_LANES, set);
      same &= set ? those : ~those;
    }
    const int rank = __popc(same & ((1u << lane) - 1));
    __syncwarp();
    if (here && rank == 0) before[warp][digit] = __popc(same);
    __syncthreads();

    int sum = 0;
    if (half == 0) {
#pragma unroll
      for (int w = 0; w < WARPS; w++) {
        const int count = before[w][mine];
        before[w][mine] = sum, sum += count;
      }
    }
    __syncthreads();
    if (here) {
      const int to = start[digit] + before[warp][digit] + rank;
      placed[to] = entry;
      if (next_counts) atomicAdd(&next_counts[to / part * DIGITS + (entry.x >> shift + BITS & (DIGITS - 1))], 1);
    }
    __syncthreads();  // `start` and `before` have been read
    if (half == 0) start[mine] += sum;
  }
}
