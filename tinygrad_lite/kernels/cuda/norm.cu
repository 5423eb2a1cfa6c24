// layer_norm, and rms_norm, which is layer_norm without the mean and the bias (CENTRE = false).
//
// A row belongs to a warp (WARPS = 1), a long one to a block of 8; row.cuh keeps it in registers, so x is read once.
// Bytes: forward moves x and out, backward x, g and gx; weight and bias stay in L1.
#include "columns.cuh"
#include "row.cuh"

// out = (x - mean) rstd weight + bias, rstd = 1 / sqrt(mean((x - mean)^2) + eps). The variance is a second pass over
// registers: mean(x^2) - mean(x)^2 cancels where the mean is large.
template <class T, bool CENTRE, bool VECTORS, int WARPS>
__global__ void __launch_bounds__(row_threads<WARPS>, row_blocks<T, VECTORS, WARPS>) norm_forward(
    T* __restrict__ out, float* __restrict__ saved_mean, float* __restrict__ saved_rstd, const T* __restrict__ x,
    const T* __restrict__ weight, const T* __restrict__ bias, int rows, int columns, float eps) {
  typedef Row<T, VECTORS, WARPS> Row;
  typedef typename Row::P P;
  constexpr int ROWS = row_threads<WARPS> / Row::THREADS;  // of a block
  __shared__ float scratch[WARPS];
  const int r = blockIdx.x * ROWS + threadIdx.x / Row::THREADS;
  if (r >= rows) return;  // a whole warp, and of a block that meets no barrier
  const Row row(x + (size_t)r * columns, columns);

  float mean = 0.f;
  if constexpr (CENTRE) {
    Row::each(columns, [&](int c, int turn) {
      const P v = row.pack(c, turn);
#pragma unroll
      for (int i = 0; i < Row::W; i++) mean += v[i];
    });
    mean = block_sum<WARPS>(mean, scratch) / columns;
  }
  float squares = 0.f;
  Row::each(columns, [&](int c, int turn) {
    const P v = row.pack(c, turn);
#pragma unroll
    for (int i = 0; i < Row::W; i++) squares += (v[i] - mean) * (v[i] - mean);
  });
  const float rstd = rsqrtf(block_sum<WARPS>(squares, scratch) / columns + eps);
  if (threadIdx.x % Row::THREADS == 0) {
    if (CENTRE) saved_mean[r] = mean;
    saved_rstd[r] = rstd;
  }

  T* y = out + (size_t)r * columns;
  Row::each(columns, [&](int c, int turn) {
    const P v = row.pack(c, turn), w = load_pack<VECTORS>(weight + c);
    P b, normal;
    if constexpr (CENTRE) b = load_pack<VECTORS>(bias + c);
#pragma unroll
    for (int i = 0; i < Row::W; i++) normal.set(i, (v[i] - mean) * rstd * w[i] + (CENTRE ? b[i] : 0.f));
    store_pack_once(y + c, normal);
  });
}

// forward: out = h weight + bias, h = (x - mean) rstd. With d = g weight:
//   gx = rstd (d - average(d) - h average(d h)); without centring mean = 0 and average(d) falls away
//   partial[block] = sums over the block's rows of g h, and of g where there is a bias: float32 (blocks, 2 or 1, C)
// gx or partial may be null: not wanted. Each thread keeps the sums of its columns in registers over all rows of the
// block: 64 of them for 32 columns.
//
// Two blocks of 8 warps on an SM hold 16 rows of x and g at a time, 48 KB at 768 bf16 columns: an H100 needs some 20 KB
// under way. That is 128 registers a thread; of float32, twice the bytes in twice the registers, one block is enough.
template <class T, bool CENTRE, bool VECTORS, int WARPS>
__global__ void __launch_bounds__(32 * COLUMN_WARPS, VECTORS && sizeof(T) == 2 ? 2 : 1) norm_backward(
    T* __restrict__ gx, float* __restrict__ partial, const T* __restrict__ g, const T* __restrict__ x,
    const T* __restrict__ weight, const float* __restrict__ saved_mean, const float* __restrict__ saved_rstd, int rows,
    int columns) {
  typedef Row<T, VECTORS, WARPS> Row;
  typedef typename Row::P P;
  constexpr int W = Row::W, ROWS = COLUMN_WARPS / WARPS, SUMS = CENTRE ? 2 : 1;
  __shared__ float2 scratch[WARPS];
  float gw[Row::KEPT][W] = {}, gb[Row::KEPT][W] = {};
  float* block_gw = partial + (size_t)blockIdx.x * SUMS * columns;
  float* block_gb = block_gw + columns;
  for (i64 r = (i64)blockIdx.x * ROWS + threadIdx.x / Row::THREADS; r < rows; r += (i64)gridDim.x * ROWS) {
    const Row x_row(x + r * columns, columns), g_row(g + r * columns, columns);
    const float mean = CENTRE ? saved_mean[r] : 0.f, rstd = saved_rstd[r];
    float sum_d = 0.f, sum_dh = 0.f;
    Row::each(columns, [&](int c, int turn) {
      const P xs = x_row.pack(c, turn), gs = g_row.pack(c, turn), w = load_pack<VECTORS>(weight + c);
#pragma unroll
      for (int i = 0; i < W; i++) {
        const float h = (xs[i] - mean) * rstd, d = gs[i] * w[i];
        sum_d += d;
        sum_dh += d * h;
        if (turn >= 0) gw[turn][i] += gs[i] * h, gb[turn][i] += gs[i];
      }
    });
    if (!gx) continue;
    const float2 sums = block_sums<WARPS>(sum_d, sum_dh, scratch);
    const float average_d = CENTRE ? sums.x / columns : 0.f, average_dh = sums.y / columns;
    Row::each(columns, [&](int c, int turn) {
      const P xs = x_row.pack(c, turn), gs = g_row.pack(c, turn), w = load_pack<VECTORS>(weight + c);
      P out;
#pragma unroll
      for (int i = 0; i < W; i++) out.set(i, rstd * (gs[i] * w[i] - average_d - (xs[i] - mean) * rstd * average_dh));
      store_pack_once(gx + r * columns + c, out);
    });
  }

  if (!partial) return;
  if constexpr (WARPS == 1) {  // 8 warps hold sums of the same columns
    __shared__ __align__(16) float tile[COLUMN_WARPS * 32 * W];
#pragma unroll
    for (int turn = 0; turn < Row::KEPT; turn++) {
      const int c = turn * 32 * W;
      if (c >= columns) break;
      write_block_sums(block_gw + c, gw[turn], columns - c, tile);
      if (CENTRE) write_block_sums(block_gb + c, gb[turn], columns - c, tile);
    }
  } else {
    Row::each(columns, [&](int c, int turn) {
      if (turn >= 0) {
        write_floats(block_gw + c, gw[turn]);
        if (CENTRE) write_floats(block_gb + c, gb[turn]);
        return;
      }
      float w_sum[W] = {}, b_sum[W] = {};  // columns without registers: down the same rows again
#pragma unroll 1
      for (i64 r = blockIdx.x; r < rows; r += gridDim.x) {
        const P xs = load_pack<VECTORS>(x + r * columns + c), gs = load_pack<VECTORS>(g + r * columns + c);
        const float mean = CENTRE ? saved_mean[r] : 0.f, rstd = saved_rstd[r];
#pragma unroll
        for (int i = 0; i < W; i++) w_sum[i] += gs[i] * ((xs[i] - mean) * rstd), b_sum[i] += gs[i];
      }
      write_floats(block_gw + c, w_sum);
      if (CENTRE) write_floats(block_gb + c, b_sum);
    });
  }
}
