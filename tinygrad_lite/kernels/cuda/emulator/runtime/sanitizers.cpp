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
  fail("index %zd is out of the array's bounds at %s:%u", (ssize_t)index, file_name(found->location.file),
       found->location.line);
}
extern "C" void __ubsan_handle_type_mismatch_v1(TypeMismatch* found, size_t address) {
  fail("misaligned address %#zx, not a multiple of %u, at %s:%u", address, 1u << found->log_alignment,
       file_name(found->location.file), found->location.line);
}
