// Flat arrays times a number that may lie on the device, and sums of them in float32.
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

// total += x, or total = x where there is nothing yet.
template <class T>
__global__ __launch_bounds__(THREADS) void add_into(
    float* __restrict__ total, const T* __restrict__ x, i64 n, int is_first) {
  constexpr int N = Vector<T>::n;
  Span<T, i64> span(x, n);
  if (!is_aligned(total + span.head)) span.forget_vectors();
  const i64 me = (i64)blockIdx.x * THREADS + threadIdx.x, threads = (i64)gridDim.x * THREADS;
  for (i64 j = me; j < span.vectors; j += threads) {
    float sum[N] = {}, addend[N];
    if (!is_first) load_floats(sum, total + span.begin(j));
    load_floats(addend, x + span.begin(j));
#pragma unroll
    for (int i = 0; i < N; i++) sum[i] += addend[i];
    store_floats(total + span.begin(j), sum);
  }
  for (i64 i = me; i < span.edges; i += threads) {
    const i64 at = span.edge(i);
    total[at] = (is_first ? 0.f : total[at]) + to_float(x[at]);
  }
}
