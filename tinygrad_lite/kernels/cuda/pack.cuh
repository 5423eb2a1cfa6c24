// A pack: the neighbours along a row that a thread reads at once. 16 bytes of them where rows are aligned, else one.
#pragma once
#include "numbers.cuh"

// One element, with Vector's methods.
template <class T> struct Single {
  static constexpr int n = 1;
  T element;
  __device__ Single() {}
  __device__ __forceinline__ float operator[](int) const { return to_float(element); }
  __device__ __forceinline__ void set(int, float x) { element = from_float<T>(x); }
};

template <class T, bool VECTORS> struct PackOf { typedef Vector<T> type; };
template <class T> struct PackOf<T, false> { typedef Single<T> type; };
template <class T, bool VECTORS> using Pack = typename PackOf<T, VECTORS>::type;

template <bool VECTORS, class T> __device__ __forceinline__ Pack<T, VECTORS> load_pack(const T* p) {
  if constexpr (VECTORS) return load_vector(p);
  else { Single<T> x; x.element = *p; return x; }
}

// Once: the bytes are not wanted again soon. A warp's single elements share their 32-byte sectors, so those are kept.
template <bool VECTORS, class T> __device__ __forceinline__ Pack<T, VECTORS> load_pack_once(const T* p) {
  if constexpr (VECTORS) return load_vector_once(p);
  else return load_pack<VECTORS>(p);
}
template <class T> __device__ __forceinline__ void store_pack(T* p, const Vector<T>& x) { store_vector(p, x); }
template <class T> __device__ __forceinline__ void store_pack(T* p, const Single<T>& x) { *p = x.element; }
template <class T> __device__ __forceinline__ void store_pack_once(T* p, const Vector<T>& x) {
  store_vector_once(p, x);
}
template <class T> __device__ __forceinline__ void store_pack_once(T* p, const Single<T>& x) { *p = x.element; }

// 2^x, e^x and 1/x, as exactly as an element can show. 16-bit elements are 4 bytes of traffic each, which an H100 moves in
// the time of some 30 instructions, an H200 of 28; expf and an exact division take 20 of them, the approximations 4
// (2^-19 relative for |x| < 8, 2^-16 at 80; what is below 2^-126 is 0).
template <class T> __device__ __forceinline__ float power_of_two(float x) {
  return sizeof(T) == 2 ? exp2_approx(x) : exp2f(x);
}
template <class T> __device__ __forceinline__ float exponential(float x) {
  return sizeof(T) == 2 ? exp2_approx(x * 1.4426950408889634f) : expf(x);
}
template <class T> __device__ __forceinline__ float reciprocal(float x) {
  return sizeof(T) == 2 ? reciprocal_approx(x) : 1.f / x;
}
