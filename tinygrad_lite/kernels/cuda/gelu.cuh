// The two formulas of GELU: each gives its value at x and its slope, as kernels/cpu/gelu_formulas.py does and as exactly.
// NaN stays.
#pragma once
#include "pack.cuh"

// `near` is x within 40 of 0, where both tails have long vanished in float32: it keeps infinity times 0 out.
__device__ __forceinline__ float not_far_below(float x) { return max_nan(x, -40.f); }
__device__ __forceinline__ float near_zero(float x) { return min_nan(not_far_below(x), 40.f); }

// x P(Z < x), of slope P(Z < x) + x density(x). Hendrycks & Gimpel 2016, arXiv:1606.08415.
struct GeluErf {
  template <class T> static __device__ __forceinline__ void at(float x, float& value, float& slope) {
    const float near = near_zero(x), e = power_of_two<T>(near * near * -0.72134752f);
    // P(Z > |x|) = e t polynomial(t): erfc's relative accuracy far into the tail, where 1 + erf loses every digit, for
    // the exponential that the slope needs anyway. Hastings' form of 1955; coefficients of kernels/cpu/elementary.py.
    const float t = reciprocal<T>(1.f + 0.425f * fabsf(near));
    float p = 0.04151467606f;
    p = p * t - 0.20252311230f;
    p = p * t + 0.37454813719f;
    p = p * t - 0.27998059988f;
    p = p * t + 0.02122247592f;
    p = p * t - 0.01185513660f;
    p = p * t + 0.07910767943f;
    p = p * t + 0.13886466622f;
    p = p * t + 0.16955077648f;
    p = p * t + 0.16955049336f;
    const float tail = e * t * p, below = x < 0.f ? tail : 1.f - tail;
    value = not_far_below(x) * below;
    slope = below + near * e * 0.3989422804014327f;
  }
};

// x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): that is x (1 + tanh u) / 2, with the digits of its lower tail.
struct GeluTanh {
  template <class T> static __device__ __forceinline__ void at(float x, float& value, float& slope) {
    const float near = near_zero(x), square = near * near;
    const float e = power_of_two<T>(near * (-2.302208198f - 0.10294324f * square));  // e^-2u
    const float s = reciprocal<T>(1.f + e);
    const float spread = e > 1e18f ? s : e * s * s;  // s (1 - s), whose difference has no digits where s is near 1
    value = not_far_below(x) * s;
    slope = s + near * spread * (1.5957691216f + 0.21406444881f * square);
  }
};
