// The instructions of gpu.cuh, computed for all 32 lanes at once when the last of them arrives.
#pragma once
#include "cudahost.h"

namespace cudahost {
typedef float Row __attribute__((vector_size(32), aligned(4)));

template <class T> struct MmaOperands { const unsigned *a, *b; const float* d; };
static inline float half_of(__nv_bfloat16*, unsigned v, int upper) { return __uint_as_float(upper ? v & 0xffff0000u : v << 16); }
static inline float half_of(half*, unsigned v, int upper) { return (float)__ushort_as_half((unsigned short)(upper ? v >> 16 : v)); }

template <class T> static inline void mma_16816_lanes(Fiber** lane, unsigned) {
  float A[16][16]; Row B[16], C[16];
  for (int l = 0; l < 32; l++) {
    const auto* m = (const MmaOperands<T>*)lane[l]->in;
    int g = l >> 2, t = (l & 3) * 2;
    for (int h = 0; h < 2; h++) {
      A[g][t + h] = half_of((T*)0, m->a[0], h); A[g + 8][t + h] = half_of((T*)0, m->a[1], h);
      A[g][t + 8 + h] = half_of((T*)0, m->a[2], h); A[g + 8][t + 8 + h] = half_of((T*)0, m->a[3], h);
      B[t + h][g] = half_of((T*)0, m->b[0], h); B[t + 8 + h][g] = half_of((T*)0, m->b[1], h);
      C[g][t + h] = m->d[h]; C[g + 8][t + h] = m->d[2 + h];
    }
  }
  for (int i = 0; i < 16; i++) {
    Row s = B[0] * A[i][0];
    for (int k = 1; k < 16; k++) s += B[k] * A[i][k];
    C[i] += s;
  }
  for (int l = 0; l < 32; l++) {
    float* d = (float*)lane[l]->out; int g = l >> 2, t = (l & 3) * 2;
    d[0] = C[g][t]; d[1] = C[g][t + 1]; d[2] = C[g + 8][t]; d[3] = C[g + 8][t + 1];
  }
}

extern "C" void cudahost_access(const void* p, unsigned n, int write, const void* pc, int lin) __attribute__((weak));

template <bool TRANSPOSED> static inline void ldmatrix_lanes(Fiber** lane, unsigned) {
  for (int l = 0; l < 32; l++) {
    if ((uintptr_t)lane[l]->in & 15) fail("ldmatrix: row address of lane %d not 16-byte aligned", l);
    if (cudahost_access) cudahost_access(lane[l]->in, 16, 0, (void*)ldmatrix_lanes<TRANSPOSED>, (int)lane[l]->lin);
  }
  for (int l = 0; l < 32; l++) {
    unsigned* d = (unsigned*)lane[l]->out;
    for (int j = 0; j < 4; j++) {
      auto row = [&](int r) { return (const uint16_t*)lane[j * 8 + r]->in; };
      int t = (l & 3) * 2, g = l >> 2;
      d[j] = TRANSPOSED ? row(t)[g] | (unsigned)row(t + 1)[g] << 16 : row(g)[t] | (unsigned)row(g)[t + 1] << 16;
    }
  }
}

static inline void cp_run(const AsyncCopy& c, int lin) {
  if (cudahost_access) { if (c.n) cudahost_access(c.src, c.n, 0, (char*)cp_run + 4, lin); cudahost_access(c.dst, 16, 1, (void*)cp_run, lin); }
  if (c.n) memcpy(c.dst, c.src, c.n);
  memset((char*)c.dst + c.n, 0, c.zfill);
}

template <class T> static inline void mma_16816_at(int line, T, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  MmaOperands<T> in{a, b, d}; float out[4];
  collective(~0u, "mma.sync", line, mma_16816_lanes<T>, &in, out);
  for (int i = 0; i < 4; i++) d[i] = out[i];
}
static inline void ldmatrix_at(int line, unsigned (&r)[4], const void* row) { collective(~0u, "ldmatrix", line, ldmatrix_lanes<false>, row, r); }
static inline void ldmatrix_trans_at(int line, unsigned (&r)[4], const void* row) { collective(~0u, "ldmatrix.trans", line, ldmatrix_lanes<true>, row, r); }
}  // namespace cudahost

#define mma_16816(...) cudahost::mma_16816_at(__LINE__, __VA_ARGS__)
#define ldmatrix_x4(...) cudahost::ldmatrix_at(__LINE__, __VA_ARGS__)
#define ldmatrix_x4_trans(...) cudahost::ldmatrix_trans_at(__LINE__, __VA_ARGS__)

__device__ static inline void cp_async16(void* to, const void* from, int bytes = 16) {
  auto& S = cudahost::S; auto* f = S.cur;
  if (((uintptr_t)to | (uintptr_t)from) & 15) cudahost::fail("cp.async: address not 16-byte aligned");
  S.rt = 1;
  cudahost::AsyncCopy c{to, from, (unsigned)bytes, 16u - bytes, f->cpgroup};
  if (S.opt_lazy) f->cps.push_back(c); else cudahost::cp_run(c, (int)f->lin);
  S.rt = 0;
}
__device__ static inline void cp_async_commit() { cudahost::S.cur->cpgroup++; }
template <int N> __device__ static inline void cp_async_wait() {
  auto& S = cudahost::S; auto* f = S.cur; size_t k = 0; S.rt = 1;
  while (k < f->cps.size() && f->cps[k].group < f->cpgroup - N) cudahost::cp_run(f->cps[k++], (int)f->lin);
  f->cps.erase(f->cps.begin(), f->cps.begin() + k); S.rt = 0;
}
__device__ static inline float exp2_approx(float x) { return exp2f(x); }
