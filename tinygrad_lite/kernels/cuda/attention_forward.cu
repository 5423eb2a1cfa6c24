// Attention forward on the tensor cores: out = softmax(scale q k^T) v, without the matrix of scores in memory.
//
// FlashAttention-2 (Dao 2023, arXiv:2307.08691): a block owns a tile of queries and walks over the keys that they see,
// a tile of keys and values at a time. A row's largest score so far is taken off before exp; where a tile brings a
// larger one, what has been summed is scaled down (Milakov & Gimelshein 2018, arXiv:1805.02867). Of each row of scores
// one number is kept, from which backward makes the probabilities again. Traffic is then q and out once, keys and
// values once for each tile of queries, mostly from the second cache: the tiles of one head are neighbours in the grid.
//
// DROPS: weights are dropped (attention_dropout.cuh) on their way to the product with v, after the row's sum has them.
//
// The next keys and values arrive while the present ones are worked on: one barrier for each stage of them.
// And while a tile's weights multiply its values on the tensor cores, the next tile's scores become weights (Shah et
// al. 2024, "FlashAttention-3", arXiv:2407.08608); that takes products in the background, which are wgmma's only.
#include "attention_dropout.cuh"
#include "attention_problem.cuh"
#include "attention_tile.cuh"

constexpr int KEYS = 64;
// Tiles of keys from one barrier to the next. A warpgroup works on a tile for so short a time that two at once are
// worth their shared memory: half the waiting for the other warpgroup, half the arithmetic of addresses. Values are
// needed a tile later than keys. Where two tiles come at once, the next ones of both arrive while the last of the values
// before are still in use, in the third of three buffers.
template <int D> constexpr int STAGE = IN_WARPGROUPS<D> ? 2 : 1;
template <int D> constexpr bool VALUES_WITH_KEYS = STAGE<D> > 1;
// Of 16 queries a warp. Two use each key that is read from shared memory twice; for D = 128, or with dropout for D =
// 64, they would need more than 255 registers. A warpgroup reads each key for 64 queries anyway.
template <int D, bool DROPS> constexpr int ROW_TILES = IN_WARPGROUPS<D> || D > (DROPS ? 32 : 64) ? 1 : 2;
template <int D> constexpr int THREADS = IN_WARPGROUPS<D> ? 256 : 128;
// At once on a multiprocessor: two have 128 registers a thread.
template <int D, bool DROPS> constexpr int BLOCKS = IN_WARPGROUPS<D> && D == 64 && !DROPS ? 2 : 1;

// A row's softmax as far as it has come. Each of the 4 lanes that share a row sums its own columns. top is a score that
// no other exceeds by more than SLACK, in base 2.
struct Running {
  float top = -INFINITY, total = 0.f;
};
// The largest score is taken off so that exp does not overflow, and 2^8 is as far from that as 1: as long as no score
// is that much larger, the top stays and what has been summed with it (Zadouri et al. 2026, "FlashAttention-4").
constexpr float SLACK = 8.f;

// One more tile of scores: they become exp(score - top). Returns by what factor a row's earlier sums are brought to a
// new top. In base 2: the factor log2(e) is part of the scale.
template <int M, int N>
__device__ __forceinline__ void softmax_step(Sums<M, N>& s, Running (&running)[M][2], float (&factor)[M][2],
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
      if ((row.top - before) * scale_log2 <= SLACK) row.top = before;  // not where both are -infinity: NaN
      // Nothing seen so far: -infinity - -infinity would be NaN. Products rounded by themselves: as part of an FMA the
      // same top before and now would not give a factor of 1, each tile a little less or more.
      const float base = row.top == -INFINITY ? 0.f : __fmul_rn(row.top, scale_log2);
      factor[m][half_rows] = exp2_approx(__fmul_rn(before, scale_log2) - base);
      row.total *= factor[m][half_rows];
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 2 * half_rows; e < 2 * half_rows + 2; e++) {
          s[m][n][e] = exp2_approx(fmaf(s[m][n][e], scale_log2, -base));
          row.total += s[m][n][e];
        }
    }
}

// What has been summed, times a factor for each row. Mostly no row's largest score has changed, and all are 1.
template <int M, int COLUMNS>
__device__ __forceinline__ void rescale(Sums<M, COLUMNS>& sums, const float (&factor)[M][2]) {
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int n = 0; n < COLUMNS; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[m][n][e] *= factor[m][e / 2];
}
template <int M> __device__ __forceinline__ bool is_one(const float (&factor)[M][2]) {
  bool is_one = true;
#pragma unroll
  for (int m = 0; m < M; m++) is_one = is_one && factor[m][0] == 1.f && factor[m][1] == 1.f;
  return __all_sync(ALL_LANES, is_one);
}

// log_sum (B, H, padded), padded being T rounded up to whole blocks of backward: of each row log2 of the sum of
// 2^(scaled score), so that a probability is 2^(scaled score - log_sum); infinity beyond T and where a query sees no key,
// so that its probabilities are 0. Near 8,000 it is rounded by 2^-12, which changes a probability no more than rounding
// it to T. Grid: tiles of queries fastest, then heads, then batch entries.
template <class T, int D, bool DROPS>
__global__ void __launch_bounds__(THREADS<D>, BLOCKS<D, DROPS>)
    attention_forward(T* __restrict__ out, float* __restrict__ log_sum, const T* __restrict__ q,
                      const T* __restrict__ k, const T* __restrict__ v, int padded, DROPOUT_PARAMETERS,
                      PROBLEM_PARAMETERS) {
  constexpr int M = ROW_TILES<D, DROPS>, QUERIES = THREADS<D> / 2 * M;
  const Problem problem = PROBLEM;
  const Dropout<DROPS> dropout = DROPOUT;
  const int tiles = (queries + QUERIES - 1) / QUERIES, head_index = blockIdx.x / tiles;
  const int b = head_index / heads, h = head_index % heads;
  const int t0 = (tiles - 1 - blockIdx.x % tiles) * QUERIES;  // causal: the longest first, none is left at the end
  q += problem.q.at(b, h);
  k += problem.k.at(b, h / group);
  v += problem.k.at(b, h / group);
  out += problem.out.at(b, h);

  DYNAMIC_SHARED(T, shared);  // queries | 2 stages of keys | 2 or 3 of values
  constexpr int STAGE_KEYS = STAGE<D> * KEYS;
  typedef Tile<T, D, STAGE_KEYS> Keys;
  const Tile<T, D, QUERIES> q_tile{shared};
  T* const k_tiles = shared + q_tile.SIZE;
  const int first = problem.first_key(t0) / STAGE_KEYS * STAGE<D>;  // in tiles of keys
  const int end = (problem.end_key(min(t0 + QUERIES, queries) - 1) + KEYS - 1) / KEYS;
  const auto k_tile = [&](int i) { return Keys{k_tiles + i / STAGE<D> % 2 * Keys::SIZE}; };
  const auto v_tile = [&](int i) { return Keys{k_tiles + (2 + i / STAGE<D> % (2 + VALUES_WITH_KEYS<D>)) * Keys::SIZE}; };
  const auto load = [&](const Keys& tile, const T* from, int i) {
    if (i < end) tile.template load<THREADS<D>>(from, k_row, i * KEYS, keys, d, problem.aligned);
  };
  q_tile.template load<THREADS<D>>(q, q_row, t0, queries, d, problem.aligned);
  cp_async_commit();
  load(k_tile(first), k, first);
  if (VALUES_WITH_KEYS<D>) load(v_tile(first), v, first);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();

  // exp needs the largest score, which is the smallest q k^T where the scale is negative: then -q stands for q. A scale
  // of 0 becomes a tiny one, for a hidden key's -infinity times 0 would be NaN.
  if (scale < 0.f) {
    u32* const pairs = reinterpret_cast<u32*>(q_tile.data);
    for (int i = threadIdx.x; i < q_tile.SIZE / 2; i += THREADS<D>) pairs[i] ^= 0x80008000u;
    __syncthreads();
  }
  const int warp = warp_of_block(), lane = threadIdx.x % 32, row = warp * 16 * M;  // the warp's first row in the tile
  constexpr int ROWS = IN_WARPGROUPS<D> ? 64 : 16 * M;  // that are multiplied together
  const int first_row = row / ROWS * ROWS;
  const LeftRows<T, D, QUERIES, M, !IN_WARPGROUPS<D>> q_rows(q_tile, row);
  const float scale_log2 = fmaxf(fabsf(scale), 1e-30f) * LOG2_E;
  Sums<M, D / 8> sums = {};
  Running running[M][2];

  Sums<M, KEYS / 8> s;
  float factor[M][2];
  // Of the tiles of keys first to end, those from which these rows see some.
  const int own_first = problem.first_key(t0 + first_row) / KEYS;
  const int own_end = min(end, (problem.end_key(min(t0 + first_row + ROWS, queries) - 1) + KEYS - 1) / KEYS);
  const auto hide_unseen = [&](int i) {
    if (problem.all_seen(t0 + row, 16 * M, i * KEYS, KEYS)) return;
    Seen seen[M][2];
#pragma unroll
    for (int r = 0; r < 2 * M; r++) {
      const int query = t0 + row + 8 * r + lane / 4;
      seen[r / 2][r % 2] = {problem.first_key(query) - i * KEYS, problem.end_key(query) - i * KEYS};
    }
    hide(s, seen, -INFINITY);
  };
  const auto drop = [&](int i) {
    if (!DROPS) return;
#pragma unroll
    for (int m = 0; m < M; m++) {
      const u64 element = ((u64)head_index * queries + t0 + row + 16 * m) * keys + i * KEYS;
      const u32 kept = kept_weights<false, KEYS / 8>(dropout, element, keys);
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) s[m][n][e] = is_kept(kept, n, e) ? s[m][n][e] : 0.f;
    }
  };
  // Weights of tile i, while those of the tile before multiply their values.
  const auto take = [&](int i) {
    if (i < own_first || i > own_end) return;
    if (i == own_first) {
      multiply_transposed(s, q_rows, k_tile(i), i % STAGE<D> * KEYS);
      products_wait<D, 0>(s);
      hide_unseen(i);
      softmax_step(s, running, factor, scale_log2);
      drop(i);
      return;
    }
    const Weights<T, D, M, KEYS / 8> weights(s);
    if (i == own_end) {
      multiply_weights(sums, weights, v_tile(i - 1), (i - 1) % STAGE<D> * KEYS);
      products_wait<D, 0>(sums);
      return;
    }
    if (!IN_WARPGROUPS<D>) multiply_weights(sums, weights, v_tile(i - 1), (i - 1) % STAGE<D> * KEYS);
    multiply_transposed(s, q_rows, k_tile(i), i % STAGE<D> * KEYS);
    if (IN_WARPGROUPS<D>) multiply_weights(sums, weights, v_tile(i - 1), (i - 1) % STAGE<D> * KEYS);
    products_wait<D, 1>(s);
    hide_unseen(i);
    softmax_step(s, running, factor, scale_log2);
    drop(i);
    // Waited for in two branches: in one line of code ptxas 13.0 moves the wait in front of the exps, which nothing
    // then runs beside.
    if (is_one(factor)) {
      products_wait<D, 0>(sums);
    } else {
      products_wait<D, 0>(sums);
      rescale(sums, factor);
    }
  };
  for (int stage = first; stage < end; stage += STAGE<D>) {
    cp_async_wait<0>();
    publish<D>();
    __syncthreads();  // these keys, and the last tile's values, have arrived for all; other buffers are read no more
    load(k_tile(stage + STAGE<D>), k, stage + STAGE<D>);
    const int of_values = VALUES_WITH_KEYS<D> ? stage + STAGE<D> : stage;
    load(v_tile(of_values), v, of_values);
    cp_async_commit();
#pragma unroll 1
    for (int i = stage; i < min(stage + STAGE<D>, end); i++) take(i);
  }
  cp_async_wait<0>();
  publish<D>();
  __syncthreads();
  if (own_first < own_end && own_end == end) {
    multiply_weights(sums, Weights<T, D, M, KEYS / 8>(s), v_tile(end - 1), (end - 1) % STAGE<D> * KEYS);
    products_wait<D, 0>(sums);
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
      share[m][half_rows] = sees_any ? dropout.scale() / r.total : 0.f;
      if (!sees_any) {  // not times 0: a value of infinity in the same tile has made it NaN
#pragma unroll
        for (int n = 0; n < D / 8; n++) sums[m][n][2 * half_rows] = sums[m][n][2 * half_rows + 1] = 0.f;
      }
      if (lane % 4 == 0 && query < padded) {
        const bool is_real = sees_any && query < queries;
        log_sum[(i64)head_index * padded + query] = is_real ? r.top * scale_log2 + log2f(r.total) : INFINITY;
      }
    }
  sums_to_tile(q_tile, row, sums, share);  // through shared memory, so that whole rows are written, 16 bytes a lane
  const int count = min(16 * M, queries - t0 - row);
  q_tile.store(out + (t0 + row) * out_row, out_row, row, count, d, problem.aligned);
}
