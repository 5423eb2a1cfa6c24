// Dropout of attention's weights: each is kept or not as the generator says, the same in forward and backward, so no
// mask is in memory. Weight (b, h, t, s) is element ((b H + h) T + t) S + s of the draw, as for the op `dropout` of an
// array (B, H, T, S). DROPS = false: all are kept, and nothing of this is left after compilation.
#pragma once
#include "philox.cuh"

template <bool DROPS> struct Dropout {
  u64 key, offset;
  u32 least;
  float kept_scale;  // 1 / (1 - p)

  // What a kept weight is multiplied by.
  __device__ __forceinline__ float scale() const { return DROPS ? kept_scale : 1.f; }
  __device__ __forceinline__ bool keeps(u64 element) const {
    if (!DROPS) return true;
    const uint4 words = philox_block(offset + element / 4, key);
    const u32 low = element & 1 ? words.y : words.x, high = element & 1 ? words.w : words.z;
    return (element & 2 ? high : low) >> 8 >= least;
  }
  __device__ __forceinline__ float mask(u64 element) const { return keeps(element) ? scale() : 0.f; }
  // Bit i: whether element 4 block + i is kept.
  __device__ __forceinline__ u32 keeps_four(u64 block) const {
    const uint4 words = philox_block(offset + block, key);
    return (u32)(words.x >> 8 >= least) | (u32)(words.y >> 8 >= least) << 1 | (u32)(words.z >> 8 >= least) << 2 |
           (u32)(words.w >> 8 >= least) << 3;
  }
};

// Of each lane's bits those in `low` stay with the lower lane of two, those `shift` above them with the upper one; the
// others change places.
__device__ __forceinline__ u32 trade_bits(u32 bits, int lanes_apart, int shift, u32 low) {
  const u32 other = __shfl_xor_sync(ALL_LANES, bits, lanes_apart);
  return threadIdx.x & lanes_apart ? (bits & ~low) | (other & ~low) >> shift : (bits & low) | (other & low) << shift;
}

// Which of a lane's weights of a warp's tile are kept: bit 4 n + e is of c[0][n][e] of Sums<1, N>. The tile is 16
// queries by 8 N keys, or TRANSPOSED 16 keys by 8 N queries; `element` is its first weight.
//
// A block of the generator is 4 keys of a query. Its weights lie in 2 lanes, which share 2 blocks in each column n of
// pieces, or transposed in 4 lanes, which share 4. So each lane draws one block and they trade bits: none is drawn
// twice. Where S is no multiple of 4, blocks begin anywhere, and each lane draws one for each weight: 4 times as many.
// Called after the products that make the weights: drawn before them, the bits cost registers that were not there.
template <bool TRANSPOSED, int N, bool DROPS>
__device__ __forceinline__ u32 kept_weights(const Dropout<DROPS>& dropout, u64 element, int keys) {
  static_assert(N <= 8, "a bit for each of 4 N weights");
  if (!DROPS) return ~0u;
  const int lane = threadIdx.x % 32;
  u32 kept = 0;
  const auto place = [&](int row, int column) {
    return element + (TRANSPOSED ? (u64)column * keys + row : (u64)row * keys + column);
  };
  if (keys % 4 == 0) {
    const u64 first = TRANSPOSED ? place(lane / 16 * 4 + lane / 8 % 2 * 8, lane % 4 * 2 + lane / 4 % 2)
                                 : place(lane / 4 + lane % 2 * 8, lane / 2 % 2 * 4);
    const u64 step = TRANSPOSED ? 2 * (u64)keys : 2;
#pragma unroll
    for (int n = 0; n < N; n++) kept |= dropout.keeps_four(first / 4 + n * step) << 4 * n;
    if (TRANSPOSED) {
      kept = trade_bits(kept, 4, 1, 0x55555555u);
      kept = trade_bits(kept, 8, 2, 0x33333333u);
    } else {
      kept = trade_bits(kept, 1, 2, 0x33333333u);
    }
  } else {
#pragma unroll 1
    for (int i = 0; i < 4 * N; i++) {
      kept |= (u32)dropout.keeps(place(lane / 4 + i / 2 % 2 * 8, i / 4 * 8 + lane % 4 * 2 + i % 2)) << i;
    }
  }
  return kept;
}
__device__ __forceinline__ bool is_kept(u32 kept, int n, int e) { return kept >> (4 * n + e) & 1; }

// A launch passes numbers, not structs: kernels that can drop have these before PROBLEM_PARAMETERS.
#define DROPOUT_PARAMETERS \
  u64 drawn_key, u64 drawn_offset, const u64* __restrict__ drawn_moved, u32 drawn_least, float kept_scale
#define DROPOUT {drawn_key, drawn_offset + (drawn_moved ? *drawn_moved : 0), drawn_least, kept_scale}
