// wgmma: products that a warpgroup begins and waits for later. A GPU may read its operands and write the sums at any moment in
// between, so here the product is computed at the first (options.lazy_copies = false) or at the last. Until the wait
// the sums are NaN: a kernel that waits properly cannot tell.
//
// A warp's 16 rows of the sums depend on its own 16 rows of a and on b alone, so each warp computes its own; that all four of
// a warpgroup call the same is checked by a list of what they have called.
#include "warpgroup.h"

#include <deque>
#include <list>
#include <vector>

#include "../include/warpgroup.h"
#include "checks.h"
#include "shared_memory.h"

namespace emulator {
namespace {
constexpr unsigned WARPS_TOGETHER = 4, TOGETHER = WARPS_TOGETHER * WARP;
constexpr unsigned INNER = 16, CHUNK = 8, ROW_BYTES = 128, CHUNKS = ROW_BYTES / CHUNK_BYTES;
constexpr unsigned SWIZZLED_BYTES = 1024;  // the pattern repeats after 8 rows
constexpr unsigned MOST_PIECES = 16;       // of 8 columns
constexpr unsigned UNDER_WAY = 0x7fc0beadu;  // a NaN: what the sums hold meanwhile

typedef float Piece __attribute__((vector_size(32)));  // 8 columns of a row, added and multiplied at once

struct Call {  // of one of the functions, by all lanes of a warp
  Place place;
  SharedOperand a, b;  // a.begin is nullptr where a is in registers
  int argument;        // `add`, or how many groups a wait leaves
};
struct LaneOperands {
  const Call* call;
  float* d;
  const unsigned* a;
};

struct Sums {  // of a warp: 16 rows
  float* registers[WARP];
  unsigned pieces;
  int group;                // of the last product that adds to them
  const void* called_from;  // by that product
  Piece values[16][MOST_PIECES];
};
struct Product {
  Sums* sums;
  SharedOperand a_shared, b;
  bool add;
  int group;
  Place place;
  const void* called_from;
  void (*compute)(Product&);
  float a[16][INNER];
};
struct WarpProducts {
  std::list<Sums> sums;
  std::deque<Product> products;  // under way, in the order in which they were begun
  int group = 0;                 // into which products go now; the ones before are committed
  bool begun = false;            // since the last wait
  unsigned calls = 0;            // how many of its warpgroup's `calls` it has made
};
WarpProducts warps[MOST_THREADS / WARP];
std::vector<Call> calls[MOST_THREADS / TOGETHER];  // of a warpgroup, since its warps were last equally far
bool used;                                         // by this block

// ---- four warps, the same calls
bool same(const SharedOperand& x, const SharedOperand& y) {
  return x.begin == y.begin && x.columns == y.columns && x.next_columns == y.next_columns &&
         x.transposed == y.transposed;
}
bool same_text(const char* x, const char* y) { return x == y || !__builtin_strcmp(x, y); }
bool same(const Call& x, const Call& y) {
  return x.place.line == y.place.line && same_text(x.place.operation, y.place.operation) &&
         same_text(x.place.file, y.place.file) && x.argument == y.argument && same(x.a, y.a) && same(x.b, y.b);
}

void note_call(const Call& call) {
  const unsigned group = current->warp / WARPS_TOGETHER;
  WarpProducts* four = warps + group * WARPS_TOGETHER;
  std::vector<Call>& made = calls[group];
  unsigned& mine = warps[current->warp].calls;
  if (mine == made.size())
    made.push_back(call);
  else if (const Call& other = made[mine]; !same(call, other))
    fail_at(call.place, "warpgroup divergence: another of the four warps called %s%s", text_of(other.place).text,
            call.place.line == other.place.line ? " with another operand, or another number" : "");
  mine++;
  for (unsigned i = 0; i < WARPS_TOGETHER; i++)
    if (four[i].calls != mine) return;
  for (unsigned i = 0; i < WARPS_TOGETHER; i++) four[i].calls = 0;
  made.clear();
}

// The first call that a warp has not made though another of its warpgroup has, or nullptr.
const Call* missing_call(unsigned group) {
  if (calls[group].empty()) return nullptr;
  unsigned least = ~0u;
  for (unsigned i = 0; i < WARPS_TOGETHER; i++) {
    unsigned made = warps[group * WARPS_TOGETHER + i].calls;
    least = made < least ? made : least;
  }
  return &calls[group][least];
}

// What the lanes agree on. They have come from the same line.
const Call& agreed(Thread* const (&lanes)[32]) {
  const Call& first = *((const LaneOperands*)lanes[0]->input)->call;
  for (Thread* lane : lanes)
    if (!same(*((const LaneOperands*)lane->input)->call, first))
      fail_at(first.place, "lanes of a warp call with different operands, or different numbers");
  note_call(first);
  return first;
}

// ---- operands in shared memory: b, and of a this warp's 16 of 64 rows
// Where 8 numbers of an operand lie: the `chunk`-th of a row, in plain order. The hardware mixes the number of the row among
// eight, bits 7 to 9 of the address, into that of the chunk, bits 4 to 6.
uintptr_t chunk_address(const SharedOperand& b, unsigned row, unsigned chunk) {
  uintptr_t plain =
      (uintptr_t)b.begin + row * ROW_BYTES + chunk / CHUNKS * b.next_columns + chunk % CHUNKS * CHUNK_BYTES;
  return plain ^ (plain >> 3 & 0x70);
}
unsigned rows_of(const SharedOperand& b) { return b.transposed ? b.columns : INNER; }
unsigned chunks_of(const SharedOperand& b) { return (b.transposed ? INNER : b.columns) / CHUNK; }

void check_operand(const Place& place, const SharedOperand& x, const char* name) {
  const uintptr_t begin = (uintptr_t)x.begin;
  const Range dynamic = dynamic_shared_range(), variables = static_shared_range();
  const Range& memory = variables.holds(begin) ? variables : dynamic;
  if (!memory.holds(begin)) fail_at(place, "%s does not point at shared memory", name);
  unsigned behind = begin % SWIZZLED_BYTES;
  if (x.transposed ? behind >= ROW_BYTES || behind % (INNER * 2) : behind)
    fail_at(place,
            "the operand must lie in 1024-byte aligned shared memory, and %s point at a row that is a multiple of 8, "
            "column 0%s: it points %u bytes behind a multiple of 1024",
            name, x.transposed ? ", 16, 32 or 48" : "", behind);
  if (chunks_of(x) > CHUNKS && x.next_columns % SWIZZLED_BYTES)
    fail_at(place, "next_columns is %u: it must be a multiple of 1024", x.next_columns);
  uintptr_t end = begin - behind + (chunks_of(x) - 1) / CHUNKS * x.next_columns + rows_of(x) * ROW_BYTES;
  if (end > memory.end)
    fail_at(place, "out of bounds: the rows of %s reach %zu bytes behind shared memory", name, size_t(end - memory.end));
}

unsigned first_row_of_a() { return current->warp % WARPS_TOGETHER * 16; }

template <class CallBack> void for_each_chunk(const Product& product, CallBack call) {
  unsigned number = 0;
  const auto range = [&](const SharedOperand& x, unsigned first, unsigned end) {
    for (unsigned row = first; row < end; row++)
      for (unsigned chunk = 0; chunk < chunks_of(x); chunk++) call(chunk_address(x, row, chunk), number++ % WARP);
  };
  range(product.b, 0, rows_of(product.b));
  if (product.a_shared.begin) range(product.a_shared, first_row_of_a(), first_row_of_a() + 16);
}

// ---- the product
template <class T> float number(uint16_t bits);
template <> float number<__nv_bfloat16>(uint16_t bits) { return __uint_as_float((unsigned)bits << 16); }
template <> float number<half>(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }

template <class T> void gather(float (&a)[16][INNER], Thread* const (&lanes)[32]) {
  for (unsigned lane = 0; lane < WARP; lane++) {
    const unsigned* registers = ((const LaneOperands*)lanes[lane]->input)->a;
    unsigned group = lane / 4, pair = lane % 4 * 2;
    for (unsigned i = 0; i < 4; i++)
      for (unsigned upper = 0; upper < 2; upper++)
        a[group + i % 2 * 8][pair + i / 2 * 8 + upper] = number<T>((uint16_t)(registers[i] >> 16 * upper));
  }
}

template <class T> void compute(Product& product) {
  if (product.a_shared.begin)
    for (unsigned row = 0; row < 16; row++)
      for (unsigned k = 0; k < INNER; k++)
        product.a[row][k] = number<T>(((const uint16_t*)chunk_address(product.a_shared, first_row_of_a() + row,
                                                                      k / CHUNK))[k % CHUNK]);
  alignas(32) float b[INNER][MOST_PIECES * 8];
  for (unsigned row = 0; row < rows_of(product.b); row++)
    for (unsigned chunk = 0; chunk < chunks_of(product.b); chunk++) {
      auto* numbers = (const uint16_t*)chunk_address(product.b, row, chunk);
      for (unsigned i = 0; i < CHUNK; i++)
        (product.b.transposed ? b[chunk * CHUNK + i][row] : b[row][chunk * CHUNK + i]) = number<T>(numbers[i]);
    }
  Sums& sums = *product.sums;
  for (unsigned row = 0; row < 16; row++)
    for (unsigned piece = 0; piece < sums.pieces; piece++) {
      Piece sum = ((Piece*)b[0])[piece] * product.a[row][0];
      for (unsigned k = 1; k < INNER; k++) sum += ((Piece*)b[k])[piece] * product.a[row][k];
      sums.values[row][piece] = product.add ? sums.values[row][piece] + sum : sum;
    }
}

// ---- the sums in the lanes' registers: d[piece][i] is row group + 8 (i / 2), column 2 (lane % 4) + i % 2
template <class CallBack> void for_each_sum(Sums& sums, CallBack call) {
  for (unsigned lane = 0; lane < WARP; lane++)
    for (unsigned i = 0; i < 4 * sums.pieces; i++)
      call((unsigned*)sums.registers[lane] + i,
           __builtin_bit_cast(unsigned, sums.values[lane / 4 + i % 4 / 2 * 8][i / 4][lane % 4 * 2 + i % 2]), lane);
}
void take(Sums& sums) {
  for (unsigned lane = 0; lane < WARP; lane++)
    for (unsigned i = 0; i < 4 * sums.pieces; i++) {
      float& sum = sums.registers[lane][i];
      sums.values[lane / 4 + i % 4 / 2 * 8][i / 4][lane % 4 * 2 + i % 2] = sum;
      sum = __uint_as_float(UNDER_WAY);
    }
}
void check_untouched(Sums& sums, const Place& place) {
  for_each_sum(sums, [&](unsigned* bits, unsigned, unsigned lane) {
    if (*bits != UNDER_WAY)
      fail_at(place, "lane %u wrote its sums between a product and the wgmma_wait that covers it", lane);
  });
}
void give(Sums& sums) {
  for_each_sum(sums, [](unsigned* bits, unsigned value, unsigned) { *bits = value; });
}

// The sums that these registers are under way for, or new ones.
Sums& sums_of(Thread* const (&lanes)[32], const Call& call) {
  std::list<Sums>& known = warps[current->warp].sums;
  const unsigned pieces = call.b.columns / 8;
  auto registers = [&](unsigned lane) { return ((const LaneOperands*)lanes[lane]->input)->d; };
  for (Sums& sums : known) {
    unsigned same = 0;
    for (unsigned lane = 0; lane < WARP; lane++)
      same += sums.registers[lane] == registers(lane) && sums.pieces == pieces;
    if (same == WARP) {
      check_untouched(sums, call.place);
      return sums;
    }
    if (same || (registers(0) < sums.registers[0] + 4 * sums.pieces && sums.registers[0] < registers(0) + 4 * pieces))
      fail_at(call.place, "the sums overlap others that are under way");
  }
  known.emplace_back();
  Sums& sums = known.back();
  sums.pieces = pieces;
  for (unsigned lane = 0; lane < WARP; lane++) sums.registers[lane] = registers(lane);
  take(sums);
  return sums;
}

template <class T> void product_lanes(Thread* const (&lanes)[32], unsigned) {
  const Call& call = agreed(lanes);
  WarpProducts& warp = warps[current->warp];
  if (!warp.begun) fail_at(call.place, "no wgmma_begin since the last wgmma_wait");
  check_operand(call.place, call.b, "b");
  if (call.a.begin) check_operand(call.place, call.a, "a");
  Sums& sums = sums_of(lanes, call);
  sums.group = warp.group;
  sums.called_from = current->called_from;
  warp.products.push_back(
      {&sums, call.a, call.b, call.argument != 0, warp.group, call.place, current->called_from, compute<T>});
  Product& product = warp.products.back();
  if (!call.a.begin) gather<T>(product.a, lanes);
#ifdef EMULATOR_CHECKS
  for_each_chunk(product, [&](uintptr_t address, unsigned lane) {
    check_product_begins({address, CHUNK_BYTES, false, product.called_from, *lanes[lane]});
  });
#endif
  if (!options.lazy_copies) product.compute(product);
}

void begin_lanes(Thread* const (&lanes)[32], unsigned) {
  agreed(lanes);
  warps[current->warp].begun = true;
}

void commit_lanes(Thread* const (&lanes)[32], unsigned) {
  agreed(lanes);
  warps[current->warp].group++;
}

void wait_lanes(Thread* const (&lanes)[32], unsigned) {
  const Call& call = agreed(lanes);
  WarpProducts& warp = warps[current->warp];
  if (!warp.products.empty() && warp.products.back().group == warp.group)
    fail_at(call.place, "products without a wgmma_commit behind them: a wait is for committed ones");
  const int first_left = warp.group - call.argument;
  for (; !warp.products.empty() && warp.products.front().group < first_left; warp.products.pop_front()) {
    Product& product = warp.products.front();
    if (options.lazy_copies) product.compute(product);
#ifdef EMULATOR_CHECKS
    for_each_chunk(product, [&](uintptr_t address, unsigned lane) {
      check_product_ends({address, CHUNK_BYTES, false, product.called_from, *lanes[lane]});
    });
#endif
  }
  for (auto sums = warp.sums.begin(); sums != warp.sums.end();) {
    check_untouched(*sums, call.place);
    if (sums->group < first_left) {
      give(*sums);
      sums = warp.sums.erase(sums);
    } else {
      ++sums;
    }
  }
  warp.begun = false;
}

void together(LaneFunction compute, const Call& call, float* d, const unsigned* a, const void* caller) {
  if (block.threads % TOGETHER)
    fail_at(call.place, "a block of %u threads: warpgroups are of 128, all of them there", block.threads);
  used = true;
  const LaneOperation operation{compute};
  const LaneOperands operands{&call, d, a};
  collective(~0u, call.place, operation, &operands, nullptr, caller);
}
}  // namespace

template <class T>
void begin_product(float* d, const unsigned* a, const SharedOperand& a_shared, const SharedOperand& b, int add,
                   const Place& place) {
  together(product_lanes<T>, {place, a_shared, b, add != 0}, d, a, CALLER);
}
#define PRODUCT_OF(T) \
  template void begin_product<T>(float*, const unsigned*, const SharedOperand&, const SharedOperand&, int, const Place&);
PRODUCT_OF(__nv_bfloat16)
PRODUCT_OF(__half)
#undef PRODUCT_OF
void begin_products(const Place& place) { together(begin_lanes, {place}, nullptr, nullptr, CALLER); }
void commit_products(const Place& place) { together(commit_lanes, {place}, nullptr, nullptr, CALLER); }
void wait_for_products(int groups_left, const Place& place) {
  together(wait_lanes, {place, {}, {}, groups_left}, nullptr, nullptr, CALLER);
}
void publish_shared_memory() { check_publish(*current); }

void reset_products() {
  if (!used) return;
  for (WarpProducts& warp : warps) warp = WarpProducts();
  for (auto& made : calls) made.clear();
  used = false;
}

void check_warpgroups_meet(unsigned warps_here, const Place& place) {
  if (!used) return;
  for (unsigned group = 0; group < block.threads / TOGETHER; group++)
    if ((warps_here >> group * WARPS_TOGETHER & 15) == 15)
      if (const Call* call = missing_call(group))
        fail_at(place, "warpgroup divergence: not all four warps have called %s before", text_of(call->place).text);
}

PlaceText unfinished_products() {
  PlaceText text{};
  auto note = [&](const char* what, const Place& place) {
    snprintf(text.text, sizeof text.text, "%s%s", what, text_of(place).text);
  };
  for (unsigned group = 0; used && group < block.threads / TOGETHER; group++)
    if (const Call* call = missing_call(group))
      note("warpgroup divergence: not all four warps have called ", call->place);
  for (const WarpProducts& warp : warps)
    if (used && !text.text[0] && !warp.products.empty())
      note("exits before a wgmma_wait for ", warp.products.front().place);
  return text;
}

const void* product_into(const Thread& thread, uintptr_t address, unsigned bytes) {
  for (const Sums& sums : warps[thread.warp].sums) {
    uintptr_t begin = (uintptr_t)sums.registers[thread.lane];
    if (address < begin + 4 * sums.pieces * sizeof(float) && begin < address + bytes) return sums.called_from;
  }
  return nullptr;
}
}  // namespace emulator
