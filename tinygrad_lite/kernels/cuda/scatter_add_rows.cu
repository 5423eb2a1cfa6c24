// scatter_add_rows: out[indices[i]] += g[i], the gradient of an embedding, without atomics.
//
// The positions i come sorted by index (`order`), so the rows of one index stand together: a run. Sorted positions are
// cut into chunks of CHUNK, one block each. A run inside a chunk is added up and added to its row of out. A run that
// crosses chunks, a frequent token's, leaves a piece of its sum in each of them:
//
//   chunk        0             1             2             3
//   index  2 2 3 3 5 5 5 | 5 5 5 5 5 5 5 | 5 5 5 5 5 5 5 | 5 5 7 8 8 9 9
//                    [1]       [0]             [0]           [0]
//
// pieces[chunk][1]: of the run that begins there and goes on; pieces[chunk][0]: of the run that came from before. A
// second launch adds up the pieces of each such run. Sums are in float32 and in an order that the indices alone decide;
// a row of out is rounded once.
#include "elements.cuh"

constexpr int CHUNK = 32;
constexpr int THREADS = 128;
constexpr int ROWS_AT_ONCE = 4;  // rows of g that a thread has under way
constexpr int WARPS = 8;  // that share the pieces of a run

template <int N, class T> __device__ __forceinline__ void add_to(T* row, const float (&sum)[N]) {
  float before[N];
  read(before, row);
#pragma unroll
  for (int i = 0; i < N; i++) before[i] += sum[i];
  write(row, before);
}

// grid (chunks, tiles of columns). out (vocabulary, columns), g (n, columns), pieces (chunks, 2, columns).
template <class T, bool VECTORS>
__global__ void __launch_bounds__(THREADS, 8)
add_runs(T* __restrict__ out, float* __restrict__ pieces, const i64* __restrict__ indices,
         const i64* __restrict__ order, const T* __restrict__ g, int n, int columns) {
  constexpr int N = elements_at_once<T, VECTORS>;
  const int first = blockIdx.x * CHUNK, count = min(CHUNK, n - first);
  __shared__ i64 index[CHUNK + 2];  // of the chunk's positions from [1] on, and of one more at either side; -1: none
  __shared__ i64 row[CHUNK];
  if (threadIdx.x < count + 2) {
    const int k = first - 1 + (int)threadIdx.x;
    index[threadIdx.x] = k >= 0 && k < n ? indices[order[k]] : -1;
  }
  if (threadIdx.x < count) row[threadIdx.x] = order[first + threadIdx.x];
  __syncthreads();
  const int column = (blockIdx.y * THREADS + threadIdx.x) * N;
  if (column >= columns) return;

  float sum[N] = {};
  bool from_before = index[0] == index[1];  // the current run began in an earlier chunk
  for (int k = 0; k < count; k += ROWS_AT_ONCE) {
    float values[ROWS_AT_ONCE][N];
#pragma unroll
    for (int j = 0; j < ROWS_AT_ONCE; j++) {
      if (k + j < count) read(values[j], g + (size_t)row[k + j] * columns + column);
    }
#pragma unroll
    for (int j = 0; j < ROWS_AT_ONCE; j++) {
      if (k + j < count) {
#pragma unroll
        for (int i = 0; i < N; i++) sum[i] += values[j][i];
        const bool last_here = k + j + 1 == count, ends = index[k + j + 1] != index[k + j + 2];
        if (ends || last_here) {
          if (from_before || !ends) {
            write_floats(pieces + ((size_t)blockIdx.x * 2 + !from_before) * columns + column, sum);
          } else {
            add_to(out + (size_t)index[k + j + 1] * columns + column, sum);
          }
#pragma unroll
          for (int i = 0; i < N; i++) sum[i] = 0.f;
          from_before = false;
        }
      }
    }
  }
}

// grid (chunks - 1, tiles of columns): the block of a chunk where a run begins that goes on adds up the run's pieces,
// its warps taking them in turn. A run of all 32,768 positions is then 128 reads after another, not 1,024.
template <class T, bool VECTORS>
__global__ void __launch_bounds__(32 * WARPS)
add_pieces(T* __restrict__ out, const float* __restrict__ pieces, const i64* __restrict__ indices,
           const i64* __restrict__ order, int n, int columns) {
  constexpr int N = elements_at_once<T, VECTORS>;
  const int chunk = blockIdx.x, chunks = gridDim.x + 1, next = (chunk + 1) * CHUNK;  // next: a position, less than n
  const i64 index = indices[order[next - 1]];
  const bool goes_on = indices[order[next]] == index;
  const bool begins = chunk == 0 || indices[order[chunk * CHUNK - 1]] != index;
  if (!(goes_on && begins)) return;  // the whole block, before its barrier: most blocks

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = (blockIdx.y * 32 + lane) * N;
  float sum[N] = {};
  if (column < columns) {
    if (warp == 0) read_floats(sum, pieces + ((size_t)chunk * 2 + 1) * columns + column);
    for (int c = chunk + 1 + warp; c < chunks && indices[order[c * CHUNK]] == index; c += WARPS) {
      float piece[N];
      read_floats(piece, pieces + (size_t)c * 2 * columns + column);
#pragma unroll
      for (int i = 0; i < N; i++) sum[i] += piece[i];
    }
  }
  __shared__ float sums[WARPS][N][32];
#pragma unroll
  for (int i = 0; i < N; i++) sums[warp][i][lane] = sum[i];
  __syncthreads();
  if (warp == 0 && column < columns) {
#pragma unroll
    for (int w = 1; w < WARPS; w++) {
#pragma unroll
      for (int i = 0; i < N; i++) sum[i] += sums[w][i][lane];
    }
    add_to(out + (size_t)index * columns + column, sum);
  }
}
