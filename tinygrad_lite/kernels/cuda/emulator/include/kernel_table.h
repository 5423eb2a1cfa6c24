// How Python finds and calls a kernel: by its name, a function that unpacks the arguments, and what these must be.
#pragma once

namespace emulator {
typedef void (*KernelCall)(void** arguments);

struct Parameter {
  char kind;  // p pointer, f float, i integer, s struct; 0 behind the last
  unsigned bytes;
};
struct KernelEntry {
  const char* name;
  KernelCall call;
  const Parameter* parameters;
};

template <class T> constexpr char kind_of() {
  return std::is_pointer_v<T> ? 'p' : std::is_floating_point_v<T> ? 'f' : std::is_integral_v<T> ? 'i' : 's';
}

template <auto KERNEL> struct Kernel;
template <class... P, void (*KERNEL)(P...)> struct Kernel<KERNEL> {
  static constexpr Parameter parameters[] = {{kind_of<P>(), sizeof(P)}..., {0, 0}};

  struct Call {
    NOT_CHECKED explicit Call(P... arguments) { KERNEL(arguments...); }
  };
  NOT_CHECKED static void call(void** arguments) {
    [[maybe_unused]] int i = 0;
    Call{*(P*)arguments[i++]...};  // braces evaluate from left to right; a call's parentheses in any order
  }
};
}  // namespace emulator
