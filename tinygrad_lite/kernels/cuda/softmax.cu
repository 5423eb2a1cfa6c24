// softmax and log_softmax (LOG) over rows of any length, each of a warp or, if it is long, of a block of 16.
//
// One pass finds the largest element and the sum of exponentials together: Milakov & Gimelshein 2018, "Online
// normalizer calculation for softmax", arXiv:1805.02867. A second writes. row.cuh keeps up to 16,384 columns in
// registers between them, so x is read once; of a longer row the rest comes from L2 again. Of 50,304 bf16 numbers that
// is 68 KB: of the 2 blocks that are under way on each of 132 SMs 18 MB, of 50. Blocks of 8 warps would be twice as
// many and keep half as much each.
#include "row.cuh"

constexpr float LOWEST = -3.4028234663852886e38f;

// out = exp(x - top) / total, or (x - top) - log(total), with top = max(x) and total = sum(exp(x - top)).
template <class T, bool LOG, bool VECTORS, int WARPS>
__global__ void __launch_bounds__(row_threads<WARPS>, row_blocks<T, VECTORS, WARPS>) softmax_forward(
    T* __restrict__ out, const T* __restrict__ x, int rows, int columns) {
  typedef Row<T, VECTORS, WARPS, 2> Row;
  typedef typename Row::P P;
  constexpr int ROWS = row_threads<WARPS> / Row::THREADS;  // of a block
  __shared__ float scratch[WARPS];
  const int r = blockIdx.x * ROWS + threadIdx.x / Row::THREADS;
  if (r >= rows) return;  // a whole warp, and of a block that meets no barrier
  const Row row(x + (size_t)r * columns, columns);

  // LOWEST, not -infinity, where nothing was seen: the difference of two tops then is a number, and a logit of
  // -infinity simply weighs 0. A row of nothing else ends as 0 / 0.
  float top = LOWEST, total = 0.f;
  Row::each(columns, [&](int c, int turn) {
    const P v = row.pack(c, turn);
    float larger = top, part = 0.f;
#pragma unroll
    for (int i = 0; i < Row::W; i++) larger = fmaxf(larger, v[i]);
#pragma unroll
    for (int i = 0; i < Row::W; i++) part += exponential<T>(v[i] - larger);
    total = total * exponential<T>(top - larger) + part;
    top = larger;
  });
  const float largest = block_max<WARPS>(top, scratch);
  total = block_sum<WARPS>(total * exponential<T>(top - largest), scratch);

  const float log_total = logf(total), factor = 1.f / total;
  T* y = out + (size_t)r * columns;
  Row::each(columns, [&](int c, int turn) {
    const P v = row.pack(c, turn);
    P p;
#pragma unroll
    for (int i = 0; i < Row::W; i++)  // v - (largest + log_total) knows a probability at logits of 10,000 to 1e-3 only
      p.set(i, LOG ? (v[i] - largest) - log_total : exponential<T>(v[i] - largest) * factor);
    store_pack_once(y + c, p);
  });
}

// forward: out = softmax(x), so gx = out (g - sum(g out)); of log_softmax gx = g - exp(out) sum(g).
template <class T, bool LOG, bool VECTORS, int WARPS>
__global__ void __launch_bounds__(row_threads<WARPS>) softmax_backward(
    T* __restrict__ gx, const T* __restrict__ g, const T* __restrict__ out, int rows, int columns) {
  typedef Row<T, VECTORS, WARPS, 2> Row;
  typedef typename Row::P P;
  constexpr int ROWS = row_threads<WARPS> / Row::THREADS;
  __shared__ float scratch[WARPS];
  const int r = blockIdx.x * ROWS + threadIdx.x / Row::THREADS;
  if (r >= rows) return;
  const Row g_row(g + (size_t)r * columns, columns), out_row(out + (size_t)r * columns, columns);
  float sum = 0.f;
  Row::each(columns, [&](int c, int turn) {
    const P gs = g_row.pack(c, turn), p = out_row.pack(c, turn);
#pragma unroll
    for (int i = 0; i < Row::W; i++) sum += LOG ? gs[i] : gs[i] * p[i];
  });
  sum = block_sum<WARPS>(sum, scratch);
  T* to = gx + (size_t)r * columns;
  Row::each(columns, [&](int c, int turn) {
    const P gs = g_row.pack(c, turn), p = out_row.pack(c, turn);
    P v;
#pragma unroll
    for (int i = 0; i < Row::W; i++) v.set(i, LOG ? gs[i] - exponential<T>(p[i]) * sum : p[i] * (gs[i] - sum));
    store_pack_once(to + c, v);
  });
}
