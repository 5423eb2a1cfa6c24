// Attention forward on the tensor cores: out = softmax(scale q k^T) v, without the matrix of scores in memory.
//
// FlashAttention-2 (Dao 2023, arXiv:2307.08691): a block owns a tile of queries and walks over the keys that they see,
// a tile of keys and values at a time. A row's largest score so far is taken off before exp; where a tile brings a
// larger one, what has been summed is scaled down (Milakov & Gimelshein 2018, arXiv:1805.02867). Of each row of scores
// one number is kept, from which backward makes the probabilities again. Traffic is then q and out once, keys and
// values once for each tile of queries, mostly from the second cache: the tiles of one head are neighbours in the grid.
//
// The next keys and values arrive while the present ones are worked on: two buffers, one barrier for each tile of keys.
#include "attention_problem.cuh"
#include "attention_tile.cuh"

constexpr int KEYS = 64;
// Of 16 queries a warp. Two use each key that is read from shared memory twice; for D = 128 they would need more than
// 255 registers.
template <int D> constexpr int ROW_TILES = D <= 64 ? 2 : 1;

// A row's softmax as far as it has come. Each of the 4 lanes that share a row sums its own columns.
struct Running {
  float top = -INFINITY, total = 0.f;
};

// One more tile of scores: they become exp(score - top), and what was summed before is brought to the same top. In base
// 2: the factor log2(e) is part of the scale.
template <int M, int N, int COLUMNS>
__device__ __forceinline__ void softmax_step(Sums<M, N>& s, Sums<M, COLUMNS>& out, Running (&running)[M][2],
                                             float scale_log2) {
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int half_rows = 0; half_rows < 2; half_rows++) {
      Running& row = running[m][half_rows];
      const float before = row.top;
#pragma unroll
      for (int n = 0; n < N; n++) row.top = fmaxf(row.top, fmaxf(s[m][n][2 * half_rows], s[m][n][2 * half_rows + 1]));
      row.top = fmaxf(row.top, __shfl_xor_sync(ALL_LANES, row.top, 1));
      row.top = fmaxf(row.top, __shfl_xor_sync(ALL_LANES, row.top, 2));
      // Nothing seen so far: -infinity - -infinity would be NaN.
      const float base = row.top == -INFINITY ? 0.f : row.top * scale_log2;
      const float factor = exp2_approx(before * scale_log2 - base);
      row.total *= factor;
#pragma unroll
      for (int n = 0; n < COLUMNS; n++) {
        out[m][n][2 * half_rows] *= factor;
        out[m][n][2 * half_rows + 1] *= factor;
      }
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 2 * half_rows; e < 2 * half_rows + 2; e++) {
          s[m][n][e] = exp2_approx(fmaf(s[m][n][e], scale_log2, -base));
          row.total += s[m][n][e];
        }
    }
}

// log_sum (B, H, T): of each row log2 of the sum of 2^(scaled score), so that a probability is 2^(scaled score -
// log_sum); infinity where a query sees no key, so that its probabilities are 0. Near 8,000 it is rounded by 2^-12,
// which changes a probability no more than rounding it to T. Grid: tiles of queries fastest, then heads, then batch
// entries.
template <class T, int D>
__global__ void __launch_bounds__(THREADS)
    attention_forward(T* __restrict__ out, float* __restrict__ log_sum, const T* __restrict__ q,
                      const T* __restrict__ k, const T* __restrict__ v, PROBLEM_PARAMETERS) {
  constexpr int M = ROW_TILES<D>, QUERIES = 64 * M;
  const Problem problem = PROBLEM;
  const int tiles = (queries + QUERIES - 1) / QUERIES, head_index = blockIdx.x / tiles;
  const int b = head_index / heads, h = head_index % heads;
  const int t0 = (tiles - 1 - blockIdx.x % tiles) * QUERIES;  // causal: the longest first, none is left at the end
  q += problem.q.at(b, h);
  k += problem.k.at(b, h / group);
  v += problem.k.at(b, h / group);
  out += problem.out.at(b, h);

  DYNAMIC_SHARED(T, shared);  // queries | 2 x keys | 2 x values
  const Tile<T, D> q_tile{shared};
  const Tile<T, D> k_tiles{shared + QUERIES * D}, v_tiles{k_tiles.data + 2 * KEYS * D};
  const int first = problem.first_key(t0) / KEYS * KEYS, end = problem.end_key(min(t0 + QUERIES, queries) - 1);
  const auto k_tile = [&](int s0) { return Tile<T, D>{k_tiles.data + s0 / KEYS % 2 * KEYS * D}; };
  const auto v_tile = [&](int s0) { return Tile<T, D>{v_tiles.data + s0 / KEYS % 2 * KEYS * D}; };
  const auto load_keys = [&](int s0) {
    k_tile(s0).template load<KEYS>(k, k_row, s0, keys, d, problem.aligned);
    v_tile(s0).template load<KEYS>(v, k_row, s0, keys, d, problem.aligned);
  };
  q_tile.template load<QUERIES>(q, q_row, t0, queries, d, problem.aligned);
  cp_async_commit();
  if (first < end) load_keys(first);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = warp * 16 * M;  // the warp's first row in the tile
  LeftRows<T, D, M, true> q_rows(q_tile, row);
  // exp needs the largest score, which is the smallest q k^T where the scale is negative: then -q stands for q. A scale
  // of 0 becomes a tiny one, for a hidden key's -infinity times 0 would be NaN.
  if (scale < 0.f) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int kk = 0; kk < D / 16; kk++)
#pragma unroll
        for (int i = 0; i < 4; i++) q_rows.held[m][kk][i] ^= 0x80008000u;
  }
  const float scale_log2 = fmaxf(fabsf(scale), 1e-30f) * LOG2_E;
  Sums<M, D / 8> sums = {};
  Running running[M][2];

  for (int s0 = first; s0 < end; s0 += KEYS) {
    cp_async_wait<0>();
    __syncthreads();  // this tile has arrived for all, and the other buffer is read no more
    if (s0 + KEYS < end) load_keys(s0 + KEYS);
    cp_async_commit();
    if (!problem.some_seen(t0 + row, 16 * M, s0, KEYS)) continue;
    Sums<M, KEYS / 8> s = {};
    multiply_transposed(s, q_rows, k_tile(s0));
    if (!problem.all_seen(t0 + row, 16 * M, s0, KEYS)) {
      Seen seen[M][2];
#pragma unroll
      for (int i = 0; i < 2 * M; i++) {
        const int query = t0 + row + 8 * i + lane / 4;
        seen[i / 2][i % 2] = {problem.first_key(query) - s0, problem.end_key(query) - s0};
      }
      hide(s, seen, -INFINITY);
    }
    softmax_step(s, sums, running, scale_log2);
    multiply_sums(sums, s, v_tile(s0));
  }

  float share[M][2];
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int half_rows = 0; half_rows < 2; half_rows++) {
      Running& r = running[m][half_rows];
      r.total += __shfl_xor_sync(ALL_LANES, r.total, 1);
      r.total += __shfl_xor_sync(ALL_LANES, r.total, 2);
      const int query = t0 + row + 16 * m + 8 * half_rows + lane / 4;
      const bool sees_any = problem.sees_any(query);
      share[m][half_rows] = sees_any ? 1.f / r.total : 0.f;
      if (!sees_any) {  // not times 0: a value of infinity in the same tile has made it NaN
#pragma unroll
        for (int n = 0; n < D / 8; n++) sums[m][n][2 * half_rows] = sums[m][n][2 * half_rows + 1] = 0.f;
      }
      if (lane % 4 == 0 && query < queries) {
        log_sum[(i64)head_index * queries + query] = sees_any ? r.top * scale_log2 + log2f(r.total) : INFINITY;
      }
    }
  sums_to_tile(q_tile, row, sums, share);  // through shared memory, so that whole rows are written, 16 bytes a lane
  const int count = min(16 * M, queries - t0 - row);
  q_tile.store(out + (t0 + row) * out_row, out_row, row, count, d, problem.aligned);
}
