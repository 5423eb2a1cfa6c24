// Integers, and numbers as their bits.
#pragma once

extern "C" void* memcpy(void*, const void*, size_t) noexcept;
extern "C" void* memset(void*, int, size_t) noexcept;

namespace emulator {
template <class To, class From> __forceinline__ To same_bits(From x) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, x);
}
}  // namespace emulator

__forceinline__ unsigned __float_as_uint(float x) { return emulator::same_bits<unsigned>(x); }
__forceinline__ int __float_as_int(float x) { return emulator::same_bits<int>(x); }
__forceinline__ float __uint_as_float(unsigned x) { return emulator::same_bits<float>(x); }
__forceinline__ float __int_as_float(int x) { return emulator::same_bits<float>(x); }
__forceinline__ long long __double_as_longlong(double x) { return emulator::same_bits<long long>(x); }
__forceinline__ double __longlong_as_double(long long x) { return emulator::same_bits<double>(x); }

__forceinline__ int __popc(unsigned x) { return __builtin_popcount(x); }
__forceinline__ int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
__forceinline__ int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
__forceinline__ int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
__forceinline__ int __ffs(int x) { return __builtin_ffs(x); }
__forceinline__ int __ffsll(long long x) { return __builtin_ffsll(x); }
__forceinline__ unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
  return y;
}
__forceinline__ int __mulhi(int x, int y) { return (int)((long long)x * y >> 32); }
__forceinline__ unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((unsigned long long)x * y >> 32); }
__forceinline__ unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return (unsigned long long)((unsigned __int128)x * y >> 64);
}
// The upper word of upper:lower, shifted left by `shift` modulo 32; to the right, the lower word.
__forceinline__ unsigned __funnelshift_l(unsigned lower, unsigned upper, unsigned shift) {
  return (unsigned)(((unsigned long long)upper << 32 | lower) << (shift & 31) >> 32);
}
__forceinline__ unsigned __funnelshift_r(unsigned lower, unsigned upper, unsigned shift) {
  return (unsigned)(((unsigned long long)upper << 32 | lower) >> (shift & 31));
}

__forceinline__ long long clock64() { return 0; }
__forceinline__ void __nanosleep(unsigned) {}
