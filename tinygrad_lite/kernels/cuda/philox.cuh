// Philox4x32-10: random bits that are a function of a key and a position, so a mask is never stored.
//
// Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". The readable twin is
// tinygrad_lite/philox.py: element i of a draw is word i % 4 of block offset + i / 4.
#pragma once
#include "gpu.cuh"

// words[j]: the four 32-bit words of block `block + j apart` under `key`, by ten rounds of two products, whose upper halves
// mix the words. Four instructions a round and block; the round's keys, two more, are made once for all N.
template <int N> __device__ __forceinline__ void philox_blocks(uint4 (&words)[N], u64 block, u64 apart, u64 key) {
  u32 k0 = (u32)key, k1 = (u32)(key >> 32);
#pragma unroll
  for (int j = 0; j < N; j++) {
    const u64 mine = block + j * apart;
    words[j] = make_uint4((u32)mine, (u32)(mine >> 32), 0, 0);
  }
#pragma unroll
  for (int round = 0; round < 10; round++) {
#pragma unroll
    for (int j = 0; j < N; j++) {
      uint4& c = words[j];
      const u64 product0 = (u64)c.x * 0xD2511F53u, product1 = (u64)c.z * 0xCD9E8D57u;
      c = make_uint4((u32)(product1 >> 32) ^ c.y ^ k0, (u32)product1, (u32)(product0 >> 32) ^ c.w ^ k1, (u32)product0);
    }
    k0 += 0x9E3779B9u;  // golden ratio
    k1 += 0xBB67AE85u;  // sqrt(3) - 1
  }
}

__device__ __forceinline__ uint4 philox_block(u64 block, u64 key) {
  uint4 words[1];
  philox_blocks(words, block, 0, key);
  return words[0];
}
