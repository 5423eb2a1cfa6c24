// Warp operations: the lanes that a mask names meet, and the last to come computes for all.
#pragma once

namespace emulator {

// Computes for the lanes that are not null, from their `input` to their `output`.
typedef void (*LaneFunction)(Thread* const (&lanes)[32], unsigned mask);

// What stands where in an input or an output, for those who want to show it (../runtime/trace.cpp).
struct LaneValue {
  // f float, i integer, u unsigned, x bits, B pairs of bf16, H of half, p an address itself, s another type
  char kind = 0;
  unsigned char bytes = 0, offset = 0;
  bool pointed = false;  // a pointer to it stands there
};
template <class T> constexpr char integer_or_other = !std::is_integral_v<T> ? 's' : std::is_signed_v<T> ? 'i' : 'u';
template <class T>
constexpr LaneValue LANE_VALUE{std::is_floating_point_v<T> ? 'f' : integer_or_other<T>, sizeof(T)};
struct LaneOperation {
  LaneFunction compute;
  LaneValue inputs[3] = {}, output = {};
};

// Waits for the mask's other lanes; all must call this from the same line with the same mask.
void collective(unsigned mask, const Place& place, const LaneOperation& operation, const void* input, void* output,
                const void* called_from = nullptr);

void syncwarp(unsigned mask, const Place& place);

// ---- shuffles: every lane receives the value of another
enum class Shuffle { INDEX, UP, DOWN, XOR };
template <class T> struct ShuffleInput {
  int argument, width;
  T value;
};

// Lanes form groups of `width`. A source beyond the group's end (before its begin, for UP) means the lane's own value;
// XOR alone may reach into an earlier group. As in the PTX manual's shfl.sync.
NOT_CHECKED inline int source_lane(Shuffle kind, int lane, int argument, int width) {
  int begin = lane & ~(width - 1), end = begin + width, source = 0;
  switch (kind) {
    case Shuffle::INDEX: return begin + (argument & (width - 1));
    case Shuffle::UP: source = lane - argument; return source < begin ? lane : source;
    case Shuffle::DOWN: source = lane + argument; break;
    case Shuffle::XOR: source = lane ^ argument; break;
  }
  return source >= end ? lane : source;
}

template <class T, Shuffle KIND> NOT_CHECKED void shuffle_lanes(Thread* const (&lanes)[32], unsigned mask) {
  for (int lane = 0; lane < 32; lane++) {
    if (!lanes[lane]) continue;
    auto* mine = (const ShuffleInput<T>*)lanes[lane]->input;
    int source = source_lane(KIND, lane, mine->argument, mine->width);
    if (!lanes[source])
      fail_at(*lanes[lane]->place, "lane %d reads lane %d, which is not in mask %08x", lane, source, mask);
    *(T*)lanes[lane]->output = ((const ShuffleInput<T>*)lanes[source]->input)->value;
  }
}

template <class T, Shuffle KIND>
constexpr LaneOperation SHUFFLE{shuffle_lanes<T, KIND>,
                                {{LANE_VALUE<T>.kind, sizeof(T), offsetof(ShuffleInput<T>, value)}, {'i', 8}},
                                LANE_VALUE<T>};

template <Shuffle KIND, class T>
NOT_CHECKED inline T shuffle(unsigned mask, T value, int argument, int width, const Place& place) {
  ShuffleInput<T> input{argument, width, value};
  T output;
  collective(mask, place, SHUFFLE<T, KIND>, &input, &output, CALLER);
  return output;
}

// ---- votes and sums: every lane brings one number and all receive the same
unsigned ballot(unsigned mask, bool predicate, const Place& place);
enum class Reduce { ADD, MIN, MAX, AND, OR, XOR };
template <class T, Reduce KIND> NOT_CHECKED void reduce_lanes(Thread* const (&lanes)[32], unsigned mask) {
  T result = *(const T*)lanes[__builtin_ctz(mask)]->input;
  for (int lane = __builtin_ctz(mask) + 1; lane < 32; lane++) {
    if (!lanes[lane]) continue;
    T x = *(const T*)lanes[lane]->input;
    switch (KIND) {
      case Reduce::ADD: result += x; break;
      case Reduce::MIN: result = x < result ? x : result; break;
      case Reduce::MAX: result = x > result ? x : result; break;
      case Reduce::AND: result &= x; break;
      case Reduce::OR: result |= x; break;
      case Reduce::XOR: result ^= x; break;
    }
  }
  for (Thread* lane : lanes)
    if (lane) *(T*)lane->output = result;
}
template <class T, Reduce KIND>
constexpr LaneOperation REDUCE{reduce_lanes<T, KIND>, {LANE_VALUE<T>}, LANE_VALUE<T>};
template <Reduce KIND, class T> NOT_CHECKED inline T reduce(unsigned mask, T value, const Place& place) {
  T output;
  collective(mask, place, REDUCE<T, KIND>, &value, &output, CALLER);
  return output;
}
}  // namespace emulator

inline void __syncwarp(unsigned mask = 0xffffffffu, CALLED_FROM) {
  emulator::syncwarp(mask, {"__syncwarp", file, line});
}

#define EMULATOR_SHUFFLE(name, KIND)                                                                      \
  template <class T> inline T name(unsigned mask, T value, int argument, int width = 32, CALLED_FROM) {   \
    return emulator::shuffle<emulator::Shuffle::KIND>(mask, value, argument, width, {#name, file, line}); \
  }
EMULATOR_SHUFFLE(__shfl_sync, INDEX)
EMULATOR_SHUFFLE(__shfl_up_sync, UP)
EMULATOR_SHUFFLE(__shfl_down_sync, DOWN)
EMULATOR_SHUFFLE(__shfl_xor_sync, XOR)
#undef EMULATOR_SHUFFLE

inline unsigned __ballot_sync(unsigned mask, int predicate, CALLED_FROM) {
  return emulator::ballot(mask, predicate != 0, {"__ballot_sync", file, line});
}
inline int __any_sync(unsigned mask, int predicate, CALLED_FROM) {
  return emulator::ballot(mask, predicate != 0, {"__any_sync", file, line}) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CALLED_FROM) {
  return emulator::ballot(mask, predicate != 0, {"__all_sync", file, line}) == mask;
}

// Of int or unsigned, as on sm_80.
#define EMULATOR_REDUCE(name, KIND)                                                         \
  template <class T> inline T name(unsigned mask, T value, CALLED_FROM) {                   \
    return emulator::reduce<emulator::Reduce::KIND>(mask, value, {#name, file, line});      \
  }
EMULATOR_REDUCE(__reduce_add_sync, ADD)
EMULATOR_REDUCE(__reduce_min_sync, MIN)
EMULATOR_REDUCE(__reduce_max_sync, MAX)
EMULATOR_REDUCE(__reduce_and_sync, AND)
EMULATOR_REDUCE(__reduce_or_sync, OR)
EMULATOR_REDUCE(__reduce_xor_sync, XOR)
#undef EMULATOR_REDUCE
