// What mode "race" learns of a launch (race_checks.cpp, access_counts.cpp). In mode "fast" nothing of it is compiled.
#pragma once
#include "scheduler.h"

namespace emulator {
#ifdef EMULATOR_CHECKS
struct Access {
  uintptr_t address;
  unsigned bytes;
  bool write;
  const void* instruction;  // the one behind it
  Thread& thread;
};
void check_access(const Access& access);
void check_copy_begins(const Access& from, const Access& to);
void check_copy_ends(const Access& to);

void check_launch_begins();
void check_block_begins();
void check_block_ends();
void check_barrier_begins();                // when the last thread has come
void check_barrier_passed(Thread& thread);  // then for each of them
void check_syncwarp(unsigned warp, unsigned mask);

void count_access(const Access& access, bool shared);
void count_block_ends();
#else
inline void check_launch_begins() {}
inline void check_block_begins() {}
inline void check_block_ends() {}
inline void check_barrier_begins() {}
inline void check_barrier_passed(Thread&) {}
inline void check_syncwarp(unsigned, unsigned) {}
#endif
}  // namespace emulator
