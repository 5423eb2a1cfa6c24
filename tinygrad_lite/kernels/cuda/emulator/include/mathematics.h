// Functions of real numbers. The C library has them; they are declared here because <cmath> would cost a fifth of a
// second at every compilation. Without a suffix they take float too, as in CUDA.
#pragma once

#define EMULATOR_OF_ONE(name)                                \
  extern "C" float name##f(float) noexcept;                  \
  extern "C" double name(double) noexcept;                   \
  __forceinline__ float name(float x) { return name##f(x); }
EMULATOR_OF_ONE(acos) EMULATOR_OF_ONE(asin) EMULATOR_OF_ONE(atan) EMULATOR_OF_ONE(cos) EMULATOR_OF_ONE(sin)
EMULATOR_OF_ONE(tan) EMULATOR_OF_ONE(cosh) EMULATOR_OF_ONE(sinh) EMULATOR_OF_ONE(tanh) EMULATOR_OF_ONE(acosh)
EMULATOR_OF_ONE(asinh) EMULATOR_OF_ONE(atanh) EMULATOR_OF_ONE(exp) EMULATOR_OF_ONE(exp2) EMULATOR_OF_ONE(expm1)
EMULATOR_OF_ONE(log) EMULATOR_OF_ONE(log2) EMULATOR_OF_ONE(log10) EMULATOR_OF_ONE(log1p) EMULATOR_OF_ONE(sqrt)
EMULATOR_OF_ONE(cbrt) EMULATOR_OF_ONE(ceil) EMULATOR_OF_ONE(floor) EMULATOR_OF_ONE(trunc) EMULATOR_OF_ONE(round)
EMULATOR_OF_ONE(rint) EMULATOR_OF_ONE(nearbyint) EMULATOR_OF_ONE(erf) EMULATOR_OF_ONE(erfc) EMULATOR_OF_ONE(lgamma)
EMULATOR_OF_ONE(tgamma) EMULATOR_OF_ONE(fabs)
#undef EMULATOR_OF_ONE

#define EMULATOR_OF_TWO(name)                                            \
  extern "C" float name##f(float, float) noexcept;                       \
  extern "C" double name(double, double) noexcept;                       \
  __forceinline__ float name(float x, float y) { return name##f(x, y); }
EMULATOR_OF_TWO(pow) EMULATOR_OF_TWO(fmod) EMULATOR_OF_TWO(remainder) EMULATOR_OF_TWO(copysign) EMULATOR_OF_TWO(fmax)
EMULATOR_OF_TWO(fmin) EMULATOR_OF_TWO(fdim) EMULATOR_OF_TWO(atan2) EMULATOR_OF_TWO(hypot) EMULATOR_OF_TWO(nextafter)
#undef EMULATOR_OF_TWO

extern "C" float fmaf(float, float, float) noexcept;
extern "C" double fma(double, double, double) noexcept;
__forceinline__ float fma(float x, float y, float z) { return fmaf(x, y, z); }
extern "C" float ldexpf(float, int) noexcept;
extern "C" double ldexp(double, int) noexcept;
extern "C" float scalbnf(float, int) noexcept;
extern "C" float frexpf(float, int*) noexcept;
extern "C" void sincosf(float, float*, float*) noexcept;

extern "C" int abs(int) noexcept;
__forceinline__ long abs(long x) { return x < 0 ? -x : x; }
__forceinline__ long long abs(long long x) { return x < 0 ? -x : x; }
__forceinline__ float abs(float x) { return fabsf(x); }
__forceinline__ double abs(double x) { return fabs(x); }

#ifndef INFINITY
#define INFINITY __builtin_inff()
#endif
#ifndef NAN
#define NAN __builtin_nanf("")
#endif
template <class T> __forceinline__ bool isnan(T x) { return __builtin_isnan(x); }
template <class T> __forceinline__ bool isinf(T x) { return __builtin_isinf(x) != 0; }
template <class T> __forceinline__ bool isfinite(T x) { return __builtin_isfinite(x); }
template <class T> __forceinline__ bool signbit(T x) { return __builtin_signbit(x) != 0; }

// min and max of floats give the number where the other is NaN.
template <class A, class B> __forceinline__ std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return fmin(T(a), T(b));
  else return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B> __forceinline__ std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return fmax(T(a), T(b));
  else return T(a) < T(b) ? T(b) : T(a);
}

__forceinline__ float rsqrtf(float x) { return 1.f / sqrtf(x); }
__forceinline__ double rsqrt(double x) { return 1. / sqrt(x); }
__forceinline__ float rsqrt(float x) { return rsqrtf(x); }

// The fast forms are less exact on a GPU than here: results between devices agree to a tolerance.
__forceinline__ float __expf(float x) { return expf(x); }
__forceinline__ float __exp10f(float x) { return powf(10.f, x); }
__forceinline__ float __logf(float x) { return logf(x); }
__forceinline__ float __log2f(float x) { return log2f(x); }
__forceinline__ float __sinf(float x) { return sinf(x); }
__forceinline__ float __cosf(float x) { return cosf(x); }
__forceinline__ void __sincosf(float x, float* sine, float* cosine) { sincosf(x, sine, cosine); }
__forceinline__ float __powf(float x, float y) { return powf(x, y); }
__forceinline__ float __fdividef(float x, float y) { return x / y; }
__forceinline__ float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }  // NaN becomes 0

// Rounded to nearest, and not fused with what stands around them. volatile: g++ must not contract them either.
__forceinline__ float __fadd_rn(float x, float y) { volatile float z = x + y; return z; }
__forceinline__ float __fsub_rn(float x, float y) { volatile float z = x - y; return z; }
__forceinline__ float __fmul_rn(float x, float y) { volatile float z = x * y; return z; }
__forceinline__ float __fdiv_rn(float x, float y) { return x / y; }
__forceinline__ float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
__forceinline__ float __fsqrt_rn(float x) { return sqrtf(x); }
__forceinline__ float __frcp_rn(float x) { return 1.f / x; }
__forceinline__ float __frsqrt_rn(float x) { return rsqrtf(x); }
__forceinline__ int __float2int_rn(float x) { return (int)rintf(x); }
__forceinline__ int __float2int_rz(float x) { return (int)x; }
__forceinline__ int __float2int_rd(float x) { return (int)floorf(x); }
__forceinline__ int __float2int_ru(float x) { return (int)ceilf(x); }
__forceinline__ float __int2float_rn(int x) { return (float)x; }
__forceinline__ float __uint2float_rn(unsigned x) { return (float)x; }
