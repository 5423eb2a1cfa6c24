// scatter_add_rows: out[indices[i]] += g[i], the gradient of an embedding, without atomics.
//
// The positions i come sorted by index (sort_indices.cu), so the rows of one index stand together: a run. Sorted
// positions are cut into chunks of CHUNK, one block each. A run belongs to the block where it begins, which adds it up
// and adds it to its row of out; it may end in the next chunk. A run that goes on beyond that, a frequent token's, is
// long: each block adds up a piece of it, and a second launch the pieces.
//
//   chunk        0             1             2             3
//   index  2 2 3 3 5 5 5 | 5 5 5 5 5 5 5 | 5 5 5 5 7 7 7 | 7 7 7 8 8 9 9
//                    [1]       [0]           [0]  block 2's
//
// pieces[chunk][1]: of the long run that begins there; pieces[chunk][0]: of the one that came from before. Sums are in
// float32 and in an order that the indices alone decide; a row of out is rounded once.
#include "elements.cuh"
#include "pack.cuh"

constexpr int CHUNK = 32;
constexpr int THREADS = 128;     // of a block, at most
constexpr int ROWS_AT_ONCE = 4;  // rows of g that a thread has under way, and those of out that they complete
constexpr int WARPS = 8;         // that share the pieces of a run

template <int N, class P> __device__ __forceinline__ void add_to(float (&sum)[N], const P& pack) {
#pragma unroll
  for (int i = 0; i < N; i++) sum[i] += pack[i];
}

// Whether a run crosses the border before position p, a chunk's first; whether it is long, for it crosses another too.
__device__ __forceinline__ bool is_crossed(const int2* entries, int p, int n) {
  return p > 0 && p < n && entries[p - 1].x == entries[p].x;
}
__device__ __forceinline__ bool is_crossed_by_long(const int2* entries, int p, int n) {
  const int index = entries[p].x;
  return (p > CHUNK && entries[p - CHUNK - 1].x == index) || (p + CHUNK < n && entries[p + CHUNK].x == index);
}

// Where the sum goes that ends with a position: a row of out, or one of these.
enum { GOES_ON = -1, FROM_BEFORE = -2, INTO_NEXT = -3 };

// grid (chunks, tiles of columns). out (vocabulary, columns), entries (n) = {index, position}, g (n, columns), pieces
// (chunks, 2, columns).
template <class T, bool VECTORS>
__global__ void __launch_bounds__(THREADS, 8)
add_runs(T* __restrict__ out, float* __restrict__ pieces, const int2* __restrict__ entries, const T* __restrict__ g,
         int n, int columns) {
  typedef Pack<T, VECTORS> P;
  constexpr int N = P::n;
  const int first = blockIdx.x * CHUNK, next = first + CHUNK, count = min(2 * CHUNK, n - first);
  __shared__ int position[2 * CHUNK], target[2 * CHUNK];
  const bool comes = is_crossed(entries, first, n), goes = is_crossed(entries, next, n);
  const bool comes_long = comes && is_crossed_by_long(entries, first, n);
  const bool goes_long = goes && is_crossed_by_long(entries, next, n);
  for (int k = threadIdx.x; k < count; k += blockDim.x) {
    const int2 entry = entries[first + k];
    const int index = entry.x;
    const bool from_before = comes && index == entries[first].x, into_next = goes && index == entries[next].x;
    const bool mine = k < CHUNK ? !from_before || comes_long : into_next && !goes_long;
    const bool ends = first + k + 1 >= n || entries[first + k + 1].x != index;
    position[k] = mine ? entry.y : -1;
    const bool goes_on = !ends && !(goes_long && k == CHUNK - 1);
    target[k] = goes_on ? GOES_ON : from_before ? FROM_BEFORE : ends ? index : INTO_NEXT;
  }
  __syncthreads();
  const int column = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (column >= columns) return;

  float sum[N] = {};
  for (int k = 0; k < count; k += ROWS_AT_ONCE) {
    P values[ROWS_AT_ONCE], old[ROWS_AT_ONCE];
#pragma unroll
    for (int j = 0; j < ROWS_AT_ONCE; j++) {
      if (k + j >= count || position[k + j] < 0) continue;
      values[j] = load_pack_once<VECTORS>(g + (size_t)position[k + j] * columns + column);
      if (target[k + j] >= 0) old[j] = load_pack<VECTORS>(out + (size_t)target[k + j] * columns + column);
    }
#pragma unroll
    for (int j = 0; j < ROWS_AT_ONCE; j++) {
      if (k + j >= count || position[k + j] < 0) continue;
      add_to(sum, values[j]);
      const int to = target[k + j];
      if (to == GOES_ON) continue;
      if (to >= 0) {
        add_to(sum, old[j]);
        write(out + (size_t)to * columns + column, sum);
      } else {
        write_floats(pieces + ((size_t)blockIdx.x * 2 + (to == INTO_NEXT)) * columns + column, sum);
      }
#pragma unroll
      for (int i = 0; i < N; i++) sum[i] = 0.f;
    }
  }
}

// grid (chunks - 2, tiles of columns): the block of the chunk where a long run begins adds up its pieces, its warps
// taking them in turn. A run of all 32,768 positions is then 128 reads a thread, four of them at once.
template <class T, bool VECTORS>
__global__ void __launch_bounds__(32 * WARPS, 5)
add_pieces(T* __restrict__ out, const float* __restrict__ pieces, const int2* __restrict__ entries, int n,
           int columns) {
  constexpr int N = elements_at_once<T, VECTORS>;
  const int chunk = blockIdx.x, chunks = gridDim.x + 2, next = (chunk + 1) * CHUNK;
  const int index = entries[next - 1].x;
  const bool is_long = entries[next + CHUNK].x == index;
  const bool begins = chunk == 0 || entries[chunk * CHUNK - 1].x != index;
  if (!(is_long && begins)) return;  // the whole block, before its barriers: most blocks

  int stop = chunk + 1, found;  // of the run's chunks: they stand together, so that counting finds their end
  do {
    const int c = stop + (int)threadIdx.x;
    found = __syncthreads_count(c < chunks && entries[c * CHUNK].x == index);
    stop += found;
  } while (found == 32 * WARPS);

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = (blockIdx.y * 32 + lane) * N;
  float sum[N] = {};
  if (column < columns) {
    if (warp == 0) read_floats(sum, pieces + ((size_t)chunk * 2 + 1) * columns + column);
#pragma unroll 4
    for (int c = chunk + 1 + warp; c < stop; c += WARPS) {
      float piece[N];
      read_floats(piece, pieces + (size_t)c * 2 * columns + column);
      add_to(sum, piece);
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
    T* row = out + (size_t)index * columns + column;
    add_to(sum, load_pack<VECTORS>(row));
    write(row, sum);
  }
}
