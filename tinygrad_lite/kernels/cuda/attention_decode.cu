// Attention of one new row over a cache of keys and values, for writing token by token (flash-decoding: the split of
// FlashAttention over the keys). How long the cache is, only the device knows, so that one captured launch serves every
// token: the grid covers the whole cache, and blocks of keys that are not seen end at once.
#include "attention_problem.cuh"
#include "elements.cuh"
#include "reduce.cuh"

constexpr int THREADS = 128, WARPS = THREADS / 32;
// CHUNK keys a block, AT_ONCE of them under way in a thread. On an H200 32 full caches of 1,024 rows take 33.8 us, with 64
// keys a block 35.5: each first waits for the position, then for its query.
constexpr int CHUNK = 128, AT_ONCE = 4;

// Columns first to first + n of a row of d; zeros beyond it. VECTORS: rows begin at multiples of 16 bytes and end there.
template <bool VECTORS, class T> __device__ __forceinline__ Vector<T> load_columns(const T* row, int first, int d) {
  Vector<T> v;
  if constexpr (VECTORS) {
    v.bits = make_uint4(0, 0, 0, 0);
    if (first < d) v = load_vector(row + first);
    return v;
  }
#pragma unroll
  for (int i = 0; i < Vector<T>::n; i++) v.element[i] = first + i < d ? row[first + i] : from_float<T>(0.f);
  return v;
}

// The sum, or the largest, of x over the lanes of a warp that hold the same columns: those LANES apart.
template <int LANES, class Op> __device__ __forceinline__ float over_groups(float x) {
#pragma unroll
  for (int offset = LANES; offset < 32; offset <<= 1) x = Op::join(x, __shfl_xor_sync(ALL_LANES, x, offset));
  return x;
}

// qkv (B, (H + 2 Hkv) D): the new row of each batch entry, at *position_at. Its key and value become row *position_at of
// keys, values (B, Hkv, room, D). The query sees the last `window` rows up to its own.
//
// Block (chunk, h, b) leaves what its keys give: sums (B, H, chunks, WIDTH), of exp(score - top) value, and stats (B, H,
// chunks, 2), top and the sum of exp(score - top), scores in units of log 2. A group of LANES threads takes a key at a
// time, each thread 16 bytes of it.
template <class T, int WIDTH, bool VECTORS>
__global__ void __launch_bounds__(THREADS, VECTORS ? 6 : 5)
attention_decode(float* __restrict__ sums, float* __restrict__ stats, T* keys, T* values, const T* __restrict__ qkv,
                 const i64* __restrict__ position_at, int key_heads, int group, int room, int d, int window,
                 float scale) {
  constexpr int N = Vector<T>::n, LANES = WIDTH / N, GROUPS = THREADS / LANES;
  __shared__ __align__(16) float parts[WARPS][WIDTH];
  __shared__ float tops[WARPS], totals[WARPS];
  const int position = (int)*position_at, heads = gridDim.y, h = blockIdx.y, b = blockIdx.z, c = threadIdx.x;
  const int start = blockIdx.x * CHUNK, first = max(start, position - window + 1);
  const int end = min(start + CHUNK, position + 1), place = c / LANES, column = c % LANES * N;
  if (first >= end) return;  // all threads: nothing is seen here

  const size_t cached = ((size_t)b * key_heads + h / group) * room * d;
  keys += cached, values += cached, qkv += (size_t)b * (heads + 2 * key_heads) * d;
  const T *new_key = qkv + (heads + h / group) * d, *new_value = new_key + key_heads * d;
  // Nobody else reads or writes that row now: who needs it has it from qkv.
  if (position < start + CHUNK && h % group == 0 && c < d) {
    keys[(size_t)position * d + c] = new_key[c];
    values[(size_t)position * d + c] = new_value[c];
  }

  const Vector<T> query = load_columns<VECTORS>(qkv + h * d, column, d);
  float q[N], sum[N] = {}, top = -INFINITY, total = 0.f;
#pragma unroll
  for (int i = 0; i < N; i++) q[i] = query[i] * (scale * LOG2_E);

  for (int s0 = start + place; s0 - place < end; s0 += AT_ONCE * GROUPS) {
    Vector<T> key[AT_ONCE], value[AT_ONCE];
    float score[AT_ONCE], base = top;
#pragma unroll
    for (int j = 0; j < AT_ONCE; j++) {  // all are asked for before any is used
      const int s = s0 + j * GROUPS, columns = s >= first && s < end ? d : 0;  // of what is not seen, none
      key[j] = load_columns<VECTORS>(s == position ? new_key : keys + (size_t)s * d, column, columns);
      value[j] = load_columns<VECTORS>(s == position ? new_value : values + (size_t)s * d, column, columns);
    }
#pragma unroll
    for (int j = 0; j < AT_ONCE; j++) {
      const int s = s0 + j * GROUPS;
      float dot = 0.f;
#pragma unroll
      for (int i = 0; i < N; i++) dot += q[i] * key[j][i];
#pragma unroll
      for (int offset = LANES / 2; offset > 0; offset >>= 1) dot += __shfl_xor_sync(ALL_LANES, dot, offset);
      score[j] = s >= first && s < end ? dot : -INFINITY;
      base = fmaxf(base, score[j]);
    }
    base = over_groups<LANES, Max>(base);
    const float before = top;
    top = base;
    if (base == -INFINITY) base = 0.f;  // -inf - -inf would be NaN: nothing seen so far
    const float factor = exp2_approx(before - base);
    total *= factor;
#pragma unroll
    for (int i = 0; i < N; i++) sum[i] *= factor;
#pragma unroll
    for (int j = 0; j < AT_ONCE; j++) {
      const float weight = exp2_approx(score[j] - base);
      total += weight;
#pragma unroll
      for (int i = 0; i < N; i++) sum[i] += weight * value[j][i];
    }
  }

  total = over_groups<LANES, Sum>(total);
#pragma unroll
  for (int i = 0; i < N; i++) sum[i] = over_groups<LANES, Sum>(sum[i]);
  const int warp = threadIdx.x / 32;
  if (threadIdx.x % 32 < LANES) write_floats(&parts[warp][column], sum);
  if (threadIdx.x % 32 == 0) tops[warp] = top, totals[warp] = total;
  __syncthreads();
  top = tops[0], total = 0.f;
#pragma unroll
  for (int w = 1; w < WARPS; w++) top = fmaxf(top, tops[w]);  // above -inf: some warp has seen a key
  const size_t row = ((size_t)b * heads + h) * gridDim.x + blockIdx.x;
  float joined = 0.f;
  if (c < WIDTH) {
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      const float factor = exp2_approx(tops[w] - top);
      total += factor * totals[w];
      joined += factor * parts[w][c];
    }
    sums[row * WIDTH + c] = joined;
  }
  if (c == 0) stats[2 * row] = top, stats[2 * row + 1] = total;
}

// out (B, H, D) from the chunks that the query sees, in their order.
template <class T>
__global__ void __launch_bounds__(THREADS)
attention_combine(T* __restrict__ out, const float* __restrict__ sums, const float* __restrict__ stats,
                  const i64* __restrict__ position_at, int chunks, int width, int d, int window) {
  const int position = (int)*position_at, c = threadIdx.x;
  const int first = max(0, position - window + 1) / CHUNK, last = position / CHUNK;
  const size_t row = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
  sums += row * chunks * width, stats += row * chunks * 2;
  if (c >= d) return;
  float top = -INFINITY, total = 0.f, sum = 0.f;
#pragma unroll 4
  for (int i = first; i <= last; i++) top = fmaxf(top, stats[2 * i]);
#pragma unroll 4
  for (int i = first; i <= last; i++) {
    const float factor = exp2_approx(stats[2 * i] - top);
    total += factor * stats[2 * i + 1];
    sum += factor * sums[(size_t)i * width + c];
  }
  out[row * d + c] = from_float<T>(sum / total);
}
