#pragma once
#include "scheduler.h"

namespace emulator {
void reset_barriers();  // before a block
}
