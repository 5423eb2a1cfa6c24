// What a linear layer adds to its product: a bias to every row, and the residual stream.
#include "elements.cuh"

constexpr int THREADS = 256;

// y (rows, columns) += bias (columns,) + residual (rows, columns), in place; a null pointer adds nothing. y is read and
// written once, the residual read once, the bias stays in the caches. A block takes rows_per_block rows.
template <class T, bool VECTORS>
__global__ void __launch_bounds__(THREADS)
add_bias_residual(T* __restrict__ y, const T* __restrict__ bias, const T* __restrict__ residual, int rows, int columns,
                  int rows_per_block) {
  constexpr int N = elements_at_once<T, VECTORS>;
  const int items = columns / N, first_row = blockIdx.x * rows_per_block;
  const int my_rows = min(rows_per_block, rows - first_row);
  const size_t start = (size_t)first_row * columns;
#pragma unroll 2
  for (int k = threadIdx.x; k < my_rows * items; k += THREADS) {
    const size_t at = start + (size_t)k * N;
    float sum[N], addend[N];
    read(sum, y + at);
    if (bias) {
      read(addend, bias + k % items * N);
#pragma unroll
      for (int i = 0; i < N; i++) sum[i] += addend[i];
    }
    if (residual) {
      read(addend, residual + at);
#pragma unroll
      for (int i = 0; i < N; i++) sum[i] += addend[i];
    }
    write(y + at, sum);
  }
}
