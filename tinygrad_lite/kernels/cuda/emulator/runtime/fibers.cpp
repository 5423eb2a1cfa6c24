#include "fibers.h"

#include <sys/mman.h>

// A function may change the registers rax, rcx, rdx, rsi, rdi, r8 to r11 and the vectors: the caller keeps what it
// needs of those. So a switch, being a function call, has only the other six to save, on the stack that it leaves, and
// takes them from the stack that it enters. `ret` then returns to where that stack's owner called from.
asm(R"(
.text
.globl emulator_switch_stacks
.hidden emulator_switch_stacks
.type emulator_switch_stacks, @function
emulator_switch_stacks:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size emulator_switch_stacks, .-emulator_switch_stacks
)");

namespace emulator {
// Stacks that nobody uses. The last one used is the first used again: it is in the cache. All libraries of a process
// take from one heap: a stack with its guard is two of the 65,530 mappings that Linux allows a process.
struct Stacks {
  size_t count;
  char* free[MOST_THREADS];
};
static Stacks own_stacks, *stacks = &own_stacks;

bool give_stack(Thread& thread, void (*entry)()) {
  if (!stacks->count) {
    int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, kind, -1, 0);
    if (memory == MAP_FAILED) return false;
    mprotect(memory, PAGE, PROT_NONE);
    stacks->free[stacks->count++] = (char*)memory;
  }
  thread.stack = stacks->free[--stacks->count];
  // Tops at equal distances from a page's begin would compete for the same few lines of the cache: they are spread.
  size_t spread = (uintptr_t)thread.stack / STACK_BYTES * 320 % (2 * PAGE);
  // As if `entry` had been interrupted by a switch before its first instruction. The odd slot below the top is where
  // a call would have left the return address: functions rely on that alignment.
  void** top = (void**)(thread.stack + STACK_BYTES - 64 - spread);
  *--top = nullptr;
  *--top = (void*)entry;
  for (int registers = 0; registers < 6; registers++) *--top = nullptr;
  thread.stack_pointer = top;
  return true;
}

void take_stack(Thread& thread) {
  if (thread.stack) {
    if (stacks->count < MOST_THREADS) {
      stacks->free[stacks->count++] = thread.stack;
    } else {  // left over from launches that failed
      munmap(thread.stack, STACK_BYTES);
    }
  }
  thread.stack = nullptr;
}
}  // namespace emulator

// heap: room for a Stacks, that of all libraries; before the first launch.
extern "C" __attribute__((visibility("default"))) void emulator_share_stacks(void* heap) { emulator::stacks = (emulator::Stacks*)heap; }
