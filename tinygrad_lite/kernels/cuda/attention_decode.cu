// Attention of one new row over a cache of keys and values, for writing token by token (flash-decoding: the split of
// FlashAttention over the keys). How long the cache is, only the device knows, so that one captured launch serves every
// token: the grid covers the whole cache, and blocks of keys that are not seen end at once.
#include "attention_problem.cuh"
#include "elements.cuh"

constexpr int THREADS = 128, CHUNK = 64, AT_ONCE = 4;  // CHUNK keys a block, AT_ONCE of them under way in a thread

// Columns first to first + n of a row of d; zeros beyond it. aligned: rows begin at multiples of 16 bytes and end there.
template <class T> __device__ __forceinline__ Vector<T> load_columns(const T* row, int first, int d, bool aligned) {
  if (aligned && first < d) return load_vector(row + first);
  Vector<T> v;
#pragma unroll
  for (int i = 0; i < Vector<T>::n; i++) v.element[i] = first + i < d ? row[first + i] : from_float<T>(0.f);
  return v;
}

// qkv (B, (H + 2 Hkv) D): the new row of each batch entry, at *position_at. Its key and value become row *position_at of
// keys, values (B, Hkv, room, D). The query sees the last `window` rows up to its own.
//
// Block (chunk, h, b) leaves what its keys give: sums (B, H, chunks, WIDTH), of exp(score - top) value, and stats (B, H,
// chunks, 2), top and the sum of exp(score - top), scores in units of log 2. A group of LANES threads takes a key at a
// time, each thread 16 bytes of it.
template <class T, int WIDTH>
__global__ void __launch_bounds__(THREADS)
attention_decode(float* __restrict__ sums, float* __restrict__ stats, T* keys, T* values, const T* __restrict__ qkv,
                 const i64* __restrict__ position_at, int key_heads, int group, int room, int d, int window,
                 float scale, int aligned) {
  constexpr int N = Vector<T>::n, LANES = WIDTH / N, GROUPS = THREADS / LANES;
  __shared__ __align__(16) float parts[GROUPS][WIDTH];
  __shared__ float tops[GROUPS], totals[GROUPS];
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

  const Vector<T> query = load_columns(qkv + h * d, column, d, aligned);
  float q[N], sum[N] = {}, top = -INFINITY, total = 0.f;
#pragma unroll
  for (int i = 0; i < N; i++) q[i] = query[i] * (scale * LOG2_E);

  for (int s0 = start + place; s0 - place < end; s0 += AT_ONCE * GROUPS) {
    Vector<T> key[AT_ONCE], value[AT_ONCE];
    float score[AT_ONCE], base = top;
#pragma unroll
    for (int j = 0; j < AT_ONCE; j++) {  // all are asked for before any is used
      const int s = s0 + j * GROUPS, columns = s >= first && s < end ? d : 0;  // of what is not seen, none
      key[j] = load_columns(s == position ? new_key : keys + (size_t)s * d, column, columns, aligned);
      value[j] = load_columns(s == position ? new_value : values + (size_t)s * d, column, columns, aligned);
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

  write_floats(&parts[place][column], sum);
  if (column == 0) tops[place] = top, totals[place] = total;
  __syncthreads();
  top = tops[0], total = 0.f;
  for (int g = 1; g < GROUPS; g++) top = fmaxf(top, tops[g]);  // above -inf: some group has seen a key
  const size_t row = ((size_t)b * heads + h) * gridDim.x + blockIdx.x;
  float joined = 0.f;
  if (c < WIDTH) {
    for (int g = 0; g < GROUPS; g++) {
      const float factor = exp2_approx(tops[g] - top);
      total += factor * totals[g];
      joined += factor * parts[g][c];
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
