// g++ -fsanitize=bounds,alignment inserts tests and, where one fails, a call; its own library would print a line and go
// on, so these are answered here.
#include "scheduler.h"

namespace emulator {
struct SourceLocation {
  const char* file;
  unsigned line, column;
};
struct OutOfBounds {
  SourceLocation location;
};
struct TypeMismatch {
  SourceLocation location;
  const void* type;
  unsigned char log_alignment, kind;
};
}  // namespace emulator

using namespace emulator;
extern "C" void __ubsan_handle_out_of_bounds(OutOfBounds* found, size_t index) {
  fail_at({"array", found->location.file, (int)found->location.line}, "index %td is out of bounds", (ptrdiff_t)index);
}
extern "C" void __ubsan_handle_type_mismatch_v1(TypeMismatch* found, size_t address) {
  fail_at({"access", found->location.file, (int)found->location.line}, "misaligned address %#zx, not a multiple of %u",
          address, 1u << found->log_alignment);
}
