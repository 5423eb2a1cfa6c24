#pragma once
#include "scheduler.h"

namespace emulator {
constexpr unsigned CHUNK_BYTES = 16;  // that a product reads at once

void reset_products();                                           // before a block
void check_warpgroups_meet(unsigned warps, const Place& place);  // these warps, as bits, have all come to a barrier
PlaceText unfinished_products();                                 // after a block: what is wrong, or an empty text

// The product, by its instruction, that is changing these bytes of a thread's stack, or nullptr.
const void* product_into(const Thread& thread, uintptr_t address, unsigned bytes);
}  // namespace emulator
