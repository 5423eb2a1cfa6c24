// The instructions that gpu.cuh writes as inline PTX, as functions (../runtime/tensor_cores.cpp, async_copies.cpp).
#pragma once
#include "cuda_on_cpu.h"

void mma_16816(__nv_bfloat16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], CALLED_FROM);
void mma_16816(__half, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], CALLED_FROM);

void ldmatrix_x4(unsigned (&r)[4], const void* row, CALLED_FROM);
void ldmatrix_x4_trans(unsigned (&r)[4], const void* row, CALLED_FROM);

void cp_async16(void* to, const void* from, int bytes = 16, CALLED_FROM);
void cp_async_commit();
namespace emulator {
void wait_for_copies(int groups_left);
}
template <int N> __forceinline__ void cp_async_wait() { emulator::wait_for_copies(N); }

// Subnormal results become zero, as ex2.approx.ftz has it.
__forceinline__ float exp2_approx(float x) {
  float y = exp2f(x);
  return y < 1.17549435e-38f ? 0.f : y;
}

__forceinline__ float reciprocal_approx(float x) {
  const float y = 1.f / x;
  return fabsf(y) < 1.17549435e-38f ? copysignf(0.f, y) : y;
}

__forceinline__ float min_nan(float x, float y) { return isnan(x) || isnan(y) ? x + y : fminf(x, y); }
__forceinline__ float max_nan(float x, float y) { return isnan(x) || isnan(y) ? x + y : fmaxf(x, y); }
