// Stacks, and switching between them: all that a thread needs in order to stop in the middle of a function.
#pragma once
#include "scheduler.h"

namespace emulator {
// Saves where the running code stands in *here, and goes on where `there` was saved.
extern "C" void emulator_switch_stacks(void** here, void* there);

// A stack of STACK_BYTES on which `entry` runs when it is first switched to. Its lowest page cannot be touched: a
// thread that uses too much is found, instead of writing over another. False where there is no memory.
bool give_stack(Thread& thread, void (*entry)());
void take_stack(Thread& thread);
}  // namespace emulator
