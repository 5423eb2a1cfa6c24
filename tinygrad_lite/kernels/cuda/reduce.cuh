// Sums and maxima over a warp and over a block, always in the same order.
#pragma once
#include "gpu.cuh"

struct Sum {
  static __device__ __forceinline__ float identity() { return 0.f; }
  static __device__ __forceinline__ float join(float a, float b) { return a + b; }
};
struct Max {  // NaN counts as nothing: what finds one says so by itself
  static __device__ __forceinline__ float identity() { return -INFINITY; }
  static __device__ __forceinline__ float join(float a, float b) { return fmaxf(a, b); }
};

// Every lane receives the result over the warp's 32 lanes.
template <class Op> __device__ __forceinline__ float warp_reduce(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x = Op::join(x, __shfl_xor_sync(ALL_LANES, x, offset));
  return x;
}
__device__ __forceinline__ float warp_sum(float x) { return warp_reduce<Sum>(x); }
__device__ __forceinline__ float warp_max(float x) { return warp_reduce<Max>(x); }

// Every thread receives the result over a block of 32 WARPS threads, all of which must call. scratch: WARPS floats of
// shared memory, free before the call and after it.
template <class Op, int WARPS> __device__ __forceinline__ float block_reduce(float x, float* scratch) {
  x = warp_reduce<Op>(x);
  if (WARPS == 1) return x;
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = threadIdx.x % 32 < WARPS ? scratch[threadIdx.x % 32] : Op::identity();
  x = warp_reduce<Op>(x);
  __syncthreads();  // scratch may be written again
  return x;
}
template <int WARPS> __device__ __forceinline__ float block_sum(float x, float* scratch) { return block_reduce<Sum, WARPS>(x, scratch); }
template <int WARPS> __device__ __forceinline__ float block_max(float x, float* scratch) { return block_reduce<Max, WARPS>(x, scratch); }

// Two sums for the barriers of one. scratch: WARPS float2.
template <int WARPS> __device__ __forceinline__ float2 block_sums(float a, float b, float2* scratch) {
  a = warp_sum(a), b = warp_sum(b);
  if (WARPS == 1) return make_float2(a, b);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = make_float2(a, b);
  __syncthreads();
  const float2 x = threadIdx.x % 32 < WARPS ? scratch[threadIdx.x % 32] : make_float2(0.f, 0.f);
  a = warp_sum(x.x), b = warp_sum(x.y);
  __syncthreads();
  return make_float2(a, b);
}
