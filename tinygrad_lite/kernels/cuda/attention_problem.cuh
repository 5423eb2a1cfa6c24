// What an attention kernel is asked: where its arrays lie, how long they are, and which query sees which key.
//
// Query t stands at the position of key t + keys - queries, so that the last query stands at the last key, and sees the
// keys from `behind` before its own position to `ahead` after it. Causal attention has ahead = 0, a sliding window of W
// keys behind = W - 1; queries + keys stands for no limit.
#pragma once
#include "gpu.cuh"

constexpr float LOG2_E = 1.4426950408889634f;

// From one batch entry, head and row to the next, in elements. Rows are contiguous over the head size.
struct Strides {
  i64 batch, head, row;
  __device__ __forceinline__ i64 at(int b, int h) const { return b * batch + h * head; }
};

struct Problem {
  Strides q, k, out;  // gradients lie as what they belong to; values and keys lie alike
  int heads, group;   // query heads, and how many of them share one key head
  int queries, keys, d;
  int behind, ahead;
  float scale;
  bool aligned;  // every row begins at a multiple of 16 bytes, and is a whole number of them long

  __device__ __forceinline__ int place(int t) const { return t + keys - queries; }
  // The first key that query t sees, and one past the last (not above the first where there is none); the same of the
  // queries that see key s.
  __device__ __forceinline__ int first_key(int t) const { return max(0, place(t) - behind); }
  __device__ __forceinline__ int end_key(int t) const { return min(keys, place(t) + ahead + 1); }
  __device__ __forceinline__ int first_query(int s) const { return max(0, s - keys + queries - ahead); }
  __device__ __forceinline__ int end_query(int s) const { return min(queries, s - keys + queries + behind + 1); }
  __device__ __forceinline__ bool sees_any(int t) const { return first_key(t) < end_key(t); }

  // Whether some, or each, of the queries t to t + t_count sees some, or each, of the keys s to s + s_count. Most tiles
  // are seen by all and need no mask; tiles seen by none are left out.
  __device__ __forceinline__ bool some_seen(int t, int t_count, int s, int s_count) const {
    return s - place(t + t_count - 1) <= ahead && s + s_count - 1 - place(t) >= -behind;
  }
  __device__ __forceinline__ bool all_seen(int t, int t_count, int s, int s_count) const {
    return s + s_count <= keys && s + s_count - 1 - place(t) <= ahead && s - place(t + t_count - 1) >= -behind;
  }
};

// A launch passes numbers, not structs: every attention kernel ends its list of parameters with these.
#define PROBLEM_PARAMETERS                                                                                       \
  i64 q_batch, i64 q_head, i64 q_row, i64 k_batch, i64 k_head, i64 k_row, i64 out_batch, i64 out_head, i64 out_row, \
      int heads, int group, int queries, int keys, int d, int behind, int ahead, float scale, int aligned
#define PROBLEM                                                                                            \
  Problem {                                                                                                \
    {q_batch, q_head, q_row}, {k_batch, k_head, k_row}, {out_batch, out_head, out_row}, heads, group, queries, \
        keys, d, behind, ahead, scale, aligned != 0                                                        \
  }
