// dropout: zero elements with probability p, scale the rest. The mask is a function of the element's index, so backward
// makes it again from key and offset: 4 bytes of traffic a bf16 element and no mask in memory.
#include "numbers.cuh"
#include "philox.cuh"

constexpr int THREADS = 256;
constexpr int VECTORS = 2;  // a thread's, both under way before the first is needed: 64 KiB in flight on a full SM

// Four elements, from i on, times scale where their word of the generator's block i / 4 is at least `least`, else zero.
// uniform = word >> 8 times 2^-24, so uniform >= p is a comparison of integers, the one the CPU makes.
template <class T> __device__ __forceinline__ void drop_four(Vector<T>& v, int i, uint4 words, u32 least, float scale) {
  v.set(i, words.x >> 8 >= least ? v[i] * scale : 0.f);
  v.set(i + 1, words.y >> 8 >= least ? v[i + 1] * scale : 0.f);
  v.set(i + 2, words.z >> 8 >= least ? v[i + 2] * scale : 0.f);
  v.set(i + 3, words.w >> 8 >= least ? v[i + 3] * scale : 0.f);
}

// out = x where kept, times scale. Backward is the same of g. n elements; aligned: both pointers to 16 bytes.
template <class T>
__global__ void __launch_bounds__(THREADS)
dropout(T* __restrict__ out, const T* __restrict__ x, i64 n, u64 key, u64 offset, const u64* __restrict__ moved,
        u32 least, float scale, int aligned) {
  if (moved) offset += *moved;  // replayed by a graph: where the stream stands now
  constexpr int N = Vector<T>::n;  // 4 or 8: whole blocks of the generator
  const i64 start = ((i64)blockIdx.x * VECTORS * THREADS + threadIdx.x) * N;
  Vector<T> v[VECTORS];
#pragma unroll
  for (int j = 0; j < VECTORS; j++) {
    const i64 at = start + j * THREADS * N;
    if (aligned && at + N <= n) {
      v[j] = load_vector_once(x + at);
    } else {
#pragma unroll
      for (int i = 0; i < N; i++) v[j].element[i] = at + i < n ? x[at + i] : from_float<T>(0.f);
    }
  }
#pragma unroll
  for (int j = 0; j < VECTORS; j++) {
    const i64 at = start + j * THREADS * N;
#pragma unroll
    for (int i = 0; i < N; i += 4) drop_four(v[j], i, philox_block(offset + (u64)(at + i) / 4, key), least, scale);
    if (aligned && at + N <= n) {
      store_vector(out + at, v[j]);
    } else {
#pragma unroll
      for (int i = 0; i < N; i++) {
        if (at + i < n) out[at + i] = v[j].element[i];
      }
    }
  }
}
