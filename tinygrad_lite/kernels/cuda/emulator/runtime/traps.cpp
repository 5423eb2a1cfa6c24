#include "traps.h"

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "shared_memory.h"

namespace emulator {
constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction before[4];
static stack_t stack_before;
static pthread_t launching_thread;
alignas(16) static char handler_stack[64 * 1024];  // the thread's own may be what overflowed

static void explain(int signal, const siginfo_t* info, const void* trapped) {
  char at[32] = "in a library that it calls";
  if (library_range().holds((uintptr_t)trapped))  // the instruction behind it, as calls leave it
    snprintf(at, sizeof at, "at {pc:%#x}", position_in_library(trapped) + 1);
  uintptr_t address = (uintptr_t)info->si_addr, stack = (uintptr_t)current->stack;
  if (signal == SIGFPE) fail("integer division by zero %s", at);
  if (signal == SIGILL) fail("reached a place that is marked as unreachable %s", at);
  if (Range{stack, stack + PAGE}.holds(address))
    fail("stack overflow: a thread has %zu KiB %s", STACK_BYTES / 1024, at);
  if (dynamic_shared_region().holds(address))
    fail("access outside of its %u bytes of dynamic shared memory %s", dynamic_shared_bytes, at);
  if (info->si_code == SI_KERNEL)  // the processor does not say which address; a vector's must be a multiple of 16
    fail("misaligned vector access, or an address that cannot be %s", at);
  fail("access to address %#zx, where there is no memory %s", address, at);
}

// Does not return: `fail` leaves this stack for the scheduler's, and the next trap begins at its top again.
static void handle(int signal, siginfo_t* info, void* context) {
  if (current && pthread_equal(pthread_self(), launching_thread))
    explain(signal, info, (const void*)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP]);
  for (int i = 0; i < 4; i++)  // not ours: another thread's. The instruction runs again, and traps again
    if (SIGNALS[i] == signal) sigaction(signal, &before[i], nullptr);
}

void catch_traps() {
  launching_thread = pthread_self();
  stack_t stack{};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof handler_stack;
  sigaltstack(&stack, &stack_before);
  struct sigaction ours{};
  ours.sa_sigaction = handle;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // NODEFER: the signal is not blocked, as we never return
  for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &ours, &before[i]);
}

void release_traps() {
  for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &before[i], nullptr);
  sigaltstack(&stack_before, nullptr);
}
}  // namespace emulator
