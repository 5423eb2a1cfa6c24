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
// See LeftRows.
template <int D> constexpr bool HELD = D <= 64 && !IN_WARPGROUPS<D>;
template <int D> constexpr bool HELD_KEYS = D <= 32;
// Blocks at once on a multiprocessor: 168 registers a thread where there are three, 128 where four.
template <int D, bool DROPS> constexpr int KEYS_BLOCKS = D <= 64 && !(IN_WARPGROUPS<D> && DROPS) ? 3 : 2;
template <int D, bool DROPS> constexpr int QUERIES_BLOCKS = D > 64 ? 2 : IN_WARPGROUPS<D> && !DROPS ? 4 : 3;

// delta of 16 rows of g and out, from `row` on, by a warp: that of row lane / 2.
template <class T, int D, int ROWS>
__device__ __forceinline__ float row_product(Tile<T, D, ROWS> g, Tile<T, D, ROWS> out, int row) {
  constexpr int CHUNKS = D / 8, HALF = CHUNKS < 8 ? CHUNKS / 2 : 4;  // of a panel for either lane: no bank twice
  const int lane = threadIdx.x % 32;
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < CHUNKS / 2; i++) {
    const int c = i / HALF * 2 * HALF + lane % 2 * HALF + i % HALF;
    const Vector<T> a = load_vector(g.chunk(row + lane / 2, c)), b = load_vector(out.chunk(row + lane / 2, c));
#pragma unroll
    for (int e = 0; e < 8; e++) sum += a[e] * b[e];
  }
  return sum + __shfl_xor_sync(ALL_LANES, sum, 1);
}

// Besides gq, delta (B, H, padded) for attention_backward_keys: the rows are here anyway. padded is T rounded up to a
// multiple of OWN, log_sum (B, H, padded) is forward's. Without gq that is all.
template <class T, int D, bool DROPS>
__global__ void __launch_bounds__(THREADS, QUERIES_BLOCKS<D, DROPS>)
    attention_backward_queries(T* __restrict__ gq, float* __restrict__ delta, const T* __restrict__ q,
                               const T* __restrict__ k, const T* __restrict__ v, const T* __restrict__ g,
                               const T* __restrict__ out, const float* __restrict__ log_sum, int padded,
                               DROPOUT_PARAMETERS, PROBLEM_PARAMETERS) {
  const Problem problem = PROBLEM;
  const Dropout<DROPS> dropout = DROPOUT;
  constexpr int STEP = ::STEP<D>, TOGETHER = ::TOGETHER<D>;
  typedef Tile<T, D, OWN> Own;
  typedef Tile<T, D, STEP> Step;
  const int tiles = (queries + OWN - 1) / OWN, head_index = blockIdx.x / tiles;
  const int b = head_index / heads, h = head_index % heads;
  const int t0 = (tiles - 1 - blockIdx.x % tiles) * OWN;  // causal: the longest first
  q += problem.q.at(b, h);
  g += problem.out.at(b, h);
  out += problem.out.at(b, h);
  k += problem.k.at(b, h / group);
  v += problem.k.at(b, h / group);

  DYNAMIC_SHARED(T, shared);  // queries | g | 2 x (keys | values), out in place of the second of them at first
  const Own q_tile{shared}, g_tile{shared + Own::SIZE};
  T* const steps_data = shared + 2 * Own::SIZE;
  const int first = problem.first_key(t0) / STEP * STEP, end = problem.end_key(min(t0 + OWN, queries) - 1);
  static_assert(2 * STEP >= OWN, "out lies where a step's keys and values do");
  const auto k_tile = [&](int s0) { return Step{steps_data + (s0 - first) / STEP % 2 * 2 * Step::SIZE}; };
  const auto v_tile = [&](int s0) { return Step{k_tile(s0).data + Step::SIZE}; };
  const Own out_tile{k_tile(first + STEP).data};
  const auto load_keys = [&](int s0) {
    k_tile(s0).template load<THREADS>(k, k_row, s0, keys, d, problem.aligned);
    v_tile(s0).template load<THREADS>(v, k_row, s0, keys, d, problem.aligned);
  };
  q_tile.template load<THREADS>(q, q_row, t0, queries, d, problem.aligned);
  g_tile.template load<THREADS>(g, out_row, t0, queries, d, problem.aligned);
  out_tile.template load<THREADS>(out, out_row, t0, queries, d, problem.aligned);
  cp_async_commit();
  if (first < end) load_keys(first);
  cp_async_commit();
  const int warp = warp_of_block(), lane = threadIdx.x % 32, own = warp * 16;  // the warp's first query in the tile
  const int together = own / TOGETHER * TOGETHER;
  const i64 first_row = (i64)head_index * padded + t0 + own;
  const float own_log_sum[2] = {log_sum[first_row + lane / 4], log_sum[first_row + lane / 4 + 8]};
  cp_async_wait<1>();
  __syncthreads();

  const float row_delta = row_product(g_tile, out_tile, own);
  if (lane % 2 == 0) delta[first_row + lane / 2] = row_delta;
  if (gq == nullptr) return;  // the whole grid
  float own_delta[2];
#pragma unroll
  for (int i = 0; i < 2; i++) own_delta[i] = __shfl_sync(ALL_LANES, row_delta, lane / 4 * 2 + 16 * i);

  const LeftRows<T, D, OWN, 1, HELD<D>> q_rows(q_tile, own), g_rows(g_tile, own);
  const float scale_log2 = scale * LOG2_E;
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
        p[0][n][e] = exp2_approx(fmaf(p[0][n][e], scale_log2, -own_log_sum[e / 2]));
      }
    // Waited for in two branches: in one line of code ptxas 13.0 moves the wait in front of the exps, which nothing
    // then runs beside. What a hidden key brings is hidden, too: it may be infinite, and p's 0 times that is NaN.
    if (problem.all_seen(t0 + own, 16, s0, STEP)) {
      products_wait<D, 0>(ds);
    } else {
      products_wait<D, 0>(ds);
      Seen seen[1][2];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int query = t0 + own + 8 * i + lane / 4;
        seen[0][i] = {problem.first_key(query) - s0, problem.end_key(query) - s0};
      }
      hide(p, seen, 0.f);
      hide(ds, seen, 0.f);
    }
    const u64 element = ((u64)head_index * queries + t0 + own) * keys + s0;
    const u32 kept = kept_weights<false, STEP / 8>(dropout, element, keys);
#pragma unroll
    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const float through = is_kept(kept, n, e) ? ds[0][n][e] * dropout.scale() : 0.f;
        ds[0][n][e] = p[0][n][e] * (through - own_delta[e / 2]);
      }
    multiply_weights(sums, Weights<T, D, 1, STEP / 8>(ds), k_tile(s0));
    products_wait<D, 0>(sums);
  }
  const float factor[1][2] = {{scale, scale}};
  sums_to_tile(q_tile, own, sums, factor);
  gq += problem.q.at(b, h);
  q_tile.store(gq + (t0 + own) * q_row, q_row, own, min(16, queries - t0 - own), d, problem.aligned);
}

template <class T, int D, bool DROPS>
__global__ void __launch_bounds__(THREADS, KEYS_BLOCKS<D, DROPS>)
    attention_backward_keys(T* __restrict__ gk, T* __restrict__ gv, const T* __restrict__ q, const T* __restrict__ k,
                            const T* __restrict__ v, const T* __restrict__ g, const float* __restrict__ log_sum,
                            const float* __restrict__ delta, int padded, DROPOUT_PARAMETERS, PROBLEM_PARAMETERS) {
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
  const int steps = end > first ? group * ((end - first + STEP - 1) / STEP) : 0;
  struct Queries {
    int head, first;
  };
  const auto after = [&](Queries at) {
    return at.first + STEP < end ? Queries{at.head, at.first + STEP} : Queries{at.head + 1, first};
  };
  const auto q_tile = [&](int step) { return Step{steps_data + step % 2 * Step::SIZE}; };
  const auto g_tile = [&](int step) { return Step{steps_data + (2 + step % 2) * Step::SIZE}; };
  const auto load_queries = [&](int step, Queries at) {
    const auto [h, t0] = at;
    q_tile(step).template load<THREADS>(q + problem.q.at(b, h), q_row, t0, queries, d, problem.aligned);
    g_tile(step).template load<THREADS>(g + problem.out.at(b, h), out_row, t0, queries, d, problem.aligned);
    const int i = 4 * threadIdx.x;
    if (i < STEP) {
      const i64 row = ((i64)b * heads + h) * padded + t0 + i;
      cp_async16(&numbers[step % 2][0][i], log_sum + row);
      cp_async16(&numbers[step % 2][1][i], delta + row);
    }
  };
  k_tile.template load<THREADS>(k, k_row, s0, keys, d, problem.aligned);
  v_tile.template load<THREADS>(v, k_row, s0, keys, d, problem.aligned);
  cp_async_commit();
  Queries at{key_head * group, first};
  if (steps > 0) load_queries(0, at);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();

  // With dropout and D = 128 there are no registers left for what is computed once for the warp.
  const int warp = D == 128 && DROPS ? threadIdx.x / 32 : warp_of_block(), lane = threadIdx.x % 32;
  const int own = warp * 16;  // the warp's first key in the tile
  const int together = own / TOGETHER * TOGETHER;
  const LeftRows<T, D, OWN, 1, HELD_KEYS<D>> k_rows(k_tile, own);
  const LeftRows<T, D, OWN, 1, HELD_KEYS<D>> v_rows(v_tile, own);
  const float scale_log2 = scale * LOG2_E;
  Sums<1, D / 8> gk_sums = {}, gv_sums = {};
  const auto hide_unseen = [&](Sums<1, STEP / 8>& c, int t0) {
    Seen seen[1][2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int key = s0 + own + 8 * i + lane / 4;
      seen[0][i] = {problem.first_query(key) - t0, problem.end_query(key) - t0};
    }
    hide(c, seen, 0.f);
  };
  for (int step = 0; step < steps; step++, at = after(at)) {
    cp_async_wait<0>();
    publish<D>();
    __syncthreads();  // this step's rows have arrived for all, and the other buffers are read no more
    if (step + 1 < steps) load_queries(step + 1, after(at));
    cp_async_commit();
    const auto [h, t0] = at;
    if (!problem.some_seen(t0, STEP, s0 + together, TOGETHER)) continue;
    // Transposed, keys as rows: then p^T and ds^T are left operands of the next products as they are.
    // Which weights are kept; for D = 128 before the products, whose sums leave no registers for it.
    const u64 element = (((u64)b * heads + h) * queries + t0) * keys + s0 + own;
    u32 kept = D < 128 ? 0 : kept_weights<true, STEP / 8>(dropout, element, keys);
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
    // A branch between the exps and the wait: see attention_backward_queries. Two waits would need too many registers.
    const bool all_seen = problem.all_seen(t0, STEP, s0 + own, 16);
    if (!all_seen) hide_unseen(p, t0);
    products_wait<D, 0>(ds);
    if (D < 128) kept = kept_weights<true, STEP / 8>(dropout, element, keys);
#pragma unroll
    for (int n = 0; n < STEP / 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int i = 8 * n + lane % 4 * 2 + e % 2;
        const bool keeps = is_kept(kept, n, e);
        ds[0][n][e] = p[0][n][e] * ((keeps ? ds[0][n][e] * dropout.scale() : 0.f) - numbers[step % 2][1][i]);
        if (!keeps) p[0][n][e] = 0.f;
      }
    if (!all_seen) hide_unseen(ds, t0);  // 0 times what a hidden key brings may be NaN
    multiply_weights(gv_sums, Weights<T, D, 1, STEP / 8>(p), g_tile(step));
    multiply_weights(gk_sums, Weights<T, D, 1, STEP / 8>(ds), q_tile(step));
    products_wait<D, 0>(gv_sums);
    products_wait<D, 0>(gk_sums);
  }

  const int count = min(16, keys - s0 - own);
  const float gk_factor[1][2] = {{scale, scale}}, gv_factor[1][2] = {{dropout.scale(), dropout.scale()}};
  sums_to_tile(k_tile, own, gk_sums, gk_factor);
  sums_to_tile(v_tile, own, gv_sums, gv_factor);
  k_tile.store(gk + (s0 + own) * k_row, k_row, own, count, d, problem.aligned);
  v_tile.store(gv + (s0 + own) * k_row, k_row, own, count, d, problem.aligned);
}
