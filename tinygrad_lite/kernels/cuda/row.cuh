// A row of a matrix as the threads of a warp or of a block hold it.
#pragma once
#include "pack.cuh"
#include "reduce.cuh"

// Threads of a block: 4 rows of a warp each, or one row.
template <int WARPS> constexpr int row_threads = WARPS == 1 ? 128 : 32 * WARPS;

// Blocks on an SM where each thread holds its part of one row: 36 warps of 16-bit rows, 20 of float32, of 56 and 96
// registers a thread. Left to itself the compiler spills some where it holds single elements, to win warps to no end.
template <class T, bool VECTORS, int WARPS>
constexpr int row_blocks = VECTORS ? (sizeof(T) == 2 ? 1152 : 640) / row_threads<WARPS> : 1;

// A row shared by a team of 32 WARPS threads: pack 0 belongs to thread 0, pack 1 to thread 1, and so on in turns. The
// first KEPT turns stay in registers, 32 elements a thread: 1,024 columns for a warp, 8,192 for 8 warps, read once from
// memory however often they are used; single elements take a register each, so of them half as many. What is beyond,
// for teams of several warps only, is read again each time, AHEAD turns at once. Where a row is known to be TURNS whole
// turns long, no thread asks where it ends.
template <class T, bool VECTORS, int WARPS, int AHEAD = 1, int TURNS = 0> struct Row {
  typedef Pack<T, VECTORS> P;
  static constexpr int W = P::n, THREADS = 32 * WARPS, KEPT = TURNS ? TURNS : VECTORS ? 32 / W : 16;

  const T* start;
  P kept[KEPT];

  static __device__ __forceinline__ int column(int turn) { return (turn * THREADS + (int)threadIdx.x % THREADS) * W; }

  // f(column, turn) for each of this thread's packs that are kept.
  template <class F> static __device__ __forceinline__ void each_kept(int columns, F f) {
#pragma unroll
    for (int turn = 0; turn < KEPT; turn++)
      if (TURNS || column(turn) < columns) f(column(turn), turn);
  }
  // f(column, turn) for each of this thread's packs; the turn is -1 where it is not kept.
  template <class F> static __device__ __forceinline__ void each(int columns, F f) {
    each_kept(columns, f);
    if constexpr (WARPS > 1)
#pragma unroll AHEAD
      for (int c = column(KEPT); c < columns; c += THREADS * W) f(c, -1);
  }

  // load(column, turn) gives the packs that are kept: from memory, or from where they were copied to.
  template <class F> __device__ __forceinline__ Row(const T* row, int columns, F load) : start(row) {
    each_kept(columns, [&](int c, int turn) { kept[turn] = load(c, turn); });
  }
  __device__ __forceinline__ Row(const T* row, int columns)
      : Row(row, columns, [row](int c, int) { return load_pack_once<VECTORS>(row + c); }) {}

  __device__ __forceinline__ P pack(int c, int turn) const {
    return turn >= 0 ? kept[turn] : load_pack<VECTORS>(start + c);
  }
};
