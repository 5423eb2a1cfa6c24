// gelu, bias_gelu and swiglu: a few bytes in, a few out, and the arithmetic to be hidden behind them.
#include "columns.cuh"
#include "gelu.cuh"

constexpr int THREADS = 256;

// Threads read this many packs of each array before they use the first: 48 KB and more under way on an SM, where an
// H100's memory is kept busy by 20, an H200's by 30.
constexpr int AT_ONCE = 2;

// out = gelu(x), flat: AT_ONCE vectors a thread of the first `packs`, then what elements are left of `size`.
template <class T, class Formula>
__global__ void __launch_bounds__(THREADS) gelu_forward(
    T* __restrict__ out, const T* __restrict__ x, i64 packs, i64 size) {
  constexpr int W = Vector<T>::n;
  const i64 first = (i64)blockIdx.x * AT_ONCE * THREADS + threadIdx.x;
  Vector<T> v[AT_ONCE];
  float value, slope;
#pragma unroll
  for (int k = 0; k < AT_ONCE; k++)
    if (first + k * THREADS < packs) v[k] = load_vector_once(x + (first + k * THREADS) * W);
#pragma unroll
  for (int k = 0; k < AT_ONCE; k++)
    if (first + k * THREADS < packs) {
      Vector<T> y;
#pragma unroll
      for (int i = 0; i < W; i++) {
        Formula::template at<T>(v[k][i], value, slope);
        y.set(i, value);
      }
      store_vector(out + (first + k * THREADS) * W, y);
    }
  for (i64 j = packs * W + (i64)blockIdx.x * THREADS + threadIdx.x; j < size; j += (i64)gridDim.x * THREADS) {
    Formula::template at<T>(to_float(x[j]), value, slope);
    out[j] = from_float<T>(value);
  }
}

// forward: out = gelu(x), so gx = g gelu'(x).
template <class T, class Formula>
__global__ void __launch_bounds__(THREADS) gelu_backward(
    T* __restrict__ gx, const T* __restrict__ g, const T* __restrict__ x, i64 packs, i64 size) {
  constexpr int W = Vector<T>::n;
  const i64 first = (i64)blockIdx.x * AT_ONCE * THREADS + threadIdx.x;
  Vector<T> v[AT_ONCE], gs[AT_ONCE];
  float value, slope;
#pragma unroll
  for (int k = 0; k < AT_ONCE; k++)
    if (first + k * THREADS < packs) {
      v[k] = load_vector_once(x + (first + k * THREADS) * W);
      gs[k] = load_vector_once(g + (first + k * THREADS) * W);
    }
#pragma unroll
  for (int k = 0; k < AT_ONCE; k++)
    if (first + k * THREADS < packs) {
      Vector<T> y;
#pragma unroll
      for (int i = 0; i < W; i++) {
        Formula::template at<T>(v[k][i], value, slope);
        y.set(i, gs[k][i] * slope);
      }
      store_vector(gx + (first + k * THREADS) * W, y);
    }
  for (i64 j = packs * W + (i64)blockIdx.x * THREADS + threadIdx.x; j < size; j += (i64)gridDim.x * THREADS) {
    Formula::template at<T>(to_float(x[j]), value, slope);
    gx[j] = from_float<T>(to_float(g[j]) * slope);
  }
}

// The others know their columns. A block of 8 warps takes a strip of 32 packs, blockIdx.x, a lane a pack, and walks
// down it, a warp a row, from row 8 blockIdx.y on: no thread divides to find its column, and a bias is read once.
__device__ __forceinline__ int strip_pack() { return blockIdx.x * 32 + threadIdx.x % 32; }

// use(r, load(r)) for each of this warp's rows r, AT_ONCE loads ahead.
template <class Load, class Use> __device__ __forceinline__ void walk_down(int rows, Load load, Use use) {
  const i64 step = (i64)gridDim.y * COLUMN_WARPS;
  for (i64 first = (i64)blockIdx.y * COLUMN_WARPS + threadIdx.x / 32; first < rows; first += AT_ONCE * step) {
    decltype(load(first)) loaded[AT_ONCE];
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++)
      if (first + k * step < rows) loaded[k] = load(first + k * step);
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++)
      if (first + k * step < rows) use(first + k * step, loaded[k]);
  }
}

template <class P> struct Two { P a, b; };
template <class P> struct Three { P a, b, g; };

// out = gelu(x + bias)
template <class T, class Formula, bool VECTORS>
__global__ void __launch_bounds__(32 * COLUMN_WARPS) bias_gelu_forward(
    T* __restrict__ out, const T* __restrict__ x, const T* __restrict__ bias, int rows, int columns) {
  typedef Pack<T, VECTORS> P;
  const int c = strip_pack() * P::n;
  if (c >= columns) return;
  const P b = load_pack<VECTORS>(bias + c);
  walk_down(rows, [&](i64 r) { return load_pack_once<VECTORS>(x + r * columns + c); }, [&](i64 r, P v) {
    P y;
#pragma unroll
    for (int i = 0; i < P::n; i++) {
      float value, slope;
      Formula::template at<T>(v[i] + b[i], value, slope);
      y.set(i, value);
    }
    store_pack(out + r * columns + c, y);
  });
}

// forward: out = gelu(x + bias), so gx = g gelu'(x + bias), and gbias the sum of its rows: partial (gridDim.y, C) takes
// each block's. gx or partial may be null: not wanted.
template <class T, class Formula, bool VECTORS>
__global__ void __launch_bounds__(32 * COLUMN_WARPS, 4) bias_gelu_backward(
    T* __restrict__ gx, float* __restrict__ partial, const T* __restrict__ g, const T* __restrict__ x,
    const T* __restrict__ bias, int rows, int columns) {
  typedef Pack<T, VECTORS> P;
  __shared__ __align__(16) float tile[COLUMN_WARPS * 32 * P::n];
  const int c = strip_pack() * P::n;
  float sums[P::n] = {};
  if (c < columns) {
    const P b = load_pack<VECTORS>(bias + c);
    auto load = [&](i64 r) {
      return Two<P>{load_pack_once<VECTORS>(x + r * columns + c), load_pack_once<VECTORS>(g + r * columns + c)};
    };
    walk_down(rows, load, [&](i64 r, Two<P> from) {
      P y;
#pragma unroll
      for (int i = 0; i < P::n; i++) {
        float value, slope;
        Formula::template at<T>(from.a[i] + b[i], value, slope);
        y.set(i, from.b[i] * slope);
        sums[i] += from.b[i] * slope;
      }
      if (gx) store_pack(gx + r * columns + c, y);
    });
  }
  const int strip = blockIdx.x * 32 * P::n;
  if (partial) write_block_sums(partial + (size_t)blockIdx.y * columns + strip, sums, columns - strip, tile);
}

// silu(a) = a sigmoid(a) and its slope s (1 + a (1 - s)).
template <class T> __device__ __forceinline__ void silu(float a, float& value, float& slope) {
  a = max_nan(a, -1000.f);  // both are 0 there, where -infinity times 0 would be NaN
  const float e = exponential<T>(-a), s = reciprocal<T>(1.f + e);
  // a (1 - s), whose difference has no digits where s is near 1; at infinity it would be infinity times 0
  const float rest = e > 1e18f ? a : e == 0.f ? 0.f : a * e * s;
  value = a * s;
  slope = s * (1.f + rest);
}

// out = silu(a) b, with a, b the halves of each row of x (N, 2 C). Shazeer 2020, arXiv:2002.05202.
template <class T, bool VECTORS>
__global__ void __launch_bounds__(32 * COLUMN_WARPS) swiglu_forward(
    T* __restrict__ out, const T* __restrict__ x, int rows, int columns) {
  typedef Pack<T, VECTORS> P;
  const int c = strip_pack() * P::n;
  if (c >= columns) return;
  auto load = [&](i64 r) {
    const T* from = x + 2 * r * columns + c;
    return Two<P>{load_pack_once<VECTORS>(from), load_pack_once<VECTORS>(from + columns)};
  };
  walk_down(rows, load, [&](i64 r, Two<P> from) {
    P y;
#pragma unroll
    for (int i = 0; i < P::n; i++) {
      float value, slope;
      silu<T>(from.a[i], value, slope);
      y.set(i, value * from.b[i]);
    }
    store_pack(out + r * columns + c, y);
  });
}

// forward: out = silu(a) b, so ga = g b silu'(a), gb = g silu(a).
template <class T, bool VECTORS>
__global__ void __launch_bounds__(32 * COLUMN_WARPS) swiglu_backward(
    T* __restrict__ gx, const T* __restrict__ g, const T* __restrict__ x, int rows, int columns) {
  typedef Pack<T, VECTORS> P;
  const int c = strip_pack() * P::n;
  if (c >= columns) return;
  auto load = [&](i64 r) {
    const T* from = x + 2 * r * columns + c;
    return Three<P>{load_pack_once<VECTORS>(from), load_pack_once<VECTORS>(from + columns),
                    load_pack_once<VECTORS>(g + r * columns + c)};
  };
  walk_down(rows, load, [&](i64 r, Three<P> from) {
    P ga, gb;
#pragma unroll
    for (int i = 0; i < P::n; i++) {
      float value, slope;
      silu<T>(from.a[i], value, slope);
      ga.set(i, from.g[i] * from.b[i] * slope);
      gb.set(i, from.g[i] * value);
    }
    T* to = gx + 2 * r * columns + c;
    store_pack(to, ga);
    store_pack(to + columns, gb);
  });
}
