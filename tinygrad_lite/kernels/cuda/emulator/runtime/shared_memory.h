// A block's shared memory: what __shared__ declares, and what the launch asks for.
#pragma once
#include "scheduler.h"

namespace emulator {
constexpr unsigned MOST_SHARED_BYTES = 227 * 1024;  // of one block, on sm_90
constexpr unsigned SHARED_ALIGNMENT = 1024;
extern unsigned dynamic_shared_bytes;

Range dynamic_shared_range();
Range dynamic_shared_region();  // with its guards, which cannot be touched
Range static_shared_range();    // of the calling thread of the operating system

bool set_dynamic_shared_memory(unsigned bytes);  // false where there is no memory
void poison_shared_memory();                     // before a block
bool wrote_behind_shared_memory();               // after it
}  // namespace emulator
