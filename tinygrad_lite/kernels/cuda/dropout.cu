// dropout: zero elements with probability p, scale the rest. The mask is a function of the element's index, so backward
// makes it again from key and offset: 4 bytes of traffic a bf16 element and no mask in memory.
#include "numbers.cuh"
#include "philox.cuh"

constexpr int THREADS = 256;
constexpr int VECTORS = 2;  // a thread's, both under way before the first is needed: 64 KiB in flight on a full SM

// Of a thread's vectors, THREADS apart from `start` on, the elements whose word of the generator is large enough, times
// scale; the others become zero. Element i of a draw is word i % 4 of block i / 4. uniform = word >> 8 times 2^-24, so
// uniform >= p is a comparison of integers, the one the CPU makes: of words, for what is below their upper 24 bits
// cannot tip it.
template <class T>
__device__ __forceinline__ void drop(Vector<T> (&out)[VECTORS], const Vector<T> (&v)[VECTORS], i64 start, u64 key,
                                     u64 offset, u32 least, float scale) {
  constexpr int BLOCKS = Vector<T>::n / 4;  // of a vector
#pragma unroll
  for (int k = 0; k < BLOCKS; k++) {
    uint4 words[VECTORS];
    philox_blocks(words, offset + (u64)start / 4 + k, THREADS * BLOCKS, key);
#pragma unroll
    for (int j = 0; j < VECTORS; j++) {
      out[j].set(4 * k, words[j].x >= least ? v[j][4 * k] * scale : 0.f);
      out[j].set(4 * k + 1, words[j].y >= least ? v[j][4 * k + 1] * scale : 0.f);
      out[j].set(4 * k + 2, words[j].z >= least ? v[j][4 * k + 2] * scale : 0.f);
      out[j].set(4 * k + 3, words[j].w >= least ? v[j][4 * k + 3] * scale : 0.f);
    }
  }
}

// out = x where kept, times scale. Backward is the same of g. n elements; aligned: both pointers to 16 bytes. A word is
// kept from least24 << 8 on.
template <class T>
__global__ void __launch_bounds__(THREADS)
dropout(T* __restrict__ out, const T* __restrict__ x, i64 n, u64 key, u64 offset, const u64* __restrict__ moved,
        u32 least24, float scale, int aligned) {
  if (moved) offset += *moved;  // replayed by a graph: where the stream stands now
  constexpr int N = Vector<T>::n, STEP = THREADS * N;  // N: 4 or 8, whole blocks of the generator
  const i64 start = (i64)blockIdx.x * VECTORS * STEP + threadIdx.x * N;
  const u32 least = least24 << 8;
  if (least24 >> 24) scale = 0.f;
  Vector<T> v[VECTORS], kept[VECTORS];
  if (aligned && ((i64)blockIdx.x + 1) * VECTORS * STEP <= n) {  // the whole block alike
#pragma unroll
    for (int j = 0; j < VECTORS; j++) v[j] = load_vector_once(x + start + j * STEP);
    drop(kept, v, start, key, offset, least, scale);
#pragma unroll
    for (int j = 0; j < VECTORS; j++) store_vector(out + start + j * STEP, kept[j]);
    return;
  }
#pragma unroll
  for (int j = 0; j < VECTORS; j++) {
#pragma unroll
    for (int i = 0; i < N; i++) {
      const i64 at = start + j * STEP + i;
      v[j].element[i] = at < n ? x[at] : from_float<T>(0.f);
    }
  }
  drop(kept, v, start, key, offset, least, scale);
#pragma unroll
  for (int j = 0; j < VECTORS; j++) {
#pragma unroll
    for (int i = 0; i < N; i++) {
      const i64 at = start + j * STEP + i;
      if (at < n) out[at] = kept[j].element[i];
    }
  }
}
