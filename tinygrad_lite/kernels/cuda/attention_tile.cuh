// Tiles of 16-bit numbers in shared memory, and products of them on the tensor cores.
//
// On sm_90a (WARPGROUPS) the products are wgmma's, four warps together and in the background, for D of 64 and 128; else
// mma.sync's, each warp by itself. Which lane holds what is the same, so the kernels are the same.
#pragma once
#include "numbers.cuh"
#if WARPGROUPS
#include "wgmma.cuh"
#endif

template <int D> constexpr bool IN_WARPGROUPS = WARPGROUPS && D >= 64;

// Which warp of the block this is. By a shuffle the compiler sees that all lanes have the same number, and computes what
// follows from it, tiles' addresses say, once for the warp: a tenth of all instructions less.
__device__ __forceinline__ int warp_of_block() { return __shfl_sync(ALL_LANES, threadIdx.x / 32, 0); }

// ROWS rows of D numbers, in panels of up to 64 columns. A panel's row is up to 8 chunks of 16 bytes, and chunk c of
// row r lies at place c ^ swizzle(r): the same chunk of 8 rows that follow each other, which is what ldmatrix reads at
// once, then fills all 32 banks once. In plain order the 8 would share 4 banks, and take 8 turns (4 for D = 32). wgmma
// knows this order as its 128-byte swizzle.
template <class T, int D, int ROWS> struct Tile {
  static constexpr int CHUNKS = D / 8, WIDTH = D < 64 ? D : 64, PANEL = ROWS * WIDTH, SIZE = ROWS * D;
  T* data;

  static __device__ __forceinline__ int swizzle(int row) { return CHUNKS == 4 ? row / 2 % 4 : row % 8; }
  __device__ __forceinline__ T* chunk(int row, int c) const {
    return data + c / 8 * PANEL + row * WIDTH + (c % 8 ^ swizzle(row)) * 8;
  }

  // Rows first to first + ROWS of a matrix of `rows` rows and d columns, by a whole block of THREADS, in the
  // background; what lies beyond the matrix becomes zeros. Without alignment the numbers come one by one, and at once.
  template <int THREADS>
  __device__ __forceinline__ void load(const T* from, i64 stride, int first, int rows, int d, bool aligned) const {
    static_assert(ROWS * CHUNKS % THREADS == 0 && THREADS / CHUNKS % 8 == 0, "every thread copies as many, alike");
    if (aligned) {
      constexpr int ROUND = THREADS / CHUNKS;  // rows that the block copies at once
      const int r0 = threadIdx.x / CHUNKS, c = threadIdx.x % CHUNKS;
      const bool column_inside = 8 * c < d, all_inside = first + ROWS <= rows && column_inside;
      const T* const at = from + first * stride + (r0 * stride + 8 * c);
      T* const to = chunk(r0, c);
#pragma unroll
      for (int i = 0; i < ROWS / ROUND; i++) {
        const bool inside = all_inside || (column_inside && first + r0 + i * ROUND < rows);
        cp_async16(to + i * ROUND * WIDTH, at + i * ROUND * stride, inside ? 16 : 0);
      }
    } else {
#pragma unroll 1
      for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        const int r = i / CHUNKS, c = i % CHUNKS;
        Vector<T> v;
#pragma unroll
        for (int e = 0; e < 8; e++) {
          const bool inside = first + r < rows && 8 * c + e < d;
          v.element[e] = inside ? from[(first + r) * stride + 8 * c + e] : from_float<T>(0.f);
        }
        store_vector(chunk(r, c), v);
      }
    }
  }

  // `count` of the tile's rows, from `row` on, to a matrix of d columns, by one warp.
  __device__ __forceinline__ void store(T* to, i64 stride, int row, int count, int d, bool aligned) const {
    for (int i = threadIdx.x % 32; i < count * CHUNKS; i += 32) {
      const int r = i / CHUNKS, c = i % CHUNKS;
      const Vector<T> v = load_vector(chunk(row + r, c));
      if (aligned) {
        if (8 * c < d) store_vector(to + r * stride + 8 * c, v);
      } else {
#pragma unroll
        for (int e = 0; e < 8; e++)
          if (8 * c + e < d) to[r * stride + 8 * c + e] = v.element[e];
      }
    }
  }

  // Operands of mma_16816 (gpu.cuh says which lane holds what). The left one: rows row to row + 16, columns 16 kk to
  // 16 kk + 16.
  __device__ __forceinline__ void left(u32 (&a)[4], int row, int kk) const {
    const int lane = threadIdx.x % 32;
    ldmatrix_x4(a, chunk(row + lane % 16, 2 * kk + lane / 16));
  }
  // Two right ones, of the tile's transpose: its columns row to row + 8 and row + 8 to row + 16, rows 16 kk to 16 kk +
  // 16.
  __device__ __forceinline__ void right_transposed(u32 (&b0)[2], u32 (&b1)[2], int row, int kk) const {
    const int lane = threadIdx.x % 32;
    u32 b[4];
    ldmatrix_x4(b, chunk(row + lane / 16 * 8 + lane % 8, 2 * kk + lane / 8 % 2));
    b0[0] = b[0], b0[1] = b[1], b1[0] = b[2], b1[1] = b[3];
  }
  // Two right ones: rows row to row + 16, columns 8 n to 8 n + 8 and 8 n + 8 to 8 n + 16.
  __device__ __forceinline__ void right(u32 (&b0)[2], u32 (&b1)[2], int row, int n) const {
    const int lane = threadIdx.x % 32;
    u32 b[4];
    ldmatrix_x4_trans(b, chunk(row + lane % 16, n + lane / 16));
    b0[0] = b[0], b0[1] = b[1], b1[0] = b[2], b1[1] = b[3];
  }
};

// 16 M rows of a tile as left operands: read once and held in D M / 4 registers, or read again for each product where
// that is too many. A warpgroup's products read them from shared memory, 64 rows for all four warps.
template <class T, int D, int ROWS, int M, bool HELD> struct LeftRows {
  Tile<T, D, ROWS> tile;
  int row;
  u32 held[HELD ? M : 1][HELD ? D / 16 : 1][4];

  __device__ __forceinline__ LeftRows(Tile<T, D, ROWS> tile, int row) : tile(tile), row(row) {
    if (HELD) {
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int kk = 0; kk < D / 16; kk++) tile.left(held[m][kk], row + 16 * m, kk);
    }
  }
  __device__ __forceinline__ void get(u32 (&a)[4], int m, int kk) const {
    if (HELD) {
#pragma unroll
      for (int i = 0; i < 4; i++) a[i] = held[m][kk][i];
    } else {
      tile.left(a, row + 16 * m, kk);
    }
  }
};

// A warp's sums: 16 M rows of 8 N columns. Lane l holds in c[m][n][0], [1] columns 8 n + 2 (l % 4) and the next of row
// 16 m + l / 4, and in [2], [3] those of row 16 m + l / 4 + 8.
template <int M, int N> using Sums = float[M][N][4];

// What stands in columns that a row does not see becomes `hidden`. seen[m][i] says from which column on, and to which,
// row 16 m + 8 i + l / 4 sees.
struct Seen {
  int first, end;
};
template <int M, int N> __device__ __forceinline__ void hide(Sums<M, N>& c, const Seen (&seen)[M][2], float hidden) {
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int column = 8 * n + threadIdx.x % 4 * 2 + e % 2;
        if (column < seen[m][e / 2].first || column >= seen[m][e / 2].end) c[m][n][e] = hidden;
      }
}

// What comes of `sums` so far is computed before what follows: a wait for products in the background would else be moved
// in front of the arithmetic that they were to run beside.
template <int D, int M, int COLUMNS> __device__ __forceinline__ void settle(Sums<M, COLUMNS>& sums) {
#if WARPGROUPS
  if constexpr (IN_WARPGROUPS<D>) {
#pragma unroll
    for (int m = 0; m < M; m++) wgmma_settle(sums[m]);
  }
#endif
}
// Products in the background, where they are such: all but the N youngest are done, `sums` among them.
template <int D, int N, int M, int COLUMNS> __device__ __forceinline__ void products_wait(Sums<M, COLUMNS>& sums) {
#if WARPGROUPS
  if constexpr (IN_WARPGROUPS<D>) wgmma_wait<N>();
  settle<D>(sums);
#endif
}
// What this thread has copied or written to shared memory is seen by products that follow the next barrier.
template <int D> __device__ __forceinline__ void publish() {
#if WARPGROUPS
  if (IN_WARPGROUPS<D>) wgmma_publish();
#endif
}

// c = a b^T, to be waited for, b being 8 N rows of a tile, from b_row on: they are c's columns.
template <class T, int D, int A_ROWS, int B_ROWS, int M, int N, bool HELD>
__device__ __forceinline__ void multiply_transposed(Sums<M, N>& c, const LeftRows<T, D, A_ROWS, M, HELD>& a_rows,
                                                    Tile<T, D, B_ROWS> b, int b_row = 0) {
#if WARPGROUPS
  if constexpr (IN_WARPGROUPS<D>) {
    static_assert(M == 1, "a warp has 16 of a warpgroup's 64 rows");
    const Operand left = wgmma_operand(a_rows.tile.data + a_rows.row / 64 * 64 * b.WIDTH);
    const Operand right = wgmma_operand(b.data + b_row * b.WIDTH);
    constexpr int A_PANEL = Tile<T, D, A_ROWS>::PANEL * sizeof(T), B_PANEL = b.PANEL * sizeof(T);
    wgmma_begin();
#pragma unroll
    for (int kk = 0; kk < D / 16; kk++)
      wgmma_transposed(T{}, c[0], left + (kk / 4 * A_PANEL + kk % 4 * 32), right + (kk / 4 * B_PANEL + kk % 4 * 32),
                       kk > 0);
    wgmma_commit();
  } else
#endif
  {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) c[m][n][e] = 0.f;
#pragma unroll
    for (int kk = 0; kk < D / 16; kk++) {
      u32 a[M][4];
#pragma unroll
      for (int m = 0; m < M; m++) a_rows.get(a[m], m, kk);
#pragma unroll
      for (int n = 0; n < N; n += 2) {
        u32 b0[2], b1[2];
        b.right_transposed(b0, b1, b_row + 8 * n, kk);
#pragma unroll
        for (int m = 0; m < M; m++) {
          mma_16816(T{}, c[m][n], a[m], b0);
          mma_16816(T{}, c[m][n + 1], a[m], b1);
        }
      }
    }
  }
}

// Sums of an earlier product, rounded to T, as left operands: two of their 8-column pieces are one, lane by lane, so
// they never leave the registers. For a warpgroup, whose product is in the background, they have registers of their
// own.
template <class T, int D, int M, int N> struct Weights {
  static constexpr bool OWN = IN_WARPGROUPS<D>;
  const Sums<M, N>& sums;
  u32 rounded[OWN ? M : 1][OWN ? N / 2 : 1][4];

  __device__ __forceinline__ explicit Weights(const Sums<M, N>& sums) : sums(sums) {
    if (OWN) {
#pragma unroll
      for (int m = 0; m < M; m++)
#pragma unroll
        for (int kk = 0; kk < N / 2; kk++) round(rounded[m][kk], m, kk);
    }
  }
  __device__ __forceinline__ void round(u32 (&left)[4], int m, int kk) const {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float* pair = &sums[m][2 * kk + i / 2][i % 2 * 2];
      left[i] = pack(from_float<T>(pair[0]), from_float<T>(pair[1]));
    }
  }
};

// c += a b, to be waited for, a being sums, and b 8 N rows of a tile, from b_row on.
template <class T, int D, int B_ROWS, int M, int N>
__device__ __forceinline__ void multiply_weights(Sums<M, D / 8>& c, const Weights<T, D, M, N>& a,
                                                 Tile<T, D, B_ROWS> b, int b_row = 0) {
#if WARPGROUPS
  if constexpr (IN_WARPGROUPS<D>) {
    settle<D>(c);
    const Operand right = wgmma_operand(b.data + b_row * b.WIDTH, b.PANEL * sizeof(T));
    wgmma_begin();
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
      for (int kk = 0; kk < N / 2; kk++) wgmma(T{}, c[m], a.rounded[m][kk], right + 16 * kk * b.WIDTH * sizeof(T));
    wgmma_commit();
  } else
#endif
  {
#pragma unroll
    for (int kk = 0; kk < N / 2; kk++) {
      u32 left[M][4];
#pragma unroll
      for (int m = 0; m < M; m++) a.round(left[m], m, kk);
#pragma unroll
      for (int n = 0; n < D / 8; n += 2) {
        u32 b0[2], b1[2];
        b.right(b0, b1, b_row + 16 * kk, n);
#pragma unroll
        for (int m = 0; m < M; m++) {
          mma_16816(T{}, c[m][n], left[m], b0);
          mma_16816(T{}, c[m][n + 1], left[m], b1);
        }
      }
    }
  }
}

// The warp's sums times a factor for each row, to rows `row` on of a tile that no other warp reads there.
template <class T, int D, int ROWS, int M>
__device__ __forceinline__ void sums_to_tile(Tile<T, D, ROWS> tile, int row, const Sums<M, D / 8>& c,
                                             const float (&factor)[M][2]) {
  const int lane = threadIdx.x % 32;
  __syncwarp(ALL_LANES);  // its lanes may still be reading
#pragma unroll
  for (int m = 0; m < M; m++)
#pragma unroll
    for (int half_rows = 0; half_rows < 2; half_rows++)
#pragma unroll
      for (int n = 0; n < D / 8; n++) {
        const float* pair = &c[m][n][2 * half_rows];
        const float f = factor[m][half_rows];
        T* to = tile.chunk(row + 16 * m + 8 * half_rows + lane / 4, n) + lane % 4 * 2;
        *reinterpret_cast<u32*>(to) = pack(from_float<T>(pair[0] * f), from_float<T>(pair[1] * f));
      }
  __syncwarp(ALL_LANES);
}
