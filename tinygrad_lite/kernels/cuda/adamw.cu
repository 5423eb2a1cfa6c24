// adamw: one optimiser step over flat arrays, in one launch, and the sum of squares that clipping needs.
//
// A step of a bf16 parameter reads 2 + 2 (grad, param) + 4 + 4 + 4 bytes (m, v, master) and writes 4 + 4 + 4 + 2, of a
// float32 one 16 and 12: 124 million parameters move 3.7 GB, a good millisecond of an H100. Without the master it is 22
// bytes in place of 30.
#include "philox.cuh"
#include "span.cuh"
#include "sum64.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;
constexpr int STEP_SHIFT = 40;  // optim/rounding.py's

// p = keep p - rate m / (root sqrt(v) + eps), after m and v, averages of g and g^2, were moved. PyTorch's order. Which sums
// are fused with a product is said: the compiler would choose otherwise for vectors than for single elements.
struct Rule {
  float keep, beta1, rest1, beta2, rest2, eps, rate, root, scale;
  __device__ __forceinline__ float operator()(float p, float g, float& m, float& v) const {
    g *= scale;
    m = fmaf(beta1, m, rest1 * g);
    v = fmaf(beta2, v, rest2 * g * g);
    return fmaf(p, keep, -(rate * m / fmaf(sqrtf(v), root, eps)));
  }
};

// x as one of its two neighbours in T, the upper one with probability (x - lower) / (upper - lower), so that steps far
// smaller than a bf16's last digit still move it on average. random: 16 bits, as many as bf16 cuts off a float32.
template <class T> struct Random {
  static constexpr bool possible = false;
  static __device__ __forceinline__ T round(float x, u32 random) { return from_float<T>(x); }
};
template <> struct Random<bf16> {
  static constexpr bool possible = true;
  static __device__ __forceinline__ bf16 round(float x, u32 random) {
    const u32 bits = __float_as_uint(x);
    if ((bits & 0x7f800000u) == 0x7f800000u) return from_float<bf16>(x);  // infinity and NaN stay what they are
    return __ushort_as_bfloat16((unsigned short)((bits + random) >> 16));
  }
};

// Element i draws the 16-bit half i % 8 of Philox block i / 8, the lower half of a word first.
__device__ __forceinline__ u32 half_of(const uint4& block, int i) {
  const u32 word = i / 2 == 0 ? block.x : i / 2 == 1 ? block.y : i / 2 == 2 ? block.z : block.w;
  return i % 2 ? word >> 16 : word & 0xffffu;
}

// What master is to be, given the parameter that was made of it: itself, unless somebody has written the parameter
// since, loaded weights say.
template <class T> __device__ __forceinline__ float master_of(T param, float master) {
  const float held = to_float(param);
  return to_float(from_float<T>(master)) == held ? master : held;
}

// T float: param is updated itself. Half types with a float32 master: that is updated, and param becomes its rounding.
// bf16 without a master: param itself, rounded by chance; element i of step t draws from Philox block
// t 2^40 + first + i / 8.
// scale_at: where on the device another factor of the gradient lies, or null; where the product of both is not finite
// nothing is written. scalars: keep, rate, root and step on the device in place of the arguments, or null.
template <class T>
__global__ __launch_bounds__(THREADS) void adamw_step(
    T* param, const T* __restrict__ grad, float* __restrict__ m, float* __restrict__ v, float* master, i64 n,
    float keep, float beta1, float rest1, float beta2, float rest2, float eps, float rate, float root, float scale,
    const float* __restrict__ scale_at, const float* __restrict__ scalars, u64 key, u64 first, float step) {
  constexpr int N = Vector<T>::n;
  constexpr bool HALF = sizeof(T) == 2;
  const bool is_random = Random<T>::possible && !master;
  float* exact = HALF ? master : (float*)param;  // what is updated, but where is_random
  if (scale_at) scale *= *scale_at;
  if (scale - scale != 0.f) return;
  if (scalars) keep = scalars[0], rate = scalars[1], root = scalars[2], step = scalars[3];
  const Rule rule = {keep, beta1, rest1, beta2, rest2, eps, rate, root, scale};
  first += (u64)step << STEP_SHIFT;
  Span<T, i64> span(param, n);
  const i64 h = span.head;
  // A vector's 8 elements must have one Philox block.
  if (!(is_aligned(grad + h) && is_aligned(m + h) && is_aligned(v + h) && (is_random ? h == 0 : is_aligned(exact + h))))
    span.forget_vectors();
  const i64 me = (i64)blockIdx.x * THREADS + threadIdx.x, threads = (i64)gridDim.x * THREADS;
  for (i64 j = me; j < span.vectors; j += threads) {
    const i64 at = span.begin(j);
    float p[N], g[N], mean[N], square[N];
    if (!is_random) load_floats(p, exact + at);
    if (HALF) {
      const Vector<T> held = load_vector_once((const T*)param + at);
#pragma unroll
      for (int i = 0; i < N; i++) p[i] = is_random ? held[i] : master_of(held.element[i], p[i]);
    }
    load_floats(g, grad + at);
    load_floats(mean, m + at);
    load_floats(square, v + at);
#pragma unroll
    for (int i = 0; i < N; i++) p[i] = rule(p[i], g[i], mean[i], square[i]);
    store_floats(m + at, mean);
    store_floats(v + at, square);
    if (is_random) {
      const uint4 block = philox_block(first + (u64)at / 8, key);
      Vector<T> rounded;
#pragma unroll
      for (int i = 0; i < N; i++) rounded.element[i] = Random<T>::round(p[i], half_of(block, i));
      store_vector_once(param + at, rounded);
    } else {
      store_floats(exact + at, p);
      if (HALF) store_floats(param + at, p);
    }
  }
  for (i64 i = me; i < span.edges; i += threads) {
    const i64 at = span.edge(i);
    const float before = is_random ? to_float(param[at]) : HALF ? master_of(param[at], exact[at]) : exact[at];
    const float p = rule(before, to_float(grad[at]), m[at], v[at]);
    if (is_random) {
      param[at] = Random<T>::round(p, half_of(philox_block(first + (u64)at / 8, key), at % 8));
    } else {
      exact[at] = p;
      if (HALF) param[at] = from_float<T>(p);
    }
  }
}

// partials[block] = sum of x^2 over what this block reads. In float64: a float32 square overflows from 1.8e19 on, and
// float32 sums of 124 million numbers would keep fewer digits the fewer blocks share them.
template <class T>
__global__ __launch_bounds__(THREADS) void square_partials(
    double* __restrict__ partials, const T* __restrict__ x, i64 n) {
  __shared__ double scratch[WARPS];
  const Span<T, i64> span(x, n);
  const i64 me = (i64)blockIdx.x * THREADS + threadIdx.x, threads = (i64)gridDim.x * THREADS;
  double sum = 0.0;
#pragma unroll 2
  for (i64 j = me; j < span.vectors; j += threads) {
    const Vector<T> values = load_vector_once(x + span.begin(j));
#pragma unroll
    for (int i = 0; i < Vector<T>::n; i++) sum += (double)values[i] * values[i];
  }
  for (i64 i = me; i < span.edges; i += threads) {
    const double value = to_float(x[span.edge(i)]);
    sum += value * value;
  }
  sum = block_sum64<WARPS>(sum, scratch);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// The sum of all partials, by one block, to where a pointer is given; added to what is there if `adds`.
__global__ __launch_bounds__(THREADS) void add_partials(
    double* out64, float* out32, const double* __restrict__ partials, int count, int adds) {
  __shared__ double scratch[WARPS];
  double sum = 0.0;
  for (int i = threadIdx.x; i < count; i += THREADS) sum += partials[i];
  sum = block_sum64<WARPS>(sum, scratch);
  if (threadIdx.x == 0 && out64) *out64 = adds ? *out64 + sum : sum;
  if (threadIdx.x == 0 && out32) *out32 = (float)(adds ? *out32 + sum : sum);
}
