// mma.sync and ldmatrix: matrices spread over the registers of a warp. The layouts are those of gpu.cuh's comments.
#include "../include/ptx.h"
#include "checks.h"

namespace emulator {
constexpr unsigned ALL = 0xffffffffu;

struct MmaOperands {
  const unsigned *a, *b;
  const float* d;
};

template <class T> static float element(unsigned pair, int upper);
template <> float element<__nv_bfloat16>(unsigned pair, int upper) {
  return __uint_as_float(upper ? pair & 0xffff0000u : pair << 16);
}
template <> float element<half>(unsigned pair, int upper) {
  return __half2float(__ushort_as_half((unsigned short)(upper ? pair >> 16 : pair)));
}

// Gathers A (16 x 16), B (16 x 8) and D (16 x 8) from the lanes, multiplies, and gives each lane its part of D.
template <class T> static void mma_lanes(Thread* const (&lanes)[32], unsigned) {
  typedef float Row __attribute__((vector_size(32)));  // 8 numbers, added and multiplied at once
  float A[16][16];
  Row B[16], D[16];
  for (int lane = 0; lane < 32; lane++) {
    auto* given = (const MmaOperands*)lanes[lane]->input;
    int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 2; i++) {
      A[group][pair + i] = element<T>(given->a[0], i);
      A[group + 8][pair + i] = element<T>(given->a[1], i);
      A[group][pair + 8 + i] = element<T>(given->a[2], i);
      A[group + 8][pair + 8 + i] = element<T>(given->a[3], i);
      B[pair + i][group] = element<T>(given->b[0], i);
      B[pair + 8 + i][group] = element<T>(given->b[1], i);
      D[group][pair + i] = given->d[i];
      D[group + 8][pair + i] = given->d[2 + i];
    }
  }
  for (int row = 0; row < 16; row++) {
    Row sum = B[0] * A[row][0];
    for (int k = 1; k < 16; k++) sum += B[k] * A[row][k];
    D[row] += sum;
  }
  for (int lane = 0; lane < 32; lane++) {
    float* d = (float*)lanes[lane]->output;
    int group = lane / 4, pair = lane % 4 * 2;
    for (int i = 0; i < 2; i++) {
      d[i] = D[group][pair + i];
      d[2 + i] = D[group + 8][pair + i];
    }
  }
}

// Lanes 8 j to 8 j + 7 point at the rows of matrix j.
template <bool TRANSPOSED> static void ldmatrix_lanes(Thread* const (&lanes)[32], unsigned) {
  for (Thread* lane : lanes) {
    if ((uintptr_t)lane->input % 16)
      fail_at(*lane->place, "misaligned address: lane %u's row does not begin at a multiple of 16", lane->lane);
#ifdef EMULATOR_CHECKS
    check_access({(uintptr_t)lane->input, 16, false, lane->called_from, *lane});
#endif
  }
  for (int lane = 0; lane < 32; lane++) {
    unsigned* r = (unsigned*)lanes[lane]->output;
    int group = lane / 4, pair = lane % 4 * 2;
    for (int j = 0; j < 4; j++) {
      auto row = [&](int i) { return (const uint16_t*)lanes[8 * j + i]->input; };
      unsigned first = TRANSPOSED ? row(pair)[group] : row(group)[pair];
      unsigned second = TRANSPOSED ? row(pair + 1)[group] : row(group)[pair + 1];
      r[j] = first | second << 16;
    }
  }
}

template <class T> constexpr char PAIRS = std::is_same_v<T, half> ? 'H' : 'B';
template <class T>
constexpr LaneOperation MMA{mma_lanes<T>,
                            {{PAIRS<T>, 16, offsetof(MmaOperands, a), true},
                             {PAIRS<T>, 8, offsetof(MmaOperands, b), true},
                             {'f', 16, offsetof(MmaOperands, d), true}},
                            {'f', 16}};
template <bool TRANSPOSED>
constexpr LaneOperation LDMATRIX{ldmatrix_lanes<TRANSPOSED>, {{'p'}}, {'x', 16}};

template <class T>
static void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const Place& place, const void* caller) {
  MmaOperands input{a, b, d};
  float output[4];  // the others' operands must stay as they are until all have been read
  collective(ALL, place, MMA<T>, &input, output, caller);
  memcpy(d, output, sizeof output);
}
}  // namespace emulator

using namespace emulator;

void mma_16816(__nv_bfloat16, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char* file,
               int line) {
  mma<__nv_bfloat16>(d, a, b, {"mma_16816", file, line}, CALLER);
}
void mma_16816(__half, float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const char* file, int line) {
  mma<half>(d, a, b, {"mma_16816", file, line}, CALLER);
}
void ldmatrix_x4(unsigned (&r)[4], const void* row, const char* file, int line) {
  collective(ALL, {"ldmatrix_x4", file, line}, LDMATRIX<false>, row, r, __builtin_return_address(0));
}
void ldmatrix_x4_trans(unsigned (&r)[4], const void* row, const char* file, int line) {
  collective(ALL, {"ldmatrix_x4_trans", file, line}, LDMATRIX<true>, row, r, __builtin_return_address(0));
}
