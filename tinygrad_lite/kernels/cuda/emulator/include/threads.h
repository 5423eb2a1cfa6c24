// What a kernel's thread knows of itself.
//
// Every CUDA thread is a fiber: a function call with a stack of its own, that gives way to others only where it must
// wait for them, at a barrier or a warp operation. The scheduler (../runtime/scheduler.cpp) runs the threads of a
// block in turns, and one block after the other.
#pragma once

namespace emulator {

enum class State : unsigned char { NEW, READY, AT_BARRIER, AT_COLLECTIVE, EXITED };

struct Thread {
  uint3 index;                   // threadIdx
  unsigned number, warp, lane;   // in the block; number / 32; number % 32
  State state;
  char* stack;                   // its memory, while it runs
  void* stack_pointer;           // where it goes on
  const Place* place;            // the operation at which it waits
  unsigned barrier;              // the barrier at which it waits
  unsigned votes;                // the votes of the block, after a barrier that counts them
  const void* input;             // what it brings to a warp operation,
  void* output;                  // and where it wants the result
  const void* called_from;       // the instruction after the call of that operation
  unsigned passed_barrier;       // when it last passed a barrier (race_checks.cpp)
};

struct Block {
  uint3 index;  // blockIdx
  dim3 size, grid;
  unsigned threads, number;  // how many threads it has; which block it is, counted along x, y, z
};

extern Thread* current;
extern Block block;

NOT_CHECKED inline uint3 thread_index() { return current->index; }
NOT_CHECKED inline uint3 block_index() { return block.index; }
NOT_CHECKED inline dim3 block_size() { return block.size; }
NOT_CHECKED inline dim3 grid_size() { return block.grid; }

NOT_CHECKED inline void check_launch_bounds(unsigned most, unsigned = 0, unsigned = 0) {
  if (block.threads > most) fail("launched with %u threads a block, above __launch_bounds__(%u)", block.threads, most);
}
}  // namespace emulator

#define threadIdx (emulator::thread_index())
#define blockIdx (emulator::block_index())
#define blockDim (emulator::block_size())
#define gridDim (emulator::grid_size())
constexpr int warpSize = 32;
