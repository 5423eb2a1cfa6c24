#include "shared_memory.h"

#include <link.h>
#include <sys/mman.h>

namespace emulator {
unsigned char* dynamic_shared;
unsigned dynamic_shared_bytes;

// One region for all launches, between two guards that cannot be touched. A block's bytes stand at its end as closely
// as their alignment allows: what is written further behind them traps, what falls in between is seen after the block.
constexpr size_t GUARD_BYTES = 64 * 1024;
constexpr size_t REGION_BYTES = 2 * GUARD_BYTES + (MOST_SHARED_BYTES + PAGE - 1) / PAGE * PAGE;
static unsigned char* region;
constexpr unsigned char BEHIND = 0xA5;
static thread_local char among_shared_variables;  // so that there is a place for them in every library

bool set_dynamic_shared_memory(unsigned bytes) {
  if (!region) {
    void* memory = mmap(nullptr, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    region = (unsigned char*)memory;
    mprotect(region, GUARD_BYTES, PROT_NONE);
    mprotect(region + REGION_BYTES - GUARD_BYTES, GUARD_BYTES, PROT_NONE);
  }
  uintptr_t end = (uintptr_t)region + REGION_BYTES - GUARD_BYTES;
  dynamic_shared_bytes = bytes;
  dynamic_shared = (unsigned char*)((end - bytes) / SHARED_ALIGNMENT * SHARED_ALIGNMENT);
  memset(dynamic_shared + bytes, BEHIND, end - (uintptr_t)dynamic_shared - bytes);
  return true;
}

Range dynamic_shared_range() { return {(uintptr_t)dynamic_shared, (uintptr_t)dynamic_shared + dynamic_shared_bytes}; }
Range dynamic_shared_region() { return {(uintptr_t)region, (uintptr_t)region + REGION_BYTES}; }

bool wrote_behind_shared_memory() {
  for (unsigned char* p = dynamic_shared + dynamic_shared_bytes; p < region + REGION_BYTES - GUARD_BYTES; p++)
    if (*p != BEHIND) {
      *p = BEHIND;
      return true;
    }
  return false;
}

// The dynamic linker knows where each library's thread-local variables are, and how large they are together.
static int find_thread_locals(dl_phdr_info* library, size_t, void* result) {
  Range& range = *(Range*)result;
  uintptr_t ours = (uintptr_t)&among_shared_variables;
  for (int i = 0; i < library->dlpi_phnum; i++) {
    const auto& part = library->dlpi_phdr[i];
    if (part.p_type != PT_TLS) continue;
    Range found{(uintptr_t)library->dlpi_tls_data, (uintptr_t)library->dlpi_tls_data + part.p_memsz};
    if (found.holds(ours)) {
      range = found;
      return 1;
    }
  }
  return 0;
}

Range static_shared_range() {
  static uintptr_t before, bytes;  // they lie alike in every thread
  uintptr_t ours = (uintptr_t)&among_shared_variables;
  if (!bytes) {
    Range range{ours, ours + 1};
    dl_iterate_phdr(find_thread_locals, &range);
    before = ours - range.begin;
    bytes = range.end - range.begin;
  }
  return {ours - before, ours - before + bytes};
}

void poison_shared_memory() {
  Range variables = static_shared_range();
  memset((void*)variables.begin, options.poison, variables.end - variables.begin);
  memset(dynamic_shared, options.poison, dynamic_shared_bytes);
}
}  // namespace emulator
