// What every kernel includes: the element types, and the instructions that CUDA C has no name for.
//
// All inline PTX of the project is in this file and in wgmma.cuh. Compiled for the CPU, emulator/include takes its place: the same
// functions, computed lane by lane.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define DYNAMIC_SHARED(T, name) extern __shared__ __align__(1024) unsigned char dynamic_shared_[]; T* name = (T*)dynamic_shared_
#if defined(__CUDACC_RTC__) && !defined(INFINITY)
#define INFINITY __int_as_float(0x7f800000)  // NVRTC has no <math.h>
#endif
#else
#include "cuda_on_cpu.h"
#endif

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef __nv_bfloat16 bf16;

constexpr u32 ALL_LANES = 0xffffffffu;

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// d (16 x 8 float32) += a (16 x 16) b (16 x 8), one product by a whole warp on the tensor cores. With group = lane / 4
// and t = lane % 4, a lane holds, as pairs of neighbours along the inner axis,
//   a[0]: row group,     columns 2t, 2t+1    a[2]: the same row, columns 2t+8, 2t+9
//   a[1]: row group + 8, columns 2t, 2t+1    a[3]: row group + 8, columns 2t+8, 2t+9
//   b[0]: rows 2t, 2t+1 of column group      b[1]: rows 2t+8, 2t+9 of column group
//   d[0], d[1]: row group, columns 2t, 2t+1  d[2], d[3]: row group + 8
__device__ __forceinline__ void mma_16816(bf16, float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_16816(half, float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit numbers from shared memory: lanes 8j to 8j+7 point at the rows of matrix j, 16 bytes
// each, aligned. Lane l receives in r[j] elements 2(l%4), 2(l%4)+1 of row l/4; transposed: rows 2(l%4), 2(l%4)+1 of column l/4.
__device__ __forceinline__ void ldmatrix_x4(u32 (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(u32 (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// 16 bytes from global to shared memory, both aligned, in the background; of them only the first `bytes` are read, the
// rest become zeros. A group ends at commit; wait<N> waits until at most the N youngest groups are under way. Other
// threads see the bytes after a barrier that follows the wait.
__device__ __forceinline__ void cp_async16(void* to, const void* from, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int N> __device__ __forceinline__ void cp_async_wait() { asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory"); }

// 2^x, to 2 units in the last place; 1 / x, to one. What is below 2^-126 is 0.
__device__ __forceinline__ float exp2_approx(float x) { float y; asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x)); return y; }
__device__ __forceinline__ float reciprocal_approx(float x) { float y; asm("rcp.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x)); return y; }

// The smaller, the larger of two; NaN where one of them is, which fminf and fmaxf leave out.
__device__ __forceinline__ float min_nan(float x, float y) { float z; asm("min.NaN.f32 %0,%1,%2;" : "=f"(z) : "f"(x), "f"(y)); return z; }
__device__ __forceinline__ float max_nan(float x, float y) { float z; asm("max.NaN.f32 %0,%1,%2;" : "=f"(z) : "f"(x), "f"(y)); return z; }

#else
#include "ptx.h"
#endif
