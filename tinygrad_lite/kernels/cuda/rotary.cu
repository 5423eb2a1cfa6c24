// rotary: pairs of columns turned by an angle that grows with the position. Su et al. 2021, arXiv:2104.09864.
#include "elements.cuh"

constexpr int THREADS = 256;

// (a, b) becomes (a cos - b sin, a sin + b cos) in the first `heads` heads of `size` columns, b standing size / 2
// columns behind its a; the other columns are copied. Backward is the same with the opposite turn, the transpose.
//
// x, out (rows, width); a row's position is start + row % time, *start_at in place of start where that is given: a
// captured launch then turns each time by another angle. table (positions, size) float32: cosines, then sines.
// It is 256 KiB for 1,024 positions of 64 columns and stays in the L2 cache: memory sees x read once and written once.
//
// A work item is N pairs, or N columns to copy; a row's items count pairs first. A block takes rows_per_block rows.
template <class T, bool VECTORS>
__global__ void __launch_bounds__(THREADS)
rotary(T* __restrict__ out, const T* __restrict__ x, const float* __restrict__ table, u32 rows, int rows_per_block,
       int time, int start, const i64* __restrict__ start_at, int width, int heads, int size, float turn) {
  constexpr int N = elements_at_once<T, VECTORS>;
  const int half = size / 2, items_per_half = half / N;
  const int pairs = heads * items_per_half, items = pairs + (width - heads * size) / N;
  const u32 first_row = blockIdx.x * rows_per_block;
  const int my_rows = (int)min((u32)rows_per_block, rows - first_row);
  if (start_at) start = (int)*start_at;

  for (int k = threadIdx.x; k < my_rows * items; k += THREADS) {
    const u32 row = first_row + k / items;
    const int item = k % items;
    const T* from = x + (size_t)row * width;
    T* to = out + (size_t)row * width;
    if (item < pairs) {
      const int j = item % items_per_half * N, at = item / items_per_half * size + j;
      const float* angle = table + (size_t)(start + row % time) * size + j;
      float a[N], b[N], cosine[N], sine[N], u[N], v[N];
      read(a, from + at);
      read(b, from + at + half);
      read_floats(cosine, angle);
      read_floats(sine, angle + half);
#pragma unroll
      for (int i = 0; i < N; i++) {
        const float s = turn * sine[i];
        u[i] = a[i] * cosine[i] - b[i] * s;
        v[i] = a[i] * s + b[i] * cosine[i];
      }
      write(to + at, u);
      write(to + at + half, v);
    } else {
      const int at = heads * size + (item - pairs) * N;
      float rest[N];
      read(rest, from + at);
      write(to + at, rest);
    }
  }
}
