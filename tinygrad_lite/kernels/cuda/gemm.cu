// gemm: out (rows, columns) = a (rows, inner) b (inner, columns) + bias (columns,) + addend (rows, columns), of any
// sizes: what a matrix product is made of.
//
// The readable twin of cuBLASLt's, which product.py calls by default. A block computes a tile of 64 x 64 results and
// walks along the inner axis. Each step brings a tile of a and one of b to shared memory, where each element serves 64
// results: a product of n x n matrices reads 2 n^3 / 64 elements from memory, not 2 n^3.
//
// An operand lies in memory along the inner axis (a as it is, a weight of which the transpose is taken), or along the
// other one, its `outer`; the template parameters say which.
#include "numbers.cuh"

constexpr int THREADS = 128;
constexpr int OUTER = 64;  // rows, and columns, of the results of a block

// -- 16-bit elements: tensor cores ---------------------------------------------------------------------------------

constexpr int INNER = 32;  // of one step: two products of 16

// A tile of an operand, in the layout it has in memory: OUTER rows of INNER elements, or the other way round.
template <class T, bool ALONG_INNER> struct Tile {
  static constexpr int ROWS = ALONG_INNER ? OUTER : INNER, CHUNKS = (ALONG_INNER ? INNER : OUTER) / 8;  // of 8 elements
  uint4 chunks[ROWS * CHUNKS];

  // Elements 8 chunk to 8 chunk + 7 of a row. ldmatrix reads 16 bytes of each of eight rows at once; the exclusive or
  // moves those to eight different places modulo 128 bytes, so that together they touch every bank once.
  __device__ __forceinline__ T* at(int row, int chunk) {
    return reinterpret_cast<T*>(chunks + row * CHUNKS + (chunk ^ row * CHUNKS / 8 % CHUNKS));
  }

  // Begin to copy the part of x (rows, columns) that begins at (row, column), zeros where it reaches beyond.
  __device__ __forceinline__ void load(const T* x, int rows, int columns, int row, int column, bool aligned) {
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
      const int r = i / CHUNKS, chunk = i % CHUNKS, left = columns - (column + chunk * 8);
      const int n = row + r < rows && left > 0 ? min(left, 8) : 0;
      const T* from = n ? x + (size_t)(row + r) * columns + column + chunk * 8 : x;
      T* to = at(r, chunk);
      if (aligned) {
        cp_async16(to, from, n * (int)sizeof(T));
      } else {  // rows that do not begin at multiples of 16 bytes
        for (int e = 0; e < 8; e++) to[e] = e < n ? from[e] : from_float<T>(0.f);
      }
    }
  }

  // 16 x 16 elements from (outer, inner) on, as mma_16816 wants them: four matrices of 8 x 8, of which a's fragment has
  // those of the first eight of inner first, b's (for two products of 8 columns) those of the first eight of outer.
  template <bool IS_A> __device__ __forceinline__ void fragment(u32 (&r)[4], int outer, int inner) {
    const int lane = threadIdx.x % 32, matrix = lane / 8, row = lane % 8;
    const int outer_half = IS_A ? matrix % 2 : matrix / 2, inner_half = IS_A ? matrix / 2 : matrix % 2;
    if constexpr (ALONG_INNER) ldmatrix_x4(r, at(outer + 8 * outer_half + row, inner / 8 + inner_half));
    else ldmatrix_x4_trans(r, at(inner + 8 * inner_half + row, outer / 8 + outer_half));
  }
};

// What is added comes before the one rounding. addend may be out itself: a result's thread alone reads and writes it.
template <class O>
__device__ __forceinline__ void store_result(O* out, const O* bias, const O* addend, float x, size_t at, int column) {
  if (bias) x += to_float(bias[column]);
  if (addend) x += to_float(addend[at]);
  out[at] = from_float<O>(x);
}

// Four warps, each 32 x 32 results: 2 x 4 products of 16 x 8 in registers. While they multiply one pair of tiles, the
// next pair is on its way.
template <class T, class O, bool A_ALONG, bool B_ALONG>
__device__ __forceinline__ void multiply_on_tensor_cores(O* out, const T* a, const T* b, const O* bias, const O* addend,
                                                         int rows, int columns, int inner, bool a_aligned,
                                                         bool b_aligned) {
  __shared__ __align__(128) Tile<T, A_ALONG> tiles_a[2];
  __shared__ __align__(128) Tile<T, B_ALONG> tiles_b[2];
  const int first_row = blockIdx.y * OUTER, first_column = blockIdx.x * OUTER;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;

  auto load = [&](int stage, int k) {
    if constexpr (A_ALONG) tiles_a[stage].load(a, rows, inner, first_row, k, a_aligned);
    else tiles_a[stage].load(a, inner, rows, k, first_row, a_aligned);
    if constexpr (B_ALONG) tiles_b[stage].load(b, columns, inner, first_column, k, b_aligned);
    else tiles_b[stage].load(b, inner, columns, k, first_column, b_aligned);
  };

  float sum[2][4][4] = {};
  load(0, 0);
  cp_async_commit();
  for (int k = 0, stage = 0; k < inner; k += INNER, stage ^= 1) {
    if (k + INNER < inner) load(stage ^ 1, k + INNER);
    cp_async_commit();  // empty in the last step, so that what this step needs is always all but the youngest group
    cp_async_wait<1>();
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < INNER; kk += 16) {
      u32 part_a[2][4], part_b[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        tiles_a[stage].template fragment<true>(part_a[i], warp_row + 16 * i, kk);
        tiles_b[stage].template fragment<false>(part_b[i], warp_column + 16 * i, kk);
      }
#pragma unroll
      for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const u32 eight_columns[2] = {part_b[j / 2][j % 2 * 2], part_b[j / 2][j % 2 * 2 + 1]};
          mma_16816(T(), sum[i][j], part_a[i], eight_columns);
        }
      }
    }
    __syncthreads();  // nobody reads these tiles any more: the next step but one may be copied over them
  }

  // A lane holds, of each product, two neighbours in row lane / 4 and two in the row eight further down.
#pragma unroll
  for (int i = 0; i < 2; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int row = first_row + warp_row + 16 * i + lane / 4 + e / 2 * 8;
        const int column = first_column + warp_column + 8 * j + lane % 4 * 2 + e % 2;
        if (row < rows && column < columns) {
          store_result(out, bias, addend, sum[i][j][e], (size_t)row * columns + column, column);
        }
      }
    }
  }
}

// -- float32: one multiplication after another ---------------------------------------------------------------------

constexpr int FLOAT_INNER = 16;

// OUTER x FLOAT_INNER elements from (outer, inner) on, turned so that tile[k] holds neighbours along outer.
template <bool ALONG_INNER>
__device__ __forceinline__ void load_floats(float (&tile)[FLOAT_INNER][OUTER + 4], const float* x, int outers,
                                            int inners, int outer, int inner) {
#pragma unroll
  for (int i = threadIdx.x; i < OUTER * FLOAT_INNER; i += THREADS) {  // neighbouring threads, neighbouring addresses
    const int o = ALONG_INNER ? i / FLOAT_INNER : i % OUTER, k = ALONG_INNER ? i % FLOAT_INNER : i / OUTER;
    const int row = ALONG_INNER ? outer + o : inner + k, column = ALONG_INNER ? inner + k : outer + o;
    const bool is_inside = outer + o < outers && inner + k < inners;
    tile[k][o] = is_inside ? x[(size_t)row * (ALONG_INNER ? inners : outers) + column] : 0.f;
  }
}

// Each thread 8 x 4 results: of every 12 numbers that it reads from shared memory it makes 32 products.
template <bool A_ALONG, bool B_ALONG>
__device__ __forceinline__ void multiply_floats(float* out, const float* a, const float* b, const float* bias,
                                                const float* addend, int rows, int columns, int inner) {
  __shared__ __align__(16) float tile_a[FLOAT_INNER][OUTER + 4], tile_b[FLOAT_INNER][OUTER + 4];
  const int first_row = blockIdx.y * OUTER, first_column = blockIdx.x * OUTER;
  const int my_row = threadIdx.x / 16 * 8, my_column = threadIdx.x % 16 * 4;
  float sum[8][4] = {};
  for (int k = 0; k < inner; k += FLOAT_INNER) {
    load_floats<A_ALONG>(tile_a, a, rows, inner, first_row, k);
    load_floats<B_ALONG>(tile_b, b, columns, inner, first_column, k);
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < FLOAT_INNER; kk++) {
      const float4 b4 = *reinterpret_cast<const float4*>(&tile_b[kk][my_column]);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        const float x = tile_a[kk][my_row + i];
        sum[i][0] += x * b4.x, sum[i][1] += x * b4.y, sum[i][2] += x * b4.z, sum[i][3] += x * b4.w;
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 8; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int row = first_row + my_row + i, column = first_column + my_column + j;
      if (row < rows && column < columns) {
        store_result(out, bias, addend, sum[i][j], (size_t)row * columns + column, column);
      }
    }
  }
}

// grid (tiles of columns, tiles of rows). O, of out and what is added: T or float. *_aligned: whether the operand's rows,
// as they lie in memory, begin at multiples of 16 bytes. A null pointer adds nothing.
template <class T, class O, bool A_ALONG, bool B_ALONG>
__global__ void __launch_bounds__(THREADS, 4)
gemm(O* out, const T* __restrict__ a, const T* __restrict__ b, const O* __restrict__ bias, const O* addend, int rows,
     int columns, int inner, int a_aligned, int b_aligned) {
  if constexpr (sizeof(T) == 4) multiply_floats<A_ALONG, B_ALONG>(out, a, b, bias, addend, rows, columns, inner);
  else multiply_on_tensor_cores<T, O, A_ALONG, B_ALONG>(out, a, b, bias, addend, rows, columns, inner, a_aligned, b_aligned);
}
