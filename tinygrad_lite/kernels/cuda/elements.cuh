// N neighbouring elements as float32 numbers: N = Vector<T>::n is one read or write of 16 bytes, aligned; N = 1 goes
// anywhere. So a kernel has its path for vectors and its path for rows that do not fit them in one text.
#pragma once
#include "numbers.cuh"

template <int N, class T> __device__ __forceinline__ void read(float (&to)[N], const T* from) {
  if constexpr (N == 1) {
    to[0] = to_float(*from);
  } else {
    const Vector<T> v = load_vector(from);
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = v[i];
  }
}

template <int N, class T> __device__ __forceinline__ void write(T* to, const float (&from)[N]) {
  if constexpr (N == 1) {
    *to = from_float<T>(from[0]);
  } else {
    Vector<T> v;
#pragma unroll
    for (int i = 0; i < N; i++) v.set(i, from[i]);
    store_vector(to, v);
  }
}

// N float32 numbers whatever T is, of which N may be 8: two reads of 16 bytes.
template <int N> __device__ __forceinline__ void read_floats(float (&to)[N], const float* from) {
  if constexpr (N < 4) {
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = from[i];
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + i);
      to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
    }
  }
}

template <int N> __device__ __forceinline__ void write_floats(float* to, const float (&from)[N]) {
  if constexpr (N < 4) {
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = from[i];
  } else {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      *reinterpret_cast<float4*>(to + i) = make_float4(from[i], from[i + 1], from[i + 2], from[i + 3]);
    }
  }
}

// How many elements a thread takes at once: 16 bytes of them, or one.
template <class T, bool VECTORS> constexpr int elements_at_once = VECTORS ? Vector<T>::n : 1;
