// Barriers of a block: every thread waits there for all others.
#pragma once

namespace emulator {
// Returns how many threads came with vote = true. All must come from the same line. Barrier 0 is the whole block's.
unsigned block_barrier(unsigned barrier, unsigned threads, bool vote, const Place& place,
                       const void* called_from = nullptr);

NOT_CHECKED inline unsigned whole_block(bool vote, const Place& place) {
  return block_barrier(0, block.threads, vote, place, CALLER);
}
}  // namespace emulator

inline void __syncthreads(CALLED_FROM) { emulator::whole_block(false, {"__syncthreads", file, line}); }
inline int __syncthreads_count(int predicate, CALLED_FROM) {
  return emulator::whole_block(predicate != 0, {"__syncthreads_count", file, line});
}
inline int __syncthreads_or(int predicate, CALLED_FROM) {
  return emulator::whole_block(predicate != 0, {"__syncthreads_or", file, line}) != 0;
}
inline int __syncthreads_and(int predicate, CALLED_FROM) {
  return emulator::whole_block(predicate == 0, {"__syncthreads_and", file, line}) == 0;
}

// PTX's bar.sync: the first `threads` threads to come to one of barriers 1 to 15 wait for each other; whole warps. (A
// race between a thread that takes part and one that does not may go unseen.)
inline void barrier_sync(unsigned barrier, unsigned threads, CALLED_FROM) {
  emulator::block_barrier(barrier, threads, false, {"barrier_sync", file, line});
}
