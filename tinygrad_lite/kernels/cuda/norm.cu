// layer_norm, and rms_norm, which is layer_norm without the mean and the bias (CENTRE = false).
//
// A row belongs to a warp (WARPS = 1), a long one to a block of 8; row.cuh keeps it in registers, so x is read once.
// Bytes: forward moves x and out, backward x, g and gx, and what gx is added to; weight and bias stay in L1.
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
  constexpr int W = Row::W, ROWS = row_threads<WARPS> / Row::THREADS;  // of a block
  __shared__ float scratch[WARPS];
  const int r = blockIdx.x * ROWS + threadIdx.x / Row::THREADS;
  if (r >= rows) return;  // a whole warp, and of a block that meets no barrier
  const Row row(x + (size_t)r * columns, columns);

  float mean = 0.f;
  if constexpr (CENTRE) {
    Row::each(columns, [&](int c, int turn) {
      const P v = row.pack(c, turn);
#pragma unroll
      for (int i = 0; i < W; i++) mean += v[i];
    });
    mean = block_sum<WARPS>(mean, scratch) / columns;
  }
  float centred[Row::KEPT][W], squares = 0.f;  // converted once
  const auto centre = [&](const P& v, int i) { return CENTRE ? v[i] - mean : v[i]; };
  Row::each(columns, [&](int c, int turn) {
    const P v = row.pack(c, turn);
#pragma unroll
    for (int i = 0; i < W; i++) {
      const float y = centre(v, i);
      squares += y * y;
      if (turn >= 0) centred[turn][i] = y;
    }
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
    for (int i = 0; i < W; i++)
      normal.set(i, (turn >= 0 ? centred[turn][i] : centre(v, i)) * (rstd * w[i]) + (CENTRE ? b[i] : 0.f));
    store_pack(y + c, normal);
  });
}

// forward: out = h weight + bias, h = (x - mean) rstd. With d = g weight:
//   gx = rstd (d - average(d) - h average(d h)); without centring mean = 0 and average(d) falls away
//   partial[block] = sums over the block's rows of g h, and of g where there is a bias: float32 (blocks, 2 or 1, C)
// gx or partial may be null: not wanted. Where `previous` is not null gx is added to it: the gradient that has reached x
// by other ways. Each thread keeps the sums of its columns in registers over all rows of the block, 64 of them for 32
// columns: 128 registers in all, which let two blocks of 16-bit elements in; a float32 row takes twice the registers.
//
// A warp that sums a row has the next row of x and g, and this one of `previous`, on their way to shared memory: of 768
// columns in bf16 an SM's 16 warps have 48 to 72 KB under way all the time, and an H100 needs some 40. A thread copies
// what it reads itself, so that nobody waits for another. shared: 16 bytes for each thread, turn and of three arrays,
// which hold the warps' sums at the end, all columns at once; of single elements 4 bytes for each thread and turn.
template <class T, bool CENTRE, bool VECTORS, int WARPS, int TURNS>
__global__ void __launch_bounds__(32 * COLUMN_WARPS, VECTORS && sizeof(T) == 2 ? 2 : 1) norm_backward(
    T* __restrict__ gx, float* __restrict__ partial, const T* __restrict__ previous, const T* __restrict__ g,
    const T* __restrict__ x, const T* __restrict__ weight, const float* __restrict__ saved_mean,
    const float* __restrict__ saved_rstd, int rows, int columns) {
  typedef Row<T, VECTORS, WARPS, 1, TURNS> Row;
  typedef typename Row::P P;
  constexpr int W = Row::W, ROWS = COLUMN_WARPS / WARPS, SUMS = CENTRE ? 2 : 1;
  constexpr bool COPIES = VECTORS && WARPS == 1;
  enum { X, G, PREVIOUS, ARRAYS };
  __shared__ float2 scratch[WARPS];
  DYNAMIC_SHARED(T, copied);
  const auto place = [&](int array, int turn) {
    return copied + ((turn * ARRAYS + array) * 32 * COLUMN_WARPS + (int)threadIdx.x) * W;
  };
  const auto copy = [&](int array, const T* row) {
    if constexpr (COPIES) Row::each_kept(columns, [&](int c, int turn) { cp_async16(place(array, turn), row + c); });
  };
  const auto arrived = [&](int array, const T* row) {
    return Row(row, columns, [&](int c, int turn) {
      if constexpr (COPIES) return load_pack<VECTORS>(place(array, turn));
      else return load_pack_once<VECTORS>(row + c);
    });
  };

  float gw[Row::KEPT][W] = {}, gb[Row::KEPT][W] = {};
  const u32 first = blockIdx.x * ROWS + threadIdx.x / Row::THREADS, step = gridDim.x * ROWS;
  if (first < rows) copy(X, x + (size_t)first * columns), copy(G, g + (size_t)first * columns);
  cp_async_commit();
  for (u32 r = first; r < rows; r += step) {
    const size_t start = (size_t)r * columns, next = start + (size_t)step * columns;
    if (previous) copy(PREVIOUS, previous + start);
    cp_async_commit();
    cp_async_wait<1>();  // for x and g
    const Row x_row = arrived(X, x + start), g_row = arrived(G, g + start);
    if (r + step < rows) copy(X, x + next), copy(G, g + next);
    cp_async_commit();
    const float mean = CENTRE ? saved_mean[r] : 0.f, rstd = saved_rstd[r];
    float sum_d = 0.f, sum_dy = 0.f;  // y = x - mean = h / rstd
    Row::each(columns, [&](int c, int turn) {
      const P xs = x_row.pack(c, turn), gs = g_row.pack(c, turn), w = load_pack<VECTORS>(weight + c);
#pragma unroll
      for (int i = 0; i < W; i++) {
        const float gy = gs[i] * (CENTRE ? xs[i] - mean : xs[i]);
        if (CENTRE) sum_d += gs[i] * w[i];
        sum_dy += gy * w[i];
        if (turn >= 0) gw[turn][i] += gy * rstd, gb[turn][i] += gs[i];
      }
    });
    if (!gx) continue;
    const float2 sums = block_sums<WARPS>(sum_d, sum_dy, scratch);
    // gx = rstd d + slope y + level
    const float slope = -rstd * (sums.y * rstd / columns) * rstd, level = CENTRE ? -rstd * (sums.x / columns) : 0.f;
    cp_async_wait<1>();  // for `previous`
    Row::each(columns, [&](int c, int turn) {
      const P xs = x_row.pack(c, turn), gs = g_row.pack(c, turn), w = load_pack<VECTORS>(weight + c);
      P before, out;
      if (previous) before = load_pack<VECTORS>(COPIES ? place(PREVIOUS, turn) : previous + start + c);
#pragma unroll
      for (int i = 0; i < W; i++) {
        const float y = CENTRE ? xs[i] - mean : xs[i];
        const float sum = gs[i] * w[i] * rstd + (y * slope + level);
        out.set(i, previous ? before[i] + sum : sum);
      }
      store_pack(gx + start + c, out);
    });
  }

  if (!partial) return;
  float* block_gw = partial + (size_t)blockIdx.x * SUMS * columns;
  float* block_gb = block_gw + columns;
  if constexpr (WARPS == 1) {  // 8 warps hold sums of the same columns
    float* tile = reinterpret_cast<float*>(copied);  // (COLUMN_WARPS, columns)
    const auto write_sums = [&](float* to, const float (&sums)[Row::KEPT][W]) {
      __syncthreads();  // no warp reads any more what is there
      Row::each_kept(columns, [&](int c, int turn) {
        write_floats(tile + (int)threadIdx.x / 32 * columns + c, sums[turn]);
      });
      __syncthreads();
      for (int c = threadIdx.x; c < columns; c += 32 * COLUMN_WARPS) {
        float sum = 0.f;
#pragma unroll
        for (int k = 0; k < COLUMN_WARPS; k++) sum += tile[k * columns + c];
        to[c] = sum;
      }
    };
    write_sums(block_gw, gw);
    if (CENTRE) write_sums(block_gb, gb);
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
