// wgmma.cuh's products of a warpgroup, as functions (../runtime/warpgroup.cpp).
#pragma once
#include "cuda_on_cpu.h"

struct Operand {  // where it begins
  const void* begin;
  unsigned next_columns;
  Operand operator+(unsigned bytes) const { return {(const char*)begin + bytes, next_columns}; }
};
__forceinline__ Operand wgmma_operand(const void* begin, unsigned next_columns = 16) { return {begin, next_columns}; }

namespace emulator {
struct SharedOperand {  // where it lies, and how
  const void* begin;
  unsigned columns, next_columns;
  bool transposed;
};
template <class T>
void begin_product(float* d, const unsigned* a, const SharedOperand& a_shared, const SharedOperand& b, int add,
                   const Place& place);

void begin_products(const Place& place);
void commit_products(const Place& place);
void wait_for_products(int groups_left, const Place& place);
void publish_shared_memory();
}  // namespace emulator

#ifndef WARPGROUPS  // 1 where the architecture has them: nvrtc.py
#define WARPGROUPS 0
#endif
#define EMULATOR_WGMMA(T, PIECES)                                                                                   \
  template <int WANTED = 1>                                                                                         \
  __forceinline__ void wgmma_transposed(T, float (&d)[PIECES][4], const unsigned (&a)[4], Operand b, int add = 1,   \
                                        CALLED_FROM) {                                                              \
    static_assert(WANTED == WARPGROUPS, "wgmma is sm_90a's: test WARPGROUPS");                                      \
    emulator::begin_product<T>(d[0], a, {}, {b.begin, 8 * PIECES, 0, true}, add, {"wgmma_transposed", file, line}); \
  }                                                                                                                 \
  template <int WANTED = 1>                                                                                         \
  __forceinline__ void wgmma_transposed(T, float (&d)[PIECES][4], Operand a, Operand b, int add = 1, CALLED_FROM) { \
    static_assert(WANTED == WARPGROUPS, "wgmma is sm_90a's: test WARPGROUPS");                                      \
    emulator::begin_product<T>(d[0], nullptr, {a.begin, 64, 0, true}, {b.begin, 8 * PIECES, 0, true}, add,          \
                               {"wgmma_transposed", file, line});                                                   \
  }                                                                                                                 \
  template <int WANTED = 1>                                                                                         \
  __forceinline__ void wgmma(T, float (&d)[PIECES][4], const unsigned (&a)[4], Operand b, int add = 1,              \
                             CALLED_FROM) {                                                                         \
    static_assert(WANTED == WARPGROUPS, "wgmma is sm_90a's: test WARPGROUPS");                                      \
    emulator::begin_product<T>(d[0], a, {}, {b.begin, 8 * PIECES, b.next_columns, false}, add,                      \
                               {"wgmma", file, line});                                                              \
  }
EMULATOR_WGMMA(__nv_bfloat16, 8)
EMULATOR_WGMMA(__nv_bfloat16, 16)
EMULATOR_WGMMA(__half, 8)
EMULATOR_WGMMA(__half, 16)
#undef EMULATOR_WGMMA

__forceinline__ void wgmma_begin(CALLED_FROM) { emulator::begin_products({"wgmma_begin", file, line}); }
__forceinline__ void wgmma_commit(CALLED_FROM) { emulator::commit_products({"wgmma_commit", file, line}); }
template <int N> __forceinline__ void wgmma_wait(CALLED_FROM) {
  emulator::wait_for_products(N, {"wgmma_wait", file, line});
}
__forceinline__ void wgmma_publish() { emulator::publish_shared_memory(); }
// Nothing moves past a wait here; that nobody touches sums before it is checked by itself.
template <int N> __forceinline__ void wgmma_settle(float (&)[N][4]) {}
