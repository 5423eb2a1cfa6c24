// Philox4x32-10: random bits that are a function of a key and a position, so a mask is never stored.
//
// Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". The readable twin is
// tinygrad_lite/philox.py: element i of a draw is word i % 4 of block offset + i / 4.
#pragma once
#include "gpu.cuh"

// The four 32-bit words of block `block` under `key`: ten rounds of two products, whose upper halves mix the words.
// About 60 integer instructions, 15 an element: an H100 has some 30 to spend while it moves a bf16 in and out.
__device__ __forceinline__ uint4 philox_block(u64 block, u64 key) {
  u32 k0 = (u32)key, k1 = (u32)(key >> 32);
  u32 c0 = (u32)block, c1 = (u32)(block >> 32), c2 = 0, c3 = 0;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const u64 product0 = (u64)c0 * 0xD2511F53u, product1 = (u64)c2 * 0xCD9E8D57u;
    c0 = (u32)(product1 >> 32) ^ c1 ^ k0;
    c1 = (u32)product1;
    c2 = (u32)(product0 >> 32) ^ c3 ^ k1;
    c3 = (u32)product0;
    k0 += 0x9E3779B9u;  // golden ratio
    k1 += 0xBB67AE85u;  // sqrt(3) - 1
  }
  return make_uint4(c0, c1, c2, c3);
}
