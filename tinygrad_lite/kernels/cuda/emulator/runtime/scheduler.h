// What the parts of the runtime share.
#pragma once
#include "../include/cuda_on_cpu.h"

namespace emulator {
constexpr unsigned WARP = 32, MOST_THREADS = 1024;
constexpr size_t STACK_BYTES = 256 * 1024, PAGE = 4096;

enum class Order { ASCENDING, DESCENDING, RANDOM };
struct Options {
  Order order;
  bool lazy_copies;
  unsigned char poison;
  uint64_t random;
};
extern Options options;
extern Thread threads[MOST_THREADS];  // of the running block

// Runs a kernel over block.grid. Returns the error that ended it, or nullptr.
const char* run_grid(KernelCall kernel, void** arguments);

// The current thread stops here, and the scheduler runs others; it goes on when it is READY again.
void give_way();

struct Range {
  uintptr_t begin, end;
  bool holds(uintptr_t address, size_t bytes = 1) const { return address >= begin && address + bytes <= end; }
};

// This library's own file in memory (the linker sets both ends), and where in it an instruction is, for addr2line.
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start[], _end[];
inline Range library_range() { return {(uintptr_t)__ehdr_start, (uintptr_t)_end}; }
inline uint32_t position_in_library(const void* instruction) {
  return (uint32_t)((uintptr_t)instruction - (uintptr_t)__ehdr_start);
}

// "__syncthreads at layer_norm.cu:12".
struct PlaceText {
  char text[160];
};
PlaceText text_of(const Place& place);
}  // namespace emulator
