// Runs a grid: its blocks one after the other, the threads of a block in turns.
#include "scheduler.h"

#include <stdarg.h>

#include "async_copies.h"
#include "barriers.h"
#include "checks.h"
#include "fibers.h"
#include "shared_memory.h"
#include "warpgroup.h"

namespace emulator {
Options options;
Thread threads[MOST_THREADS];
Thread* current;
Block block;

static KernelCall kernel;
static void** kernel_arguments;
static void* scheduler_stack_pointer;
static char error[600];
static bool failed;
static unsigned exited;

void give_way() { emulator_switch_stacks(&current->stack_pointer, scheduler_stack_pointer); }

PlaceText text_of(const Place& place) {
  const char* slash = __builtin_strrchr(place.file, '/');
  PlaceText result;
  snprintf(result.text, sizeof result.text, "%s at %s:%d", place.operation, slash ? slash + 1 : place.file, place.line);
  return result;
}

// The scheduler ends the launch when it sees this.
static void note_error(const char* format, ...) {
  const uint3 b = block.index;
  int n = snprintf(error, sizeof error, "block (%u,%u,%u)", b.x, b.y, b.z);
  if (current) {
    const uint3 t = current->index;
    n += snprintf(error + n, sizeof error - n, " thread (%u,%u,%u)", t.x, t.y, t.z);
  }
  n += snprintf(error + n, sizeof error - n, ": ");
  va_list values;
  va_start(values, format);
  vsnprintf(error + n, sizeof error - n, format, values);
  va_end(values);
  failed = true;
}

// Neither returns to the thread: its stack is given to others as it is.
void fail(const char* format, ...) {
  char message[400];
  va_list values;
  va_start(values, format);
  vsnprintf(message, sizeof message, format, values);
  va_end(values);
  note_error("%s", message);
  give_way();
  __builtin_unreachable();
}
void fail_at(const Place& place, const char* format, ...) {
  char message[400];
  va_list values;
  va_start(values, format);
  vsnprintf(message, sizeof message, format, values);
  va_end(values);
  fail("%s: %s", text_of(place).text, message);
}

static void thread_begins() {
  kernel(kernel_arguments);
  current->state = State::EXITED;
  exited++;
  give_way();
}

static void run(Thread& thread) {
  current = &thread;
  if (thread.state == State::NEW) {
    if (!give_stack(thread, thread_begins)) return note_error("no memory for a thread's stack");
    thread.state = State::READY;
  }
  emulator_switch_stacks(&scheduler_stack_pointer, thread.stack_pointer);
  if (thread.state == State::EXITED) take_stack(thread);
}

static void note_deadlock() {
  current = threads;
  while (current->state == State::EXITED) current++;
  note_error("deadlock: waits for ever in %s; %u of %u threads have exited", text_of(*current->place).text, exited,
             block.threads);
}

// A whole warp runs until all its lanes wait for other warps, and only then the next: the largest lead of one warp over
// another that the barriers allow. Returns whether anything ran.
static bool run_warps(bool descending) {
  bool ran = false;
  unsigned warps = (block.threads + WARP - 1) / WARP;
  for (unsigned k = 0; k < warps; k++) {
    unsigned warp = descending ? warps - 1 - k : k, begin = warp * WARP;
    unsigned lanes = block.threads - begin < WARP ? block.threads - begin : WARP;
    for (bool again = true; again;) {
      again = false;
      for (unsigned j = 0; j < lanes; j++) {
        Thread& thread = threads[begin + (descending ? lanes - 1 - j : j)];
        if (thread.state > State::READY) continue;
        run(thread);
        if (failed) return true;
        ran = again = true;
      }
    }
  }
  return ran;
}

static unsigned random_below(unsigned n) {
  options.random = options.random * 6364136223846793005ull + 1442695040888963407ull;
  return (unsigned)((options.random >> 33) % n);
}

// Every thread that can goes on to its next barrier or warp operation, in a new order each time.
static bool run_shuffled(unsigned (&order)[MOST_THREADS]) {
  bool ran = false;
  for (unsigned i = block.threads - 1; i > 0; i--) {
    unsigned j = random_below(i + 1), swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
  for (unsigned i = 0; i < block.threads; i++) {
    Thread& thread = threads[order[i]];
    if (thread.state > State::READY) continue;
    run(thread);
    if (failed) return true;
    ran = true;
  }
  return ran;
}

static void run_block() {
  static unsigned order[MOST_THREADS];
  for (unsigned i = 0; i < block.threads; i++) {
    Thread& thread = threads[i];
    thread = Thread();
    thread.index = {i % block.size.x, i / block.size.x % block.size.y, i / (block.size.x * block.size.y)};
    thread.number = order[i] = i;
    thread.warp = i / WARP;
    thread.lane = i % WARP;
  }
  exited = 0;
  reset_barriers();
  reset_copies();
  reset_products();
  poison_shared_memory();
  check_block_begins();
  while (exited < block.threads && !failed) {
    bool ran = options.order == Order::RANDOM ? run_shuffled(order) : run_warps(options.order == Order::DESCENDING);
    if (!ran) note_deadlock();
  }
  check_block_ends();
  for (unsigned i = 0; i < block.threads; i++) take_stack(threads[i]);
  current = nullptr;
  if (const PlaceText trouble = unfinished_products(); !failed && trouble.text[0]) note_error("%s", trouble.text);
  if (!failed && wrote_behind_shared_memory())
    note_error("wrote behind its %u bytes of dynamic shared memory", dynamic_shared_bytes);
}

const char* run_grid(KernelCall call, void** arguments) {
  kernel = call;
  kernel_arguments = arguments;
  failed = false;
  current = nullptr;
  uint64_t blocks = (uint64_t)block.grid.x * block.grid.y * block.grid.z;
  for (uint64_t k = 0; k < blocks && !failed; k++) {
    block.number = options.order == Order::DESCENDING ? blocks - 1 - k : k;
    block.index.x = block.number % block.grid.x;
    block.index.y = block.number / block.grid.x % block.grid.y;
    block.index.z = block.number / block.grid.x / block.grid.y;
    run_block();
  }
  return failed ? error : nullptr;
}
}  // namespace emulator
