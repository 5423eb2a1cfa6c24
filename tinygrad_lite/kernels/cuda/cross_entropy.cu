// cross_entropy: a block for each row of logits, which it reads once, keeping a running log-sum-exp.
//
// Milakov & Gimelshein 2018, "Online normalizer calculation for softmax", arXiv:1805.02867.
#include "reduce.cuh"
#include "span.cuh"
#include "sum64.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;                      // of forward and backward: 8 blocks on each SM
constexpr int IN_PLACE_THREADS = 512, IN_PLACE_WARPS = IN_PLACE_THREADS / 32;  // 2 blocks: each keeps its row
constexpr int TOTAL_THREADS = 1024, TOTAL_WARPS = TOTAL_THREADS / 32;   // the only block of its launch
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;
constexpr float LOWEST = -3.4028234663852886e38f;

// total exp(top) is the sum of exp(x) over what was added, top the largest x. LOWEST, not -infinity, where nothing was:
// the difference of two tops then is a number, and logits of -infinity weigh 0. A row of nothing else ends as NaN.
struct ExpSum {
  float top = LOWEST, total = 0.f;

  // One rescaling for N elements: 1 + N exponentials. The difference comes first: logits of 10,000 keep their digits.
  template <int N> __device__ __forceinline__ void add(const float (&x)[N]) {
    float larger = top, part = 0.f;
#pragma unroll
    for (int i = 0; i < N; i++) larger = fmaxf(larger, x[i]);
#pragma unroll
    for (int i = 0; i < N; i++) part += exp2_approx((x[i] - larger) * LOG2E);
    total = total * exp2_approx((top - larger) * LOG2E) + part;
    top = larger;
  }
  template <class T> __device__ __forceinline__ void add(const Vector<T>& v) {
    float x[Vector<T>::n];
#pragma unroll
    for (int i = 0; i < Vector<T>::n; i++) x[i] = v[i];
    add(x);
  }
  __device__ __forceinline__ void add(float x) {
    const float one[1] = {x};
    add(one);
  }

  // Every thread of the block gets the block's sum.
  template <int WARPS> __device__ __forceinline__ void join(float* scratch) {
    const float largest = block_max<WARPS>(top, scratch);
    total = block_sum<WARPS>(total * exp2_approx((top - largest) * LOG2E), scratch);
    top = largest;
  }
};

// Probabilities of a row whose log-sum-exp is top + LN2 log2_total. The two parts stay apart: at logits of 10,000 their
// sum knows a float32 probability to 1e-3 only.
struct Softmax {
  float top, log2_total;
  __device__ __forceinline__ float log_probability(float x) const { return (x - top) - LN2 * log2_total; }
  __device__ __forceinline__ float probability(float x) const { return exp2_approx((x - top) * LOG2E - log2_total); }
};

// A target that is no class reads no memory, and makes the loss NaN.
__device__ __forceinline__ bool is_class(i64 target, int columns) { return target >= 0 && target < columns; }
__device__ __forceinline__ float no_number() { return __int_as_float(0x7fc00000); }

template <class T> __device__ __forceinline__ bool holds(int column, i64 target) {
  return target >= column && target < column + Vector<T>::n;
}

// (probability - uniform - share of the target) factor, of the vector that begins at `column`.
template <class T>
__device__ __forceinline__ Vector<T> gradient(
    const Vector<T>& x, int column, i64 target, Softmax softmax, float uniform, float share, float factor) {
  Vector<T> out;
  const bool has_target = holds<T>(column, target);
#pragma unroll
  for (int i = 0; i < Vector<T>::n; i++) {
    float difference = softmax.probability(x[i]) - uniform;
    if (has_target && column + i == target) difference -= share;
    out.set(i, difference * factor);
  }
  return out;
}

template <class T> __device__ __forceinline__ void fill_zeros(T* row, const Span<T, int>& span) {
  Vector<T> zeros;
  zeros.bits = make_uint4(0, 0, 0, 0);
  for (int j = threadIdx.x; j < span.vectors; j += blockDim.x) store_vector_once(row + span.begin(j), zeros);
  for (int i = threadIdx.x; i < span.edges; i += blockDim.x) row[span.edge(i)] = from_float<T>(0.f);
}

// losses[row] = lse - (1 - smoothing) x[target] - smoothing mean(x), 0 if ignored; lse[row] = (top, log2_total), unless
// null. Bytes: the logits once. 2 loads of 16 bytes by each of 2,048 threads are 64 KB under way on an SM; 18 KB keep
// an H100's memory busy (25 KB a microsecond for an SM, and 0.7 of them until a load arrives).
template <class T>
__global__ __launch_bounds__(THREADS) void cross_entropy_forward(
    float* __restrict__ losses, float2* __restrict__ lse, const T* __restrict__ logits, const i64* __restrict__ targets,
    int columns, i64 ignore_index, float smoothing) {
  __shared__ float scratch[WARPS];
  const T* row = logits + (size_t)blockIdx.x * columns;
  const i64 target = targets[blockIdx.x];
  Softmax softmax = {0.f, 0.f};
  float loss = 0.f;
  if (target != ignore_index) {  // the whole block alike
    const Span<T, int> span(row, columns);
    // Sums are of x - shift, exact where logits lie close together, at 1e30 say. An infinite shift would hide others.
    const float first = to_float(row[0]), shift = fabsf(first) < INFINITY ? first : 0.f;
    ExpSum sum;
    float linear = 0.f;
#pragma unroll 2
    for (int j = threadIdx.x; j < span.vectors; j += THREADS) {
      const Vector<T> v = load_vector_once(row + span.begin(j));
      sum.add(v);
      if (smoothing != 0.f) {
#pragma unroll
        for (int i = 0; i < Vector<T>::n; i++) linear += v[i] - shift;
      }
    }
    for (int i = threadIdx.x; i < span.edges; i += THREADS) {
      const float x = to_float(row[span.edge(i)]);
      sum.add(x);
      linear += x - shift;
    }
    sum.join<WARPS>(scratch);
    softmax = {sum.top, log2f(sum.total)};
    loss = -(1.f - smoothing) * softmax.log_probability(is_class(target, columns) ? to_float(row[target]) : no_number());
    if (smoothing != 0.f) {
      linear = block_sum<WARPS>(linear, scratch);
      loss -= smoothing * (softmax.log_probability(shift) + linear / columns);
    }
  }
  if (threadIdx.x == 0) {
    losses[blockIdx.x] = loss;
    if (lse) lse[blockIdx.x] = make_float2(softmax.top, softmax.log2_total);
  }
}

// forward: loss = sum over valid rows (lse - (1 - smoothing) x[target] - smoothing mean(x)) / valid, so
// gx = g / valid (softmax - (1 - smoothing) onehot - smoothing / V), and zeros in ignored rows.
template <class T>
__global__ __launch_bounds__(THREADS) void cross_entropy_backward(
    T* __restrict__ gx, const T* __restrict__ logits, const i64* __restrict__ targets, const float2* __restrict__ lse,
    const float* __restrict__ g, const int* __restrict__ valid, int columns, i64 ignore_index, float smoothing) {
  const T* row = logits + (size_t)blockIdx.x * columns;
  T* out = gx + (size_t)blockIdx.x * columns;
  const i64 target = targets[blockIdx.x];
  Span<T, int> span(row, columns);
  if (!is_aligned(out + span.head)) span.forget_vectors();
  if (target == ignore_index) {
    fill_zeros(out, span);
    return;
  }
  const Softmax softmax = {lse[blockIdx.x].x, lse[blockIdx.x].y};
  const float uniform = smoothing / columns, share = 1.f - smoothing, factor = *g / *valid;
#pragma unroll 2
  for (int j = threadIdx.x; j < span.vectors; j += THREADS) {
    const int column = span.begin(j);
    const Vector<T> x = load_vector_once(row + column);
    store_vector_once(out + column, gradient(x, column, target, softmax, uniform, share, factor));
  }
  for (int i = threadIdx.x; i < span.edges; i += THREADS) {
    const int column = span.edge(i);
    const float p = softmax.probability(to_float(row[column])) - uniform;
    out[column] = from_float<T>((column == target ? p - share : p) * factor);
  }
}

// losses as above without smoothing; the logits become scale / valid (softmax - onehot), the gradient of scale loss.
//
// Bytes: the logits in and out once. A row of 50,304 bf16 logits, 100 KB, is wanted again when its sum is known, so the
// first `kept_vectors` of it are copied to shared memory; where that does not hold all, the rest comes from L2. Two
// blocks share an SM: one reads while the other writes. The exponentials, 2 for each logit at 16 a cycle, take 0.6 of
// the time of the bytes. A thread reads what it has copied itself, so copies need no barrier. On an H200, of a copy's
// speed: 0.86; with 768 or 1,024 threads 0.83 and 0.82; one block that copies its next row meanwhile 0.78; three that
// keep 72 KB each and read the rest twice 0.80.
template <class T>
__global__ __launch_bounds__(IN_PLACE_THREADS, 2) void cross_entropy_in_place(
    T* logits, float* __restrict__ losses, const i64* __restrict__ targets, const int* __restrict__ valid, int columns,
    i64 ignore_index, float scale, int kept_vectors) {
  __shared__ float scratch[IN_PLACE_WARPS];
  DYNAMIC_SHARED(uint4, kept);
  T* row = logits + (size_t)blockIdx.x * columns;
  const i64 target = targets[blockIdx.x];
  const Span<T, int> span(row, columns);
  if (target == ignore_index) {
    if (threadIdx.x == 0) losses[blockIdx.x] = 0.f;
    fill_zeros(row, span);
    return;
  }
  // The copies of a thread in PARTS groups, so that the first are added up while the others are under way.
  constexpr int PARTS = 4;
  kept_vectors = min(kept_vectors, span.vectors);
  const int part = (kept_vectors + IN_PLACE_THREADS * PARTS - 1) / (IN_PLACE_THREADS * PARTS) * IN_PLACE_THREADS;
#pragma unroll
  for (int k = 0; k < PARTS; k++) {
    for (int j = k * part + threadIdx.x; j < kept_vectors && j < (k + 1) * part; j += IN_PLACE_THREADS)
      cp_async16(kept + j, row + span.begin(j));
    cp_async_commit();
  }
  const auto kept_vector = [&](int j) {
    Vector<T> v;
    v.bits = kept[j];
    return v;
  };
  ExpSum sum;
  const auto add_part = [&](int k) {
    for (int j = k * part + threadIdx.x; j < kept_vectors && j < (k + 1) * part; j += IN_PLACE_THREADS)
      sum.add(kept_vector(j));
  };
  cp_async_wait<3>(), add_part(0);
  cp_async_wait<2>(), add_part(1);
  cp_async_wait<1>(), add_part(2);
  cp_async_wait<0>(), add_part(3);
  for (int j = kept_vectors / IN_PLACE_THREADS * IN_PLACE_THREADS + threadIdx.x; j < span.vectors; j += IN_PLACE_THREADS)
    if (j >= kept_vectors) sum.add(load_vector(row + span.begin(j)));
  for (int i = threadIdx.x; i < span.edges; i += IN_PLACE_THREADS) sum.add(to_float(row[span.edge(i)]));
  sum.join<IN_PLACE_WARPS>(scratch);
  const Softmax softmax = {sum.top, log2f(sum.total)};
  const float factor = scale / *valid;
  if (threadIdx.x == 0 && !is_class(target, columns)) losses[blockIdx.x] = no_number();
  for (int j = threadIdx.x; j < span.vectors; j += IN_PLACE_THREADS) {
    const int column = span.begin(j);
    const Vector<T> v = j < kept_vectors ? kept_vector(j) : load_vector(row + column);
    if (holds<T>(column, target)) {
#pragma unroll
      for (int i = 0; i < Vector<T>::n; i++) {
        if (column + i == target) losses[blockIdx.x] = -softmax.log_probability(v[i]);
      }
    }
    store_vector_once(row + column, gradient(v, column, target, softmax, 0.f, 1.f, factor));
  }
  for (int i = threadIdx.x; i < span.edges; i += IN_PLACE_THREADS) {
    const int column = span.edge(i);
    const float x = to_float(row[column]), p = softmax.probability(x);
    if (column == target) losses[blockIdx.x] = -softmax.log_probability(x);
    row[column] = from_float<T>((column == target ? p - 1.f : p) * factor);
  }
}

// *valid = how many targets are not ignored. It stays on the device, so nobody waits for it. One block reads 256 KB of
// 32,768 targets in a few microseconds, against 1.5 ms for their logits.
__global__ __launch_bounds__(TOTAL_THREADS) void count_targets(
    int* __restrict__ valid, const i64* __restrict__ targets, i64 n, i64 ignore_index) {
  __shared__ double scratch[TOTAL_WARPS];
  int count = 0;
#pragma unroll 4
  for (i64 i = threadIdx.x; i < n; i += TOTAL_THREADS) count += targets[i] != ignore_index;
  const double all = block_sum64<TOTAL_WARPS>(count, scratch);
  if (threadIdx.x == 0) *valid = (int)all;
}

// *loss = sum(losses) / valid, added in float64; NaN where nothing is valid.
__global__ __launch_bounds__(TOTAL_THREADS) void mean_loss(
    float* __restrict__ loss, const float* __restrict__ losses, const int* __restrict__ valid, i64 n) {
  __shared__ double scratch[TOTAL_WARPS];
  double sum = 0.0;
#pragma unroll 4
  for (i64 i = threadIdx.x; i < n; i += TOTAL_THREADS) sum += losses[i];
  sum = block_sum64<TOTAL_WARPS>(sum, scratch);
  if (threadIdx.x == 0) *loss = (float)(sum / *valid);
}
