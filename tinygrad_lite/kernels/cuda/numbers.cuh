// Elements as float32 numbers, and 16 bytes of them at a time.
#pragma once
#include "gpu.cuh"

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(half x) { return __half2float(x); }

template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ half from_float<half>(float x) { return __float2half_rn(x); }

// Two 16-bit elements in one register, the first in the lower half: the operands of mma_16816.
__device__ __forceinline__ u32 pack(bf16 first, bf16 second) {
  return (u32)__bfloat16_as_ushort(first) | (u32)__bfloat16_as_ushort(second) << 16;
}
__device__ __forceinline__ u32 pack(half first, half second) {
  return (u32)__half_as_ushort(first) | (u32)__half_as_ushort(second) << 16;
}

// Element i of several. A bf16 is the upper half of the float32: of a pair either is one instruction away, where to take
// it out of its register first would be another.
template <class T> __device__ __forceinline__ float number_at(const T* element, const u32*, int i) {
  return to_float(element[i]);
}
template <> __device__ __forceinline__ float number_at(const bf16*, const u32* pairs, int i) {
  return __uint_as_float(i % 2 ? pairs[i / 2] & 0xffff0000u : pairs[i / 2] << 16);
}

// 16 bytes: what one thread should read or write at once. n elements of T.
template <class T> struct Vector {
  static constexpr int n = 16 / sizeof(T);
  union { uint4 bits; u32 words[4]; T element[n]; };
  __device__ Vector() {}
  __device__ __forceinline__ float operator[](int i) const { return number_at(element, words, i); }
  __device__ __forceinline__ void set(int i, float x) { element[i] = from_float<T>(x); }
};

// p must be aligned to 16 bytes.
template <class T> __device__ __forceinline__ Vector<T> load_vector(const T* p) {
  Vector<T> v;
  v.bits = *reinterpret_cast<const uint4*>(p);
  return v;
}
template <class T> __device__ __forceinline__ void store_vector(T* p, const Vector<T>& v) { *reinterpret_cast<uint4*>(p) = v.bits; }

// Streaming: bytes that are not wanted again soon leave the caches to others.
template <class T> __device__ __forceinline__ Vector<T> load_vector_once(const T* p) {
  Vector<T> v;
  v.bits = __ldcs(reinterpret_cast<const uint4*>(p));
  return v;
}
template <class T> __device__ __forceinline__ void store_vector_once(T* p, const Vector<T>& v) { __stcs(reinterpret_cast<uint4*>(p), v.bits); }
