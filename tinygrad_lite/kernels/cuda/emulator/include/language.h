// The words that CUDA adds to C++.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>  // printf works in kernels
#include <type_traits>

#ifndef EMULATOR_ARCH
#define EMULATOR_ARCH 900
#endif
#define __CUDA_ARCH__ EMULATOR_ARCH

#define __global__ __attribute__((noinline))
#define __device__ __attribute__((unused))
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static

// compiler.py moves the bound into the kernel's body, as CHECK_LAUNCH_BOUNDS, where C++ can evaluate and test it.
#define __launch_bounds__(...)
#define CHECK_LAUNCH_BOUNDS(...) emulator::check_launch_bounds(__VA_ARGS__)

// One block runs at a time, so its shared memory may be one static object. That it is thread-local puts all of a
// kernel file's shared variables, and nothing else, into one place (the library's TLS block), which the runtime
// finds, fills with poison before every block, and watches.
#define __shared__ static __thread

namespace emulator {
// In mode "race" g++ inserts a call before every read and write of a kernel. Not in the emulator's own functions:
#define NOT_CHECKED __attribute__((no_sanitize("thread")))

// Where an operation stands in the kernel's source: the last parameters of every function that can fail.
#define CALLED_FROM const char *file = __builtin_FILE(), int line = __builtin_LINE()

// Who called this function, of the functions that g++ cannot inline: those that are not checked, where it checks.
#ifdef EMULATOR_CHECKS
#define CALLER __builtin_return_address(0)
#else
#define CALLER nullptr
#endif

struct Place {  // an operation in the kernel's source
  const char* operation;
  const char* file;
  int line;
};

// Ends the launch with a message, which block and thread precede; and the place.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2), cold));
[[noreturn]] void fail_at(const Place& place, const char* format, ...) __attribute__((format(printf, 2, 3), cold));
}  // namespace emulator

inline void __trap(CALLED_FROM) { emulator::fail_at({"__trap", file, line}, "was reached"); }
