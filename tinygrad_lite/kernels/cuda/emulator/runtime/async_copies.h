#pragma once
#include "scheduler.h"

namespace emulator {
void reset_copies();  // before a block
}
