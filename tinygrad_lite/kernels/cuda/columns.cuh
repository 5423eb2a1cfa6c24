// Sums down the columns of a matrix: each block writes those of its rows, a second kernel adds the blocks up in order.
//
// No atomics: their order, and with it the last bits, would differ from run to run.
#pragma once
#include "elements.cuh"

constexpr int COLUMN_WARPS = 8;  // in a block that sums columns

// Every warp of the block holds W sums a lane, for the same 32 W columns: to[lane W + i] = the warps' sums of v[i],
// where that is less than `columns`. All threads call, at their end; tile: COLUMN_WARPS * 32 W floats, free before.
template <int W>
__device__ __forceinline__ void write_block_sums(float* to, const float (&v)[W], int columns, float* tile) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  write_floats(tile + warp * 32 * W + lane * W, v);
  __syncthreads();
  for (int c = threadIdx.x; c < 32 * W && c < columns; c += 32 * COLUMN_WARPS) {
    float sum = 0.f;
#pragma unroll
    for (int k = 0; k < COLUMN_WARPS; k++) sum += tile[k * 32 * W + c];
    to[c] = sum;
  }
}

// partial (blocks, K, C) float32 to the K <= 2 outputs (C,); a null pointer is an output that nobody wants.
// grid (C / 32, K), 1,024 threads: 32 columns, each summed by 32 threads. The matrix is small, and latency its cost: of
// 264 blocks a thread reads 8 or 9, which are on their way together.
template <class T> __global__ void __launch_bounds__(1024)
sum_partials(T* __restrict__ out0, T* __restrict__ out1, const float* __restrict__ partial, int blocks, int columns) {
  __shared__ float tile[32][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int c = blockIdx.x * 32 + lane;
  constexpr int AT_ONCE = 9;
  float sum = 0.f;
  if (c < columns)
    for (int first = warp; first < blocks; first += 32 * AT_ONCE) {
      float values[AT_ONCE];
#pragma unroll
      for (int j = 0; j < AT_ONCE; j++) {
        const int b = first + 32 * j;
        values[j] = b < blocks ? partial[((size_t)b * gridDim.y + blockIdx.y) * columns + c] : 0.f;
      }
#pragma unroll
      for (int j = 0; j < AT_ONCE; j++) sum += values[j];
    }
  tile[warp][lane] = sum;
  __syncthreads();
  T* out = blockIdx.y ? out1 : out0;
  if (warp == 0 && c < columns && out) {
    sum = 0.f;
#pragma unroll
    for (int k = 0; k < 32; k++) sum += tile[k][lane];
    out[c] = from_float<T>(sum);
  }
}
