// What mode "race" learns of a launch (race_checks.cpp, access_counts.cpp, trace.cpp). In mode "fast" nothing of it is
// compiled.
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
void check_product_begins(const Access& from);  // for every 16 bytes that a wgmma reads
void check_product_ends(const Access& from);
void check_publish(const Thread& thread);

void check_launch_begins();
void check_block_begins();
void check_block_ends();
void check_barrier_begins();                // when the last thread has come
void check_barrier_passed(Thread& thread);  // then for each of them
void check_syncwarp(unsigned warp, unsigned mask);

void count_access(const Access& access, bool shared);
void count_block_ends();

// All of them do nothing unless a trace was asked for.
void trace_access(const Access& access, bool shared, bool atomic);
void trace_copy(const void* to, const void* from, unsigned bytes, const void* instruction);
void trace_copy_lands(const void* to);
void trace_commit(const void* instruction);
void trace_wait(int groups_left, const void* instruction);
void trace_meeting();  // threads have met; then for each of them one of
void trace_barrier(const Thread& thread, const Place& place);
void trace_lane(const Thread& lane, unsigned mask, const Place& place, const LaneOperation& operation);
#else
inline void check_publish(const Thread&) {}
inline void check_launch_begins() {}
inline void check_block_begins() {}
inline void check_block_ends() {}
inline void check_barrier_begins() {}
inline void check_barrier_passed(Thread&) {}
inline void check_syncwarp(unsigned, unsigned) {}
inline void trace_commit(const void*) {}
inline void trace_wait(int, const void*) {}
inline void trace_meeting() {}
inline void trace_barrier(const Thread&, const Place&) {}
inline void trace_lane(const Thread&, unsigned, const Place&, const LaneOperation&) {}
#endif
}  // namespace emulator
