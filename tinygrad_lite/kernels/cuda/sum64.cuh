// Sums in float64 over a block, always in the same order: for totals of millions of numbers.
#pragma once
#include "gpu.cuh"

// Every thread receives the sum over a block of 32 WARPS threads, all of which must call. scratch: WARPS doubles of
// shared memory, for this call alone: no barrier follows its last read.
template <int WARPS> __device__ __forceinline__ double block_sum64(double x, double* scratch) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(ALL_LANES, x, offset);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = threadIdx.x % 32 < WARPS ? scratch[threadIdx.x % 32] : 0.0;
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(ALL_LANES, x, offset);
  return x;
}
