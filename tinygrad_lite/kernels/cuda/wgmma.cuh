// Products of a warpgroup: four warps together, on the tensor cores of sm_90a, in the background. PTX manual, "wgmma".
//
// Against mma_16816, whose right operand each warp loads into its registers, the right operand is read from shared
// memory by the tensor cores themselves, once for all four warps: twice the rate.
//
// Order: wgmma_begin(), products, wgmma_commit(), wgmma_wait<N>(), which waits until at most the N youngest groups are
// under way. In between nobody may touch the sums, nor write the shared memory that is read. All 128 threads of the
// warpgroup call each of these.
#pragma once
#include "gpu.cuh"

// d += a b, or d = a b where `add` is 0; d is 64 x N in float32, a 64 x 16, b 16 x N, for N of 32, 64 or 128. Warp w
// holds rows 16 w to 16 w + 16 of a and d as in mma_16816: d[n] is its 16 x 8 piece of columns 8 n to 8 n + 8.
//
// b lies in rows of 64 numbers, 128 bytes, whose chunks of 16 bytes are swizzled as in Tile<T, 64>, in shared memory
// that begins at a multiple of 1024 bytes.
//   wgmma_transposed: the rows are b's columns. b points at row 0 of N, at one of its columns 0, 16, 32, 48 in plain
//                     order.
//   wgmma:            the rows are b's rows. b points at the first of 16, a multiple of 8. The next 64 columns, where N
//                     is 128, lie `next_columns` bytes further.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

// Where an operand lies, in the instruction's own terms: address, distances and the kind of swizzle (1: 128 bytes).
__device__ __forceinline__ u64 wgmma_operand(const void* b, u32 leading_bytes, u32 stride_bytes) {
  return (u64)((shared_address(b) & 0x3ffff) >> 4) | (u64)(leading_bytes >> 4) << 16 | (u64)(stride_bytes >> 4) << 32 |
         (u64)1 << 62;
}

#define WGMMA_SUMS4(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define WGMMA_SUMS16(d, n) WGMMA_SUMS4(d, n), WGMMA_SUMS4(d, n + 1), WGMMA_SUMS4(d, n + 2), WGMMA_SUMS4(d, n + 3)
#define WGMMA_ASM_32(shape, type, transposed)                                                                      \
  asm volatile("{.reg .pred p; setp.ne.b32 p, %21, 0;\n"                                                           \
               "wgmma.mma_async.sync.aligned." shape ".f32." type "." type                                         \
               " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},{%16,%17,%18,%19},%20,p,1,1," transposed  \
               ";}\n"                                                                                              \
               : WGMMA_SUMS16(d, 0)                                                                                \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(operand), "r"(add))
#define WGMMA_ASM_64(shape, type, transposed)                                                                      \
  asm volatile("{.reg .pred p; setp.ne.b32 p, %37, 0;\n"                                                           \
               "wgmma.mma_async.sync.aligned." shape ".f32." type "." type                                         \
               " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,"  \
               "%26,%27,%28,%29,%30,%31},{%32,%33,%34,%35},%36,p,1,1," transposed ";}\n"                           \
               : WGMMA_SUMS16(d, 0), WGMMA_SUMS16(d, 4)                                                            \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(operand), "r"(add))
#define WGMMA_ASM_128(shape, type, transposed)                                                                     \
  asm volatile("{.reg .pred p; setp.ne.b32 p, %69, 0;\n"                                                           \
               "wgmma.mma_async.sync.aligned." shape ".f32." type "." type                                         \
               " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,"  \
               "%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,"  \
               "%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63},{%64,%65,%66,%67},%68,p,1,1," transposed  \
               ";}\n"                                                                                              \
               : WGMMA_SUMS16(d, 0), WGMMA_SUMS16(d, 4), WGMMA_SUMS16(d, 8), WGMMA_SUMS16(d, 12)                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(operand), "r"(add))
#define WGMMA(T, type, N)                                                                                          \
  __device__ __forceinline__ void wgmma_transposed(T, float (&d)[N / 8][4], const u32 (&a)[4], const T* b,         \
                                                   int add = 1) {                                                  \
    const u64 operand = wgmma_operand(b, 16, 1024);                                                                \
    WGMMA_ASM_##N("m64n" #N "k16", type, "0");                                                                     \
  }                                                                                                                \
  __device__ __forceinline__ void wgmma(T, float (&d)[N / 8][4], const u32 (&a)[4], const T* b, u32 next_columns,  \
                                        int add = 1) {                                                             \
    const u64 operand = wgmma_operand(b, next_columns, 1024);                                                      \
    WGMMA_ASM_##N("m64n" #N "k16", type, "1");                                                                     \
  }
WGMMA(bf16, "bf16", 32)
WGMMA(bf16, "bf16", 64)
WGMMA(bf16, "bf16", 128)
WGMMA(half, "f16", 32)
WGMMA(half, "f16", 64)
WGMMA(half, "f16", 128)

// Registers written before are seen by the products that follow.
__device__ __forceinline__ void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
template <int N> __device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(N) : "memory");
}

// The compiler knows nothing of the background: without this it may read or write sums while they are under way, for
// plain arithmetic moves freely past an asm that does not name its registers. To be called of all sums that a wait
// covers, behind it, and of sums that ordinary instructions have changed, before wgmma_begin().
template <int N> __device__ __forceinline__ void wgmma_settle(float (&d)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; n++) asm volatile("" : WGMMA_SUMS4(d, n)::"memory");
}

// Shared memory that this thread has written (cp_async16 that it has waited for, too) is seen by products that follow
// the next barrier: they read by another way than ordinary loads.
__device__ __forceinline__ void wgmma_publish() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

#else
#include "warpgroup.h"
#endif
