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

// d += a b, or d = a b where `add` is 0; d is 64 x N in float32, a 64 x 16, b 16 x N, for N of 64 or 128. Warp w holds
// rows 16 w to 16 w + 16 of d, and of a where that is in registers, as in mma_16816: d[n] is its 16 x 8 piece of columns
// 8 n to 8 n + 8.
//
// An operand in shared memory lies in rows of 64 numbers, 128 bytes, whose chunks of 16 bytes are swizzled as in Tile<T,
// 64>, in memory that begins at a multiple of 1024 bytes.
//   a, and b of wgmma_transposed: the rows are a's rows, b's columns. It begins at row 0, a multiple of 8, at one of its
//                                 columns 0, 16, 32, 48 in plain order.
//   b of wgmma:                   the rows are b's rows. It begins at the first of 16, a multiple of 8. The next 64
//                                 columns, where N is 128, lie `next_columns` bytes further.
// operand + bytes begins further on.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

// In the instruction's own terms: address, distances and the kind of swizzle (1: 128 bytes). Made once and moved: an
// address costs six instructions to pack, an addition one.
struct Operand {
  u64 bits;
  __device__ __forceinline__ Operand operator+(u32 bytes) const { return {bits + (bytes >> 4)}; }
};
__device__ __forceinline__ Operand wgmma_operand(const void* begin, u32 next_columns = 16) {
  return {(u64)((shared_address(begin) & 0x3ffff) >> 4) | (u64)(next_columns >> 4) << 16 | (u64)(1024 >> 4) << 32 |
          (u64)1 << 62};
}

#define WGMMA_SUMS4(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define WGMMA_SUMS16(d, n) WGMMA_SUMS4(d, n), WGMMA_SUMS4(d, n + 1), WGMMA_SUMS4(d, n + 2), WGMMA_SUMS4(d, n + 3)
#define WGMMA_NAMES_64                                                                                              \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
  "%30,%31}"
#define WGMMA_NAMES_128                                                                                             \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
  "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,"    \
  "%57,%58,%59,%60,%61,%62,%63}"
#define WGMMA_OF_64(d) WGMMA_SUMS16(d, 0), WGMMA_SUMS16(d, 4)
#define WGMMA_OF_128(d) WGMMA_OF_64(d), WGMMA_SUMS16(d, 8), WGMMA_SUMS16(d, 12)
#define WGMMA_ASM(N, type, a, b, add, turned, ...)                                                                  \
  asm volatile("{.reg .pred p; setp.ne.b32 p, " add ", 0;\n"                                                        \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " " WGMMA_NAMES_##N ", " a ", " b    \
               ", p, 1, 1, " turned ";}\n"                                                                          \
               : WGMMA_OF_##N(d)                                                                                    \
               : __VA_ARGS__)
#define WGMMA_REGISTERS(a) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
// The operands' numbers follow those of the sums: x0 to x5 are the first six.
#define WGMMA(T, type, N, x0, x1, x2, x3, x4, x5)                                                                   \
  __device__ __forceinline__ void wgmma_transposed(T, float (&d)[N / 8][4], const u32 (&a)[4], Operand b,           \
                                                   int add = 1) {                                                   \
    WGMMA_ASM(N, type, "{" x0 "," x1 "," x2 "," x3 "}", x4, x5, "0", WGMMA_REGISTERS(a), "l"(b.bits), "r"(add));    \
  }                                                                                                                 \
  __device__ __forceinline__ void wgmma_transposed(T, float (&d)[N / 8][4], Operand a, Operand b, int add = 1) {    \
    WGMMA_ASM(N, type, x0, x1, x2, "0, 0", "l"(a.bits), "l"(b.bits), "r"(add));                                     \
  }                                                                                                                 \
  __device__ __forceinline__ void wgmma(T, float (&d)[N / 8][4], const u32 (&a)[4], Operand b, int add = 1) {       \
    WGMMA_ASM(N, type, "{" x0 "," x1 "," x2 "," x3 "}", x4, x5, "1", WGMMA_REGISTERS(a), "l"(b.bits), "r"(add));    \
  }
#define WGMMA_64(T, type) WGMMA(T, type, 64, "%32", "%33", "%34", "%35", "%36", "%37")
#define WGMMA_128(T, type) WGMMA(T, type, 128, "%64", "%65", "%66", "%67", "%68", "%69")
WGMMA_64(bf16, "bf16")
WGMMA_128(bf16, "bf16")
WGMMA_64(half, "f16")
WGMMA_128(half, "f16")

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
