// What Python calls (module.py).
#include "checks.h"
#include "shared_memory.h"
#include "traps.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace emulator {
static const char* refused(dim3 grid, dim3 size, unsigned shared_bytes) {
  static char text[200];
  uint64_t threads = (uint64_t)size.x * size.y * size.z;
  if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    snprintf(text, sizeof text, "CUDA_ERROR_INVALID_VALUE: a grid of %u x %u x %u blocks: at least 1, at most "
             "2147483647 x 65535 x 65535", grid.x, grid.y, grid.z);
  else if (!threads || threads > MOST_THREADS || size.x > 1024 || size.y > 1024 || size.z > 64)
    snprintf(text, sizeof text, "CUDA_ERROR_INVALID_VALUE: a block of %u x %u x %u threads: 1 to 1024 in all, z to 64",
             size.x, size.y, size.z);
  else if (shared_bytes > MOST_SHARED_BYTES)
    snprintf(text, sizeof text, "CUDA_ERROR_INVALID_VALUE: %u bytes of dynamic shared memory: at most %u", shared_bytes,
             MOST_SHARED_BYTES);
  else if (!set_dynamic_shared_memory(shared_bytes))
    snprintf(text, sizeof text, "no memory for dynamic shared memory");
  else
    return nullptr;
  return text;
}
}  // namespace emulator

using namespace emulator;

EXPORTED void emulator_set_options(int order, int lazy_copies, int poison, uint64_t seed) {
  options = {(Order)order, lazy_copies != 0, (unsigned char)poison, 2 * seed + 1};
}

// Returns what went wrong, or nullptr. The text is good until the next launch.
EXPORTED const char* emulator_launch(KernelCall kernel, const unsigned* grid, const unsigned* size,
                                     unsigned shared_bytes, void** arguments) {
  block.grid = dim3(grid[0], grid[1], grid[2]);
  block.size = dim3(size[0], size[1], size[2]);
  block.threads = size[0] * size[1] * size[2];
  if (const char* error = refused(block.grid, block.size, shared_bytes)) return error;
  check_launch_begins();
  catch_traps();
  const char* error = run_grid(kernel, arguments);
  release_traps();
  fflush(stdout);  // what kernels printed
  return error;
}
