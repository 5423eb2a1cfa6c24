// row_product: one row times a matrix that lies by its outputs, x (K) @ w (N, K)': a linear layer of one token.
//
// Each number of w is read once and used once, so this can be as fast as w is read, and no faster. A tile of 64 rows on
// tensor cores would be empty but for one of them, and its blocks too few to keep the memory busy.
//
// A warp adds up COLUMNS outputs, a lane 16 bytes of x and of each of their rows of w at a time; `split` warps of a
// block share a long sum. Sums are in float32, in an order that K, N and the type alone decide.
#include "gelu.cuh"
#include "reduce.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;
// Reads of each row that a lane has under way: 1,024 numbers of 16 bits a warp, so that a row of GPT-2's is read in one go.
constexpr int AT_ONCE = 4;

template <class T> __device__ __forceinline__ Vector<T> zeros() {
  Vector<T> v;
  v.bits = make_uint4(0, 0, 0, 0);
  return v;
}

// out (n) = x (k) @ w (n, k)' + bias (n) + addend (n), either null or not; addend may be out. GELU: before (n) takes that,
// and out is its gelu, by tanh. x and the rows of w begin and end at multiples of 16 bytes. grid (tiles of outputs).
template <class T, class Out, int COLUMNS, bool GELU>
__global__ void __launch_bounds__(THREADS, COLUMNS == 1 ? 4 : 2)
row_product(Out* out, T* __restrict__ before, const T* __restrict__ x, const T* __restrict__ w,
            const Out* __restrict__ bias, const Out* addend, int n, int k, int split) {
  constexpr int W = Vector<T>::n;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, part = warp % split;
  const int first = (blockIdx.x * (WARPS / split) + warp / split) * COLUMNS;
  const T* row[COLUMNS];
#pragma unroll
  for (int i = 0; i < COLUMNS; i++) row[i] = w + (size_t)min(first + i, n - 1) * k;  // behind the last one: it again

  const int step = 32 * W * split;
  float sum[COLUMNS] = {};
  for (int start = 32 * W * part; start < k; start += AT_ONCE * step) {
    Vector<T> of_x[AT_ONCE], of_w[COLUMNS][AT_ONCE];
#pragma unroll
    for (int j = 0; j < AT_ONCE; j++) {  // all are asked for before any is used
      const int at = start + j * step + lane * W;
      const bool here = at < k;
      of_x[j] = here ? load_vector(x + at) : zeros<T>();
#pragma unroll
      for (int i = 0; i < COLUMNS; i++) of_w[i][j] = here ? load_vector_once(row[i] + at) : zeros<T>();
    }
#pragma unroll
    for (int j = 0; j < AT_ONCE; j++) {
#pragma unroll
      for (int i = 0; i < COLUMNS; i++) {
#pragma unroll
        for (int e = 0; e < W; e++) sum[i] += of_x[j][e] * of_w[i][j][e];
      }
    }
  }

  __shared__ float sums[WARPS][COLUMNS];
#pragma unroll
  for (int i = 0; i < COLUMNS; i++) {
    sum[i] = warp_sum(sum[i]);
    if (lane == 0) sums[warp][i] = sum[i];
  }
  __syncthreads();
  const int column = first + lane;
  if (part > 0 || lane >= COLUMNS || column >= n) return;
  float y = bias ? to_float(bias[column]) : 0.f;
  if (addend) y += to_float(addend[column]);
  for (int s = 0; s < split; s++) y += sums[warp + s][lane];
  if constexpr (GELU) {
    before[column] = from_float<T>(y);
    float slope;
    GeluTanh::at<T>(y, y, slope);
  }
  out[column] = from_float<Out>(y);
}
