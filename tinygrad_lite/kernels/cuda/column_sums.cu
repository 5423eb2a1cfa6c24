// Sums of a matrix's columns, in two stages and always in the same order: the gradient of a bias.
//
//   1. sum_chunks     a block adds up one chunk of rows of its columns, in float32
//   2. sum_partials   (columns.cuh) the chunks' sums are added up for each column
//
// The matrix is read once, and what the first stage writes is less than a hundredth of it: 32,768 rows of 768 columns are
// 176 chunks. All blocks are under way at once, for one that began when the others are done would double the time.
#include "columns.cuh"
#include "pack.cuh"

constexpr int THREADS = 32 * COLUMN_WARPS;
constexpr int ROWS_AT_ONCE = 6;  // reads of 16 bytes that a thread has under way: 96 KB on an SM with four blocks

// partial (chunks, columns) = sums of chunks of x (rows, columns). grid (tiles of columns, chunks); the warps of a
// block take the chunk's rows in turn, and a lane the same columns of each.
template <class T, bool VECTORS>
__global__ void __launch_bounds__(THREADS, 4)
sum_chunks(float* __restrict__ partial, const T* __restrict__ x, int rows, int columns, int rows_per_chunk) {
  typedef Pack<T, VECTORS> P;
  constexpr int N = P::n;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int tile = blockIdx.x * 32 * N, column = tile + lane * N;
  const int first = blockIdx.y * rows_per_chunk, stop = min(rows, first + rows_per_chunk);
  float sum[N] = {};
  if (column < columns) {
    for (int row = first + warp; row < stop; row += ROWS_AT_ONCE * COLUMN_WARPS) {
      const T* from = x + (size_t)row * columns + column;
      P values[ROWS_AT_ONCE];  // as they are in memory: converted, they would take twice the registers
#pragma unroll
      for (int j = 0; j < ROWS_AT_ONCE; j++)
        if (row + j * COLUMN_WARPS < stop) values[j] = load_pack<VECTORS>(from + (size_t)j * COLUMN_WARPS * columns);
#pragma unroll
      for (int j = 0; j < ROWS_AT_ONCE; j++) {
        if (row + j * COLUMN_WARPS < stop) {
#pragma unroll
          for (int i = 0; i < N; i++) sum[i] += values[j][i];
        }
      }
    }
  }
  __shared__ __align__(16) float sums[THREADS * N];
  write_block_sums(partial + (size_t)blockIdx.y * columns + tile, sum, columns - tile, sums);
}
