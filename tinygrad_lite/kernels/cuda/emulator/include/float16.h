// float16, rounded to nearest, ties to even, by the processor (F16C). Arithmetic rounds after every operation.
#pragma once

struct __half {
  uint16_t bits;

  __half() = default;
  __half(float x) { bits = isnan(x) ? 0x7fff : emulator::same_bits<uint16_t>((_Float16)x); }
  operator float() const { return (float)emulator::same_bits<_Float16>(bits); }
};
struct alignas(4) __half2 {
  __half x, y;
};
typedef __half half;
typedef __half2 half2;

#define EMULATOR_OPERATOR(op)                                                            \
  __forceinline__ half operator op(half x, half y) { return float(x) op float(y); }      \
  __forceinline__ half& operator op##=(half& x, half y) { return x = x op y; }
EMULATOR_OPERATOR(+)
EMULATOR_OPERATOR(-)
EMULATOR_OPERATOR(*)
EMULATOR_OPERATOR(/)
#undef EMULATOR_OPERATOR

__forceinline__ half __float2half(float x) { return x; }
__forceinline__ half __float2half_rn(float x) { return x; }
__forceinline__ float __half2float(half x) { return x; }
__forceinline__ half2 __floats2half2_rn(float x, float y) { return {x, y}; }
__forceinline__ half2 __float22half2_rn(float2 v) { return {v.x, v.y}; }
__forceinline__ half2 __halves2half2(half x, half y) { return {x, y}; }
__forceinline__ half2 make_half2(half x, half y) { return {x, y}; }
__forceinline__ float2 __half22float2(half2 v) { return {v.x, v.y}; }
__forceinline__ unsigned short __half_as_ushort(half x) { return x.bits; }
__forceinline__ half __ushort_as_half(unsigned short bits) {
  half x;
  x.bits = bits;
  return x;
}
