// Flat arrays times a number that may lie on the device.
#include "span.cuh"

constexpr int THREADS = 256;

// out = constant *factor x, the factor 1 where its pointer is null. out may be x: then a factor of 1 costs no memory.
template <class From, class T>
__global__ __launch_bounds__(THREADS) void scale_into(
    T* out, const From* x, i64 n, float constant, const float* factor) {
  constexpr int N = Vector<T>::n;
  const float by = factor ? constant * *factor : constant;
  if ((const void*)out == (const void*)x && by == 1.f) return;
  Span<T, i64> span(out, n);
  if (!is_aligned(x + span.head)) span.forget_vectors();
  const i64 me = (i64)blockIdx.x * THREADS + threadIdx.x, threads = (i64)gridDim.x * THREADS;
  for (i64 j = me; j < span.vectors; j += threads) {
    float values[N];
    load_floats(values, x + span.begin(j));
#pragma unroll
    for (int i = 0; i < N; i++) values[i] *= by;
    store_floats(out + span.begin(j), values);
  }
  for (i64 i = me; i < span.edges; i += threads) out[span.edge(i)] = from_float<T>(to_float(x[span.edge(i)]) * by);
}
