// cp.async: a copy that a thread begins and waits for later. A GPU may do it at any moment in between, so here it is
// done at the first (options.lazy_copies = false) or at the last: a kernel that waits properly cannot tell.
#include "async_copies.h"

#include <vector>

#include "checks.h"

namespace emulator {
struct Copy {
  void* to;
  const void* from;
  int bytes, group;
  const void* called_from;
};
struct Copies {
  std::vector<Copy> begun;
  int group = 0;  // into which copies go now; the ones before are committed
};
static Copies copies[MOST_THREADS];
constexpr int COPY_BYTES = 16;

void reset_copies() {
  for (unsigned i = 0; i < block.threads; i++) {
    copies[i].begun.clear();
    copies[i].group = 0;
  }
}

static void move(const Copy& copy) {
  memcpy(copy.to, copy.from, copy.bytes);
  memset((char*)copy.to + copy.bytes, 0, COPY_BYTES - copy.bytes);
}

void wait_for_copies(int groups_left) {
  trace_wait(groups_left, __builtin_return_address(0));
  Copies& mine = copies[current->number];
  size_t done = 0;
  for (; done < mine.begun.size() && mine.begun[done].group < mine.group - groups_left; done++) {
    const Copy& copy = mine.begun[done];
    if (options.lazy_copies) move(copy);
#ifdef EMULATOR_CHECKS
    check_copy_ends({(uintptr_t)copy.to, COPY_BYTES, true, copy.called_from, *current});
    trace_copy_lands(copy.to);
#endif
  }
  mine.begun.erase(mine.begun.begin(), mine.begun.begin() + done);
}
}  // namespace emulator

using namespace emulator;

void cp_async16(void* to, const void* from, int bytes, const char* file, int line) {
  const Place place{"cp_async16", file, line};
  if ((uintptr_t)to % COPY_BYTES || (uintptr_t)from % COPY_BYTES)
    fail_at(place, "misaligned address: both must be multiples of 16");
  if (bytes < 0 || bytes > COPY_BYTES) fail_at(place, "%d bytes of 16", bytes);
  Copy copy{to, from, bytes, copies[current->number].group, __builtin_return_address(0)};
#ifdef EMULATOR_CHECKS
  check_copy_begins({(uintptr_t)from, (unsigned)bytes, false, copy.called_from, *current},
                    {(uintptr_t)to, COPY_BYTES, true, copy.called_from, *current});
  trace_copy(to, from, bytes, copy.called_from);
#endif
  if (!options.lazy_copies) move(copy);
  copies[current->number].begun.push_back(copy);
}

void cp_async_commit() {
  trace_commit(__builtin_return_address(0));
  copies[current->number].group++;
}
