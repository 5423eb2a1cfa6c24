// The processor's traps as errors of the kernel, instead of the end of the process.
#pragma once
#include "scheduler.h"

namespace emulator {
void catch_traps();    // from here
void release_traps();  // to here: then whoever handled them before does so again
}  // namespace emulator
