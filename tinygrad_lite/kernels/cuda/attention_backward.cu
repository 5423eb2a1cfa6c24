// Attention backward on the tensor cores. With p = softmax(scale q k^T) and out = p v in forward,
//
//   gv = p^T g,   ds = p (g v^T - delta),   gk = scale ds^T q,   gq = scale ds k,   delta = rowsum(g out)
//
// and where forward drops weights (attention_dropout.cuh), with mask being 1 / (1 - dropped share) or 0,
//
//   gv = (p mask)^T g,   ds = p (g v^T mask - delta)
//
// p is made again from q, k and forward's one number a row (Dao 2023, arXiv:2307.08691). A block of one kernel owns
// keys and sums gk and gv over queries, a block of another owns queries and sums gq over keys. Both compute q k^T and
// g v^T, 7 products where 5 would do, but every gradient is summed by one warp in one order: no atomic additions, so
// the same bits each time, and no float32 copy of gq in memory. p and ds are rounded to T for the products, and never
// leave the registers.
#include "attention_dropout.cuh"
#include "attention_problem.cuh"
#include "attention_tile.cuh"

constexpr int OWN = 64;  // rows of a block, 16 a warp
// Rows of the other side at a time. A warpgroup's products are only 32 columns wide with fewer, and slower for it.
template <int D> constexpr int STEP = IN_WARPGROUPS<D> ? 64 : 32;
constexpr int THREADS = 128;
template <int D> constexpr int TOGETHER = IN_WARPGROUPS<D> ? 64 : 16;  // own rows that are multiplied together
constexpr int LANES = 8;  // of a warp for a row in attention_backward_rows: 128 bytes at once, a row of 64 numbers
// See LeftRows.
template <int D> constexpr bool HELD = D <= 64;
template <int D> constexpr bool HELD_KEYS = D <= (IN_WARPGROUPS<D> ? 64 : 32);
// At once on a multiprocessor: 168 or 255 registers a thread.
template <int D> constexpr int BLOCKS = D <= 64 && !IN_WARPGROUPS<D> ? 3 : 2;

// What a row of queries brings to the formulas besides q and g: log_sum, from which p = 2^(scaled score - log_sum), and
// delta. rows (B, H, 2, padded), padded being T rounded up to a multiple of OWN: a tile's numbers lie together, 16-byte
// aligned, and beyond T log_sum is infinity, which makes p and ds 0. Reads g and out once, 256 bytes for 8 written at
// D = 64; a block has 32 rows of one head.
template <class T>
__global__ void __launch_bounds__(256)
    attention_backward_rows(float* __restrict__ rows, const float* __restrict__ log_sum, const T* __restrict__ g,
                            const T* __restrict__ out, int padded, PROBLEM_PARAMETERS) {
  constexpr int ROWS = 256 / LANES;
  const Problem problem = PROBLEM;
  const int tiles = padded / ROWS, head_index = blockIdx.x / tiles;
  const int t = blockIdx.x % tiles * ROWS + threadIdx.x / LANES, lane = threadIdx.x % LANES;
  float delta = 0.f;
  if (t < queries) {
    const i64 at = problem.out.at(head_index / heads, head_index % heads) + t * out_row;
    for (int i = 8 * lane; i < d; i += 8 * LANES) {
      if (problem.aligned) {
        const Vector<T> a = load_vector(g + at + i), b = load_vector_once(out + at + i);  // g is wanted again
#pragma unroll
        for (int e = 0; e < 8; e++) delta += a[e] * b[e];
      } else {
        for (int e = i; e < min(i + 8, d); e++) delta += to_float(g[at + e]) * to_float(out[at + e]);
      }
    }
  }
#pragma unroll
  for (int offset = LANES / 2; offset > 0; offset /= 2) delta += __shfl_xor_sync(ALL_LANES, delta, offset);
  if (lane == 0) {
    float* row = rows + (i64)head_index * 2 * padded + t;
    row[0] = t < queries ? log_sum[(i64)head_index * queries + t] : INFINITY;
    row[padded] = delta;
  }
}

template <class T, int D, bool DROPS>
__global__ void __launch_bounds__(THREADS, BLOCKS<D>)
    attention_backward_keys(T* __restrict__ gk, T* __restrict__ gv, const T* __restrict__ q, const T* __restrict__ k,
                            const T* __restrict__ v, const T* __restrict__ g, const float* __restrict__ rows,
                            int padded, DROPOUT_PARAMETERS, PROBLEM_PARAMETERS) {
  const Problem problem = PROBLEM;
  const Dropout<DROPS> dropout = DROPOUT;
  constexpr int STEP = ::STEP<D>, TOGETHER = ::TOGETHER<D>;
  typedef Tile<T, D, OWN> Own;
  typedef Tile<T, D, STEP> Step;
  const int tiles = (keys + OWN - 1) / OWN, head_index = blockIdx.x / tiles, key_heads = heads / group;
  const int b = head_index / key_heads, key_head = head_index % key_heads;
  const int s0 = blockIdx.x % tiles * OWN;  // causal: the first keys are seen by most, and come first
  k += problem.k.at(b, key_head);
  v += problem.k.at(b, key_head);
  gk += problem.k.at(b, key_head);
  gv += problem.k.at(b, key_head);

  DYNAMIC_SHARED(T, shared);  // keys | values | 2 x queries | 2 x g | 2 x log_sum and delta
  const Own k_tile{shared}, v_tile{shared + Own::SIZE};
  T* const steps_data = shared + 2 * Own::SIZE;
  const auto numbers = reinterpret_cast<float(*)[2][STEP]>(steps_data + 4 * Step::SIZE);

  // The steps of the loop: each query head of the group, and for each the tiles of queries that see these keys.
  const int first = problem.first_query(s0) / STEP * STEP, end = problem.end_query(min(s0 + OWN, keys) - 1);
  const int steps_a_head = end > first ? (end - first + STEP - 1) / STEP : 0, steps = group * steps_a_head;
  const auto q_tile = [&](int step) { return Step{steps_data + step % 2 * Step::SIZE}; };
  const auto g_tile = [&](int step) { return Step{steps_data + (2 + step % 2) * Step::SIZE}; };
  const auto load_queries = [&](int step) {
    const int h = key_head * group + step / steps_a_head, t0 = first + step % steps_a_head * STEP;
    q_tile(step).template load<THREADS>(q + problem.q.at(b, h), q_row, t0, queries, d, problem.aligned);
    g_tile(step).template load<THREADS>(g + problem.out.at(b, h), out_row, t0, queries, d, problem.aligned);
    const int i = 4 * threadIdx.x;
    if (i < STEP) {
      const float* row = rows + ((i64)b * heads + h) * 2 * padded + t0 + i;
      cp_async16(&numbers[step % 2][0][i], row);
      cp_async16(&numbers[step % 2][1][i], row + padded);
    }
  };
  k_tile.template load<THREADS>(k, k_row, s0, keys, d, problem.aligned);
  v_tile.template load<THREADS>(v, k_row, s0, keys, d, problem.aligned);
  cp_async_commit();
  if (steps > 0) load_queries(0);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, own = warp * 16;  // the warp's first key in the tile
  const int together = own / TOGETHER * TOGETHER;
  LeftRows<T, D, OWN, 1, HELD_KEYS<D>> k_rows(k_tile, own);
  LeftRows<T, D, OWN, 1, HELD_KEYS<D>> v_rows(v_tile, own);
  const float scale_log2 = scale * LOG2_E;
  const u32 zero = (u32)keys >> 31;  // as far as the compiler knows, any number
  Sums<1, D / 8> gk_sums = {}, gv_sums = {};
  for (int step = 0; step < steps; step++) {
    cp_async_wait<0>();
    publish<D>();
    __syncthreads();  // this step's rows have arrived for all, and the other buffers are read no more
    if (step + 1 < steps) load_queries(step + 1);
    cp_async_commit();
    const int t0 = first + step % steps_a_head * STEP;
    if (!problem.some_seen(t0, STEP, s0 + together, TOGETHER)) continue;
    // Transposed, keys as rows: then p^T and ds^T are left operands of the next products as they are.
    Sums<1, STEP / 8> p, ds;
    multiply_transposed(p, k_rows, q_tile(step));
    multiply_transposed(ds, v_rows, g_tile(step));
    products_wait<D, 1>(p);
#pragma unroll
    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int i = 8 * n + lane % 4 * 2 + e % 2;
        p[0][n][e] = exp2_approx(fmaf(p[0][n][e], scale_log2, -numbers[step % 2][0][i]));
      }
    products_wait<D, 0>(ds);
    const int h = key_head * group + step / steps_a_head;
    const u64 element = (((u64)b * heads + h) * queries + t0) * keys + s0 + own;
    const u32 kept = kept_weights<true, STEP / 8>(dropout, element, keys);
#pragma unroll
    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int i = 8 * n + lane % 4 * 2 + e % 2;
        const bool keeps = is_kept(kept, n, e);
        ds[0][n][e] = p[0][n][e] * ((keeps ? ds[0][n][e] * dropout.scale() : 0.f) - numbers[step % 2][1][i]);
        if (!keeps) p[0][n][e] = 0.f;
      }
    if (!problem.all_seen(t0, STEP, s0 + own, 16)) {  // last: nothing of a hidden key must be left, not even infinity
      Seen seen[1][2];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int key = s0 + own + 8 * i + lane / 4;
        seen[0][i] = {problem.first_query(key) - t0, problem.end_query(key) - t0};
      }
      hide(p, seen, 0.f);
      hide(ds, seen, 0.f);
    }
    multiply_weights(gv_sums, Weights<T, D, 1, STEP / 8>(p), g_tile(step));
    multiply_weights(gk_sums, Weights<T, D, 1, STEP / 8>(ds), q_tile(step));
    products_wait<D, 0>(gv_sums);
    products_wait<D, 0>(gk_sums);
    k_rows.keep(zero);
    v_rows.keep(zero);
  }

  const int count = min(16, keys - s0 - own);
  const float gk_factor[1][2] = {{scale, scale}}, gv_factor[1][2] = {{dropout.scale(), dropout.scale()}};
  sums_to_tile(k_tile, own, gk_sums, gk_factor);
  sums_to_tile(v_tile, own, gv_sums, gv_factor);
  k_tile.store(gk + (s0 + own) * k_row, k_row, own, count, d, problem.aligned);
  v_tile.store(gv + (s0 + own) * k_row, k_row, own, count, d, problem.aligned);
}

template <class T, int D, bool DROPS>
__global__ void __launch_bounds__(THREADS, BLOCKS<D>)
    attention_backward_queries(T* __restrict__ gq, const T* __restrict__ q, const T* __restrict__ k,
                               const T* __restrict__ v, const T* __restrict__ g, const float* __restrict__ rows,
                               int padded, DROPOUT_PARAMETERS, PROBLEM_PARAMETERS) {
  const Problem problem = PROBLEM;
  const Dropout<DROPS> dropout = DROPOUT;
  constexpr int STEP = ::STEP<D>, TOGETHER = ::TOGETHER<D>;
  typedef Tile<T, D, OWN> Own;
  typedef Tile<T, D, STEP> Step;
  const int tiles = (queries + OWN - 1) / OWN, head_index = blockIdx.x / tiles;
  const int b = head_index / heads, h = head_index % heads;
  const int t0 = (tiles - 1 - blockIdx.x % tiles) * OWN;  // causal: the longest first
  q += problem.q.at(b, h);
  gq += problem.q.at(b, h);
  g += problem.out.at(b, h);
  k += problem.k.at(b, h / group);
  v += problem.k.at(b, h / group);

  DYNAMIC_SHARED(T, shared);  // queries | g | 2 x keys | 2 x values
  const Own q_tile{shared}, g_tile{shared + Own::SIZE};
  T* const steps_data = shared + 2 * Own::SIZE;
  const int first = problem.first_key(t0) / STEP * STEP, end = problem.end_key(min(t0 + OWN, queries) - 1);
  const auto k_tile = [&](int s0) { return Step{steps_data + s0 / STEP % 2 * Step::SIZE}; };
  const auto v_tile = [&](int s0) { return Step{steps_data + (2 + s0 / STEP % 2) * Step::SIZE}; };
  const auto load_keys = [&](int s0) {
    k_tile(s0).template load<THREADS>(k, k_row, s0, keys, d, problem.aligned);
    v_tile(s0).template load<THREADS>(v, k_row, s0, keys, d, problem.aligned);
  };
  q_tile.template load<THREADS>(q, q_row, t0, queries, d, problem.aligned);
  g_tile.template load<THREADS>(g, out_row, t0, queries, d, problem.aligned);
  cp_async_commit();
  if (first < end) load_keys(first);
  cp_async_commit();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, own = warp * 16;  // the warp's first query in the tile
  const int together = own / TOGETHER * TOGETHER;
  const float* own_rows = rows + (i64)head_index * 2 * padded + t0 + own + lane / 4;
  const float log_sum[2] = {own_rows[0], own_rows[8]}, delta[2] = {own_rows[padded], own_rows[padded + 8]};
  cp_async_wait<1>();
  __syncthreads();

  LeftRows<T, D, OWN, 1, HELD<D>> q_rows(q_tile, own), g_rows(g_tile, own);
  const float scale_log2 = scale * LOG2_E;
  const u32 zero = (u32)keys >> 31;  // as far as the compiler knows, any number
  Sums<1, D / 8> sums = {};
  for (int s0 = first; s0 < end; s0 += STEP) {
    cp_async_wait<0>();
    publish<D>();
    __syncthreads();  // this step's rows have arrived for all, and the other buffers are read no more
    if (s0 + STEP < end) load_keys(s0 + STEP);
    cp_async_commit();
    if (!problem.some_seen(t0 + together, TOGETHER, s0, STEP)) continue;
    Sums<1, STEP / 8> p, ds;
    multiply_transposed(p, q_rows, k_tile(s0));
    multiply_transposed(ds, g_rows, v_tile(s0));
    products_wait<D, 1>(p);
#pragma unroll
    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        p[0][n][e] = exp2_approx(fmaf(p[0][n][e], scale_log2, -log_sum[e / 2]));
      }
    products_wait<D, 0>(ds);
    const u64 element = ((u64)head_index * queries + t0 + own) * keys + s0;
    const u32 kept = kept_weights<false, STEP / 8>(dropout, element, keys);
#pragma unroll
    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const float through = is_kept(kept, n, e) ? ds[0][n][e] * dropout.scale() : 0.f;
        ds[0][n][e] = p[0][n][e] * (through - delta[e / 2]);
      }
    if (!problem.all_seen(t0 + own, 16, s0, STEP)) {
      Seen seen[1][2];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int query = t0 + own + 8 * i + lane / 4;
        seen[0][i] = {problem.first_key(query) - s0, problem.end_key(query) - s0};
      }
      hide(ds, seen, 0.f);
    }
    multiply_weights(sums, Weights<T, D, 1, STEP / 8>(ds), k_tile(s0));
    products_wait<D, 0>(sums);
    q_rows.keep(zero);
    g_rows.keep(zero);
  }
  const float factor[1][2] = {{scale, scale}};
  sums_to_tile(q_tile, own, sums, factor);
  q_tile.store(gq + (t0 + own) * q_row, q_row, own, min(16, queries - t0 - own), d, problem.aligned);
}
