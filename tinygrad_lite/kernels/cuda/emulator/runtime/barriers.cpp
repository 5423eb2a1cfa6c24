// Where threads meet: the barriers of the block, and the operations of a warp.
#include "barriers.h"

#include "checks.h"
#include "warpgroup.h"

namespace emulator {
constexpr unsigned BARRIERS = 16;
// Operations of one warp that may be under way at once, each for lanes of its own.
constexpr unsigned MEETINGS = 8;

struct Barrier {
  unsigned arrived, expected, votes;
  Place place;  // of the first to come
};
struct Meeting {
  unsigned mask, here;
  Place place;
};
static Barrier barriers[BARRIERS];
static Meeting meetings[MOST_THREADS / WARP][MEETINGS];

void reset_barriers() {
  memset(barriers, 0, sizeof barriers);
  memset(meetings, 0, sizeof meetings);
}

// The same text is mostly one object, too; the comparison of every letter would show in the time of a launch.
__forceinline__ bool same(const char* a, const char* b) { return a == b || !__builtin_strcmp(a, b); }
__forceinline__ bool same(const Place& a, const Place& b) {
  return a.line == b.line && same(a.operation, b.operation) && same(a.file, b.file);
}

// In ascending order the last to arrive runs on; in the others it queues, so that either is tried.
static void continue_or_queue() {
  current->state = State::READY;
  if (options.order != Order::ASCENDING) give_way();
}

unsigned block_barrier(unsigned number, unsigned expected, bool vote, const Place& place, const void* called_from) {
  Thread& me = *current;
  if (number >= BARRIERS) fail_at(place, "there are barriers 0 to 15, not %u", number);
  Barrier& barrier = barriers[number];
  if (barrier.arrived && barrier.expected != expected)
    fail_at(place, "barrier %u with %u threads, which others began with %u", number, expected, barrier.expected);
  if (barrier.arrived && !same(barrier.place, place))
    fail_at(place, "divergent barrier: others wait in %s", text_of(barrier.place).text);
  if (!barrier.arrived) barrier = {0, expected, 0, place};
  me.place = &place;
  me.barrier = number;
  me.called_from = called_from;
  barrier.votes += vote;
  if (++barrier.arrived < expected) {
    me.state = State::AT_BARRIER;
    give_way();
    return me.votes;
  }
  check_barrier_begins();
  trace_meeting();
  barrier.arrived = 0;
  unsigned warps = 0;  // as bits
  for (unsigned i = 0; i < block.threads; i++) {
    Thread& thread = threads[i];
    if (&thread != &me && (thread.state != State::AT_BARRIER || thread.barrier != number)) continue;
    warps |= 1u << thread.warp;
    thread.state = State::READY;
    thread.votes = barrier.votes;
    check_barrier_passed(thread);
    trace_barrier(thread, barrier.place);
  }
  check_warpgroups_meet(warps, place);
  continue_or_queue();
  return me.votes;
}

// The operation of this warp with this mask that others have begun, or a new one.
static Meeting& meeting_for(unsigned mask, const Place& place) {
  Meeting* unused = nullptr;
  for (Meeting& meeting : meetings[current->warp]) {
    if (!meeting.here) {
      if (!unused) unused = &meeting;
    } else if (meeting.mask == mask) {
      if (same(meeting.place, place)) return meeting;
      fail_at(place, "warp divergence: other lanes of the mask wait in %s", text_of(meeting.place).text);
    } else if (meeting.mask & mask) {
      fail_at(place, "warp divergence: of its mask %08x, lanes wait in %s with mask %08x", mask,
              text_of(meeting.place).text, meeting.mask);
    }
  }
  unsigned lanes = block.threads - current->warp * WARP;
  unsigned existing = lanes >= WARP ? ~0u : (1u << lanes) - 1;
  if (mask & ~existing)
    fail_at(place, "mask %08x names lanes that the block of %u threads does not have", mask, block.threads);
  if (!unused) fail_at(place, "more than %u operations of a warp at once", MEETINGS);
  *unused = {mask, 0, place};
  return *unused;
}

void collective(unsigned mask, const Place& place, const LaneOperation& operation, const void* input, void* output,
                const void* called_from) {
  Thread& me = *current;
  if (!(mask >> me.lane & 1))
    fail_at(place, "lane %u calls with mask %08x, which does not name it", me.lane, mask);
  Meeting& meeting = meeting_for(mask, place);
  me.place = &place;
  me.input = input;
  me.output = output;
  me.called_from = called_from;
  meeting.here |= 1u << me.lane;
  if (meeting.here != mask) {
    me.state = State::AT_COLLECTIVE;
    return give_way();
  }
  meeting.here = 0;
  Thread* lanes[WARP];
  for (unsigned lane = 0; lane < WARP; lane++)
    lanes[lane] = mask >> lane & 1 ? &threads[me.warp * WARP + lane] : nullptr;
  operation.compute(lanes, mask);
  trace_meeting();
  for (Thread* lane : lanes) {
    if (!lane) continue;
    trace_lane(*lane, mask, place, operation);
    lane->state = State::READY;
  }
  continue_or_queue();
}

static void syncwarp_lanes(Thread* const (&)[32], unsigned mask) { check_syncwarp(current->warp, mask); }

void syncwarp(unsigned mask, const Place& place) {
  static constexpr LaneOperation SYNCWARP{syncwarp_lanes};
  collective(mask, place, SYNCWARP, nullptr, nullptr);
}

static void ballot_lanes(Thread* const (&lanes)[32], unsigned) {
  unsigned votes = 0;
  for (Thread* lane : lanes)
    if (lane && *(const bool*)lane->input) votes |= 1u << lane->lane;
  for (Thread* lane : lanes)
    if (lane) *(unsigned*)lane->output = votes;
}

unsigned ballot(unsigned mask, bool predicate, const Place& place) {
  static constexpr LaneOperation BALLOT{ballot_lanes, {LANE_VALUE<bool>}, {'x', sizeof(unsigned)}};
  unsigned votes;
  collective(mask, place, BALLOT, &predicate, &votes, CALLER);
  return votes;
}
}  // namespace emulator
