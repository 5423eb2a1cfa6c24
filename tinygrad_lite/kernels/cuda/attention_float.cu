// Attention in float32, without tensor cores: to check the fast kernels against, and for small models. The formulas are
// those of attention_forward.cu and attention_backward.cu.
//
// Each warp owns one row, and its block walks over the other side 32 rows at a time, which all its warps read from
// shared memory. A lane first takes one of the 32 rows, for a score, and then columns lane, lane + 32 ... of the sums.
#include "attention_dropout.cuh"
#include "attention_problem.cuh"
#include "reduce.cuh"

constexpr int WARPS = 8, ROWS = 32, D_MAX = 128, COLUMNS = D_MAX / 32;

struct RowTile {
  float at[ROWS][D_MAX + 1];  // 129: 32 lanes that read a column of 32 rows then meet 32 banks

  // Rows first to first + 32 of `rows`, by the whole block; zeros beyond them.
  __device__ void load(const float* from, i64 stride, int first, int rows, int d) {
    for (int i = threadIdx.x; i < ROWS * d; i += 32 * WARPS) {
      at[i / d][i % d] = first + i / d < rows ? from[(first + i / d) * stride + i % d] : 0.f;
    }
  }
  __device__ float dot(const float* row, int d) const {  // with the lane's row
    float sum = 0.f;
    for (int i = 0; i < d; i++) sum += row[i] * at[threadIdx.x % 32][i];
    return sum;
  }
  // sums += weights (32) at, in the lane's columns.
  __device__ void add_weighted(float (&sums)[COLUMNS], const float* weights, int d) const {
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
      for (int j = 0; j < COLUMNS; j++) {
        const int column = threadIdx.x % 32 + 32 * j;
        if (column < d) sums[j] += weights[r] * at[r][column];
      }
    }
  }
};

// The lane's columns of a row to memory.
__device__ void write_row(float* to, const float (&sums)[COLUMNS], float factor, int d) {
#pragma unroll
  for (int j = 0; j < COLUMNS; j++) {
    const int column = threadIdx.x % 32 + 32 * j;
    if (column < d) to[column] = sums[j] * factor;
  }
}

// A row for the warp that owns it; zeros where there is none.
__device__ void read_row(float* to, const float* from, bool exists, int d) {
  for (int i = threadIdx.x % 32; i < d; i += 32) to[i] = exists ? from[i] : 0.f;
}

// stats (B, H, T, 2): of each row of scores the largest, and 1 / sum of exp(score - largest). One rounded log of the
// sum would be off by 1e-3 where scores are near 10,000.
template <bool DROPS>
__global__ void __launch_bounds__(32 * WARPS)
    attention_float_forward(float* __restrict__ out, float* __restrict__ stats, const float* __restrict__ q,
                            const float* __restrict__ k, const float* __restrict__ v, DROPOUT_PARAMETERS,
                            PROBLEM_PARAMETERS) {
  __shared__ RowTile k_tile, v_tile;
  __shared__ float q_rows[WARPS][D_MAX], weights[WARPS][ROWS];
  const Problem problem = PROBLEM;
  const Dropout<DROPS> dropout = DROPOUT;
  const int tiles = (queries + WARPS - 1) / WARPS, head_index = blockIdx.x / tiles;
  const int b = head_index / heads, h = head_index % heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int t0 = blockIdx.x % tiles * WARPS, t = t0 + warp;
  q += problem.q.at(b, h);
  k += problem.k.at(b, h / group);
  v += problem.k.at(b, h / group);
  read_row(q_rows[warp], q + t * q_row, t < queries, d);

  float top = -INFINITY, total = 0.f, sums[COLUMNS] = {};
  const int end = problem.end_key(min(t0 + WARPS, queries) - 1);
  for (int s0 = problem.first_key(t0); s0 < end; s0 += ROWS) {
    __syncthreads();  // nobody reads the tiles any more
    k_tile.load(k, k_row, s0, keys, d);
    v_tile.load(v, k_row, s0, keys, d);
    __syncthreads();
    const bool seen = s0 + lane >= problem.first_key(t) && s0 + lane < problem.end_key(t);
    const float score = seen ? scale * k_tile.dot(q_rows[warp], d) : -INFINITY, before = top;
    top = fmaxf(top, warp_max(score));
    const float base = top == -INFINITY ? 0.f : top;  // -inf - -inf would be NaN: nothing seen so far
    const float factor = expf(before - base), weight = expf(score - base);
    total = total * factor + warp_sum(weight);
    const u64 element = ((u64)head_index * queries + t) * keys + s0 + lane;
    weights[warp][lane] = weight * dropout.mask(element);
    __syncwarp(ALL_LANES);
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) sums[j] *= factor;
    v_tile.add_weighted(sums, weights[warp], d);
  }
  if (t >= queries) return;
  const bool sees_any = problem.sees_any(t);
  if (!sees_any) {  // not times 0: a value of infinity in the same tile has made it NaN
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) sums[j] = 0.f;
  }
  const float share = sees_any ? 1.f / total : 0.f;
  write_row(out + problem.out.at(b, h) + t * out_row, sums, share, d);
  if (lane == 0) {
    float* to = stats + ((i64)head_index * queries + t) * 2;
    to[0] = sees_any ? top : 0.f;
    to[1] = share;
  }
}

// p, as it met v, and ds of one query and one key, from q . k and g . v.
struct Weights {
  float p, ds;
};
__device__ Weights weights_of(float score, float gv, bool seen, float mask, float top, float share, float delta) {
  if (!seen) return {0.f, 0.f};
  const float p = expf(score - top) * share;
  return {p * mask, p * (gv * mask - delta)};
}

// delta (B, H, T) = rowsum(g out).
__global__ void __launch_bounds__(32 * WARPS)
    attention_float_delta(float* __restrict__ delta, const float* __restrict__ g, const float* __restrict__ out,
                          i64 count, PROBLEM_PARAMETERS) {
  const Problem problem = PROBLEM;
  const i64 index = (i64)blockIdx.x * WARPS + threadIdx.x / 32, head_index = index / queries;
  if (index >= count) return;  // a whole warp
  const i64 at = problem.out.at(head_index / heads, head_index % heads) + index % queries * out_row;
  float sum = 0.f;
  for (int i = threadIdx.x % 32; i < d; i += 32) sum += g[at + i] * out[at + i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) delta[index] = sum;
}

// A warp owns a key: gv = p^T g, gk = scale ds^T q, over the queries of every head that share it.
template <bool DROPS>
__global__ void __launch_bounds__(32 * WARPS)
    attention_float_backward_keys(float* __restrict__ gk, float* __restrict__ gv, const float* __restrict__ q,
                                  const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ g,
                                  const float* __restrict__ stats, const float* __restrict__ delta, DROPOUT_PARAMETERS,
                                  PROBLEM_PARAMETERS) {
  __shared__ RowTile q_tile, g_tile;
  __shared__ float k_rows[WARPS][D_MAX], v_rows[WARPS][D_MAX], p[WARPS][ROWS], ds[WARPS][ROWS];
  const Problem problem = PROBLEM;
  const Dropout<DROPS> dropout = DROPOUT;
  const int tiles = (keys + WARPS - 1) / WARPS, key_heads = heads / group;
  const int b = blockIdx.x / tiles / key_heads, key_head = blockIdx.x / tiles % key_heads;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, s0 = blockIdx.x % tiles * WARPS, s = s0 + warp;
  const i64 at = problem.k.at(b, key_head) + s * k_row;
  read_row(k_rows[warp], k + at, s < keys, d);
  read_row(v_rows[warp], v + at, s < keys, d);

  float gk_sums[COLUMNS] = {}, gv_sums[COLUMNS] = {};
  const int end = problem.end_query(min(s0 + WARPS, keys) - 1);
  for (int h = key_head * group; h < (key_head + 1) * group; h++) {
    for (int t0 = problem.first_query(s0); t0 < end; t0 += ROWS) {
      __syncthreads();  // nobody reads the tiles any more
      q_tile.load(q + problem.q.at(b, h), q_row, t0, queries, d);
      g_tile.load(g + problem.out.at(b, h), out_row, t0, queries, d);
      __syncthreads();
      const int t = t0 + lane;
      const bool seen = t >= problem.first_query(s) && t < problem.end_query(s);
      const i64 row = ((i64)b * heads + h) * queries + (seen ? t : 0);
      const float score = scale * q_tile.dot(k_rows[warp], d), mask = dropout.mask((u64)row * keys + s);
      const Weights w = weights_of(score, g_tile.dot(v_rows[warp], d), seen, mask, stats[2 * row], stats[2 * row + 1],
                                   delta[row]);
      p[warp][lane] = w.p;
      ds[warp][lane] = w.ds;
      __syncwarp(ALL_LANES);
      g_tile.add_weighted(gv_sums, p[warp], d);
      q_tile.add_weighted(gk_sums, ds[warp], d);
    }
  }
  if (s >= keys) return;
  write_row(gk + at, gk_sums, scale, d);
  write_row(gv + at, gv_sums, 1.f, d);
}

// A warp owns a query: gq = scale ds k.
template <bool DROPS>
__global__ void __launch_bounds__(32 * WARPS)
    attention_float_backward_queries(float* __restrict__ gq, const float* __restrict__ q, const float* __restrict__ k,
                                     const float* __restrict__ v, const float* __restrict__ g,
                                     const float* __restrict__ stats, const float* __restrict__ delta,
                                     DROPOUT_PARAMETERS, PROBLEM_PARAMETERS) {
  __shared__ RowTile k_tile, v_tile;
  __shared__ float q_rows[WARPS][D_MAX], g_rows[WARPS][D_MAX], ds[WARPS][ROWS];
  const Problem problem = PROBLEM;
  const Dropout<DROPS> dropout = DROPOUT;
  const int tiles = (queries + WARPS - 1) / WARPS, head_index = blockIdx.x / tiles;
  const int b = head_index / heads, h = head_index % heads, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int t0 = blockIdx.x % tiles * WARPS, t = t0 + warp;
  const i64 at = problem.q.at(b, h) + t * q_row, row = (i64)head_index * queries + min(t, queries - 1);
  k += problem.k.at(b, h / group);
  v += problem.k.at(b, h / group);
  read_row(q_rows[warp], q + at, t < queries, d);
  read_row(g_rows[warp], g + problem.out.at(b, h) + t * out_row, t < queries, d);

  float sums[COLUMNS] = {};
  const int end = problem.end_key(min(t0 + WARPS, queries) - 1);
  for (int s0 = problem.first_key(t0); s0 < end; s0 += ROWS) {
    __syncthreads();  // nobody reads the tiles any more
    k_tile.load(k, k_row, s0, keys, d);
    v_tile.load(v, k_row, s0, keys, d);
    __syncthreads();
    const bool seen = s0 + lane >= problem.first_key(t) && s0 + lane < problem.end_key(t);
    const float score = scale * k_tile.dot(q_rows[warp], d), mask = dropout.mask((u64)row * keys + s0 + lane);
    const Weights w = weights_of(score, v_tile.dot(g_rows[warp], d), seen, mask, stats[2 * row], stats[2 * row + 1],
                                 delta[row]);
    ds[warp][lane] = w.ds;
    __syncwarp(ALL_LANES);
    k_tile.add_weighted(sums, ds[warp], d);
  }
  if (t < queries) write_row(gq + at, sums, scale, d);
}
