// A row, or a flat array, cut into 16-byte vectors and the few elements before and behind them.
#pragma once
#include "numbers.cuh"

__device__ __forceinline__ bool is_aligned(const void* p) { return (size_t)p % 16 == 0; }

// Of `size` elements from p on, vector j begins at element head + j Vector<T>::n, where an address is a multiple of 16.
// The `edges` others are elements edge(0), edge(1), ... A row of GPT-2's 50,257 logits begins anywhere, and still all
// but at most 14 of its elements go 16 bytes at a time.
template <class T, class Index> struct Span {
  Index size, head, vectors, edges;
  __device__ __forceinline__ Span(const T* p, Index size) : size(size) {
    constexpr int n = Vector<T>::n;
    const Index before = (Index)((16 - (size_t)p % 16) % 16 / sizeof(T));
    head = before < size ? before : size;
    vectors = (size - head) / n;
    edges = size - vectors * n;
  }
  // Where another array's vectors begin elsewhere: element by element.
  __device__ __forceinline__ void forget_vectors() { head = edges = size, vectors = 0; }
  __device__ __forceinline__ Index begin(Index vector) const { return head + vector * Vector<T>::n; }
  __device__ __forceinline__ Index edge(Index i) const { return i < head ? i : i + vectors * Vector<T>::n; }
};

// N neighbours as float32, of any element type, each byte wanted once. p must be aligned to 16 bytes.
template <int N, class T> __device__ __forceinline__ void load_floats(float (&x)[N], const T* p) {
  constexpr int n = Vector<T>::n;
#pragma unroll
  for (int i = 0; i < N; i += n) {
    const Vector<T> v = load_vector_once(p + i);
#pragma unroll
    for (int k = 0; k < n; k++) x[i + k] = v[k];
  }
}
template <int N, class T> __device__ __forceinline__ void store_floats(T* p, const float (&x)[N]) {
  constexpr int n = Vector<T>::n;
#pragma unroll
  for (int i = 0; i < N; i += n) {
    Vector<T> v;
#pragma unroll
    for (int k = 0; k < n; k++) v.set(k, x[i + k]);
    store_vector_once(p + i, v);
  }
}
