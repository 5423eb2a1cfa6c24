// Races, accesses out of bounds, misaligned ones, and reads of shared memory that nobody wrote.
//
// g++ -fsanitize=thread calls __tsan_readN or __tsan_writeN before every access of a kernel. Its own library, which
// knows threads of the operating system only, is not linked: these functions are ours. For every byte of shared memory
// and of the kernel's arrays they remember who wrote it last, and two who read it lately. Two accesses of different
// threads, one of them a write, are a race unless a barrier stands between them, whether or not it did harm in this
// order of threads.
//
// Time is a number that grows at every barrier. A thread that has passed a barrier since then knows of every older
// access of its block. __syncwarp does the same for the lanes of its mask; shuffles and votes do not, as CUDA gives
// them no order in memory. Between blocks, a __threadfence and an atomic in one and then an atomic in the other count
// as order, whatever their addresses: so blocks count themselves done, and the last one reads what all have written.
#include <sys/mman.h>

#include <algorithm>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "checks.h"
#include "shared_memory.h"
#include "warpgroup.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace emulator {
namespace {

// PART: of a warp operation or a copy. PRODUCT_...: of a wgmma, which reads in the background.
enum class Kind { PLAIN, PART, ATOMIC, COPY_BEGINS, COPY_ENDS, PRODUCT_BEGINS, PRODUCT_ENDS };

struct Event {  // an access, remembered
  uint32_t time = 0, block = 0, instruction = 0;  // time 0: there was none
  uint16_t thread = 0;
  bool atomic = false, copy_under_way = false;
  bool exists() const { return time != 0; }
};

struct Cell {  // one byte
  Event write, reads[2];
  uint32_t owner;  // whose it is, if it is shared: block + 1
};

struct Region {  // memory that the kernel may touch, and a cell for every byte of it
  Range range;
  bool shared;
  Cell* cells;
};

std::vector<Range> arrays;    // of this launch
std::vector<Region> regions;  // static and dynamic shared memory, then the arrays
std::set<size_t> guards;      // offsets of bytes among the __shared__ variables that are g++'s own
uint32_t now = 1;

struct Reading {  // by products under way
  Event last;
  unsigned products = 0;
};
std::unordered_map<uintptr_t, Reading> readings;  // by address / CHUNK_BYTES
std::vector<uint32_t> published[MOST_THREADS];    // by thread: when it called wgmma_publish in this block

uint32_t lanes_know[MOST_THREADS / WARP][WARP][WARP];  // [warp][lane][of lane]: accesses before this time
std::unordered_map<uint32_t, uint32_t> released;       // by block: when an atomic followed a __threadfence
bool fenced, acquired;                                 // in this block: __threadfence was called; an atomic

// ---- findings
constexpr size_t MOST_FINDINGS = 8;
std::string findings;
std::set<std::string> found;  // the same at the same lines is told once

bool of_stack(const Thread& thread, uintptr_t address, unsigned bytes = 1) {
  return Range{(uintptr_t)thread.stack, (uintptr_t)thread.stack + STACK_BYTES}.holds(address, bytes);
}

std::string where(const Region* region, uintptr_t address) {
  if (!region) return current && of_stack(*current, address) ? "its sums" : "an address outside of every array";
  std::string offset = "byte " + std::to_string(address - region->range.begin);
  if (region == &regions[0]) return offset + " of __shared__ variables";
  if (region->shared) return offset + " of dynamic shared memory";
  return offset + " of an array of " + std::to_string(region->range.end - region->range.begin) + " bytes";
}

std::string line_of(uint32_t instruction) {
  char text[32];
  snprintf(text, sizeof text, "{pc:%#x}", instruction);
  return text;
}

void note(const char* what, const Access& access, const Region* region, const Event* other = nullptr) {
  std::string here = line_of(position_in_library(access.instruction)), there = other ? line_of(other->instruction) : "";
  std::string key = what + here + there;
  if (found.size() >= MOST_FINDINGS || !found.insert(key).second) return;
  const char* verb = access.write ? " writes " : " reads ";
  findings += (findings.empty() ? "" : "\n") + std::string(what) + ": block " + std::to_string(block.number) +
              " thread " + std::to_string(access.thread.number) + verb + std::to_string(access.bytes) +
              " bytes at " + here + ", " + where(region, access.address);
  if (other)
    findings += ", which block " + std::to_string(other->block) + " thread " + std::to_string(other->thread) +
                " touched at " + there;
}

// ---- memory
void add_region(Range range, bool shared) {
  size_t bytes = std::max<size_t>(1, range.end - range.begin) * sizeof(Cell);
  // Zeros, and no memory until it is used.
  void* cells = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  regions.push_back({range, shared, cells == MAP_FAILED ? nullptr : (Cell*)cells});
}

Region* region_of(uintptr_t address, unsigned bytes) {
  static size_t last;
  if (last < regions.size() && regions[last].range.holds(address, bytes)) return &regions[last];
  for (size_t i = 0; i < regions.size(); i++)
    if (regions[i].range.holds(address, bytes)) return &regions[last = i];
  return nullptr;
}

// ---- order
bool ordered(const Event& before, const Thread& thread) {
  if (before.block != block.number) {
    auto other = released.find(before.block);
    return acquired && other != released.end() && before.time <= other->second;
  }
  if (before.thread == thread.number || before.time < thread.passed_barrier) return true;
  if (before.thread / WARP != thread.warp) return false;
  return before.time < lanes_know[thread.warp][thread.lane][before.thread % WARP];
}

// The two reads worth remembering: the last one, and one of another warp if there was one. A read that the new one
// knows of need not be kept: what is ordered after the new one is ordered after it too.
void remember_read(Cell& cell, const Event& read, const Thread& thread) {
  Event &last = cell.reads[0], &other = cell.reads[1];
  if (other.exists() && ordered(other, thread)) other = Event();
  if (last.exists() && !ordered(last, thread)) {
    bool last_is_far = last.thread / WARP != thread.warp || last.block != block.number;
    bool other_is_far = other.exists() && (other.thread / WARP != thread.warp || other.block != block.number);
    if (last_is_far || !other_is_far) other = last;
  }
  last = read;
}

// Whether the writer has called wgmma_publish after its write, and a barrier stands between that and this thread.
bool is_published(const Event& write, const Thread& thread) {
  const std::vector<uint32_t>& times = published[write.thread];
  auto first = std::upper_bound(times.begin(), times.end(), write.time);
  if (first == times.end()) return false;
  Event publishes = write;
  publishes.time = *first;
  return ordered(publishes, thread);
}

// A write to what a product reads until its wgmma_wait is wrong, whoever writes.
void check_readings(const Access& access, const Region& region) {
  for (uintptr_t i = access.address / CHUNK_BYTES; i <= (access.address + access.bytes - 1) / CHUNK_BYTES; i++)
    if (auto reading = readings.find(i); reading != readings.end())
      return note("write where a wgmma is under way", access, &region, &reading->second.last);
}

// What is wrong with this access to this byte, if anything.
const char* conflict(const Cell& cell, const Access& access, Kind kind, bool shared, const Event** other) {
  if (kind == Kind::PRODUCT_ENDS) return nullptr;  // the write, if there was one, has been told
  const Event& write = cell.write;
  if (write.exists()) {
    *other = &write;
    if (write.copy_under_way && kind != Kind::COPY_ENDS)
      return access.write ? "write where a cp.async is under way" : "read where a cp.async is under way";
    if (kind == Kind::PRODUCT_BEGINS && ordered(write, access.thread) && !is_published(write, access.thread))
      return "not published (wgmma_publish) between the write and the product that reads it";
    if (!ordered(write, access.thread) && !(kind == Kind::ATOMIC && write.atomic))
      return access.write ? "race (write after write)" : "race (read after write)";
  }
  if (access.write)
    for (const Event& read : cell.reads)
      if (read.exists() && !ordered(read, access.thread)) return *other = &read, "race (write after read)";
  *other = nullptr;
  bool reads = !access.write || kind == Kind::ATOMIC;
  return reads && shared && !write.exists() ? "read of uninitialised shared memory" : nullptr;
}

// Of a thread's own memory only the sums are watched that a wgmma is changing.
void check_sums(const Access& access) {
  if (const void* product = product_into(access.thread, access.address, access.bytes)) {
    Event event;
    event.block = block.number;
    event.instruction = position_in_library(product);
    event.thread = access.thread.number;
    note("sums touched before the wgmma_wait", access, nullptr, &event);
  }
}

void check(const Access& access, Kind kind) {
  if (of_stack(access.thread, access.address)) return check_sums(access);
  Region* region = region_of(access.address, access.bytes);
  if (!region) {
    bool constant = library_range().holds(access.address, access.bytes);
    if (!constant) note("out of bounds", access, nullptr);
    return;
  }
  if (access.bytes == 1 && region == &regions[0] && guards.count(access.address - region->range.begin)) return;
  bool a_power = (access.bytes & (access.bytes - 1)) == 0;
  if (a_power && access.address % access.bytes) return note("misaligned", access, region);
  if (kind == Kind::PLAIN || kind == Kind::PART || kind == Kind::COPY_BEGINS) count_access(access, region->shared);
  if (kind == Kind::PLAIN || kind == Kind::ATOMIC) trace_access(access, region->shared, kind == Kind::ATOMIC);
  if (!region->cells) return;
  Event event;
  event.time = now;
  event.block = block.number;
  event.instruction = position_in_library(access.instruction);
  event.thread = access.thread.number;
  event.atomic = kind == Kind::ATOMIC;
  event.copy_under_way = kind == Kind::COPY_BEGINS;
  if (kind == Kind::PRODUCT_BEGINS) {
    Reading& reading = readings[access.address / CHUNK_BYTES];
    reading.last = event;
    reading.products++;
  }
  if (access.write && !readings.empty() && region->shared) check_readings(access, *region);
  Cell* cells = region->cells + (access.address - region->range.begin);
  const Cell before = cells[0];
  bool noted = false;
  for (unsigned i = 0; i < access.bytes; i++) {
    Cell& cell = cells[i];
    if (i && !__builtin_memcmp(&cell, &before, sizeof cell)) {  // as a rule the bytes of a number have the same past
      cell = cells[0];
      continue;
    }
    if (region->shared && cell.owner != block.number + 1) {
      cell = Cell();
      cell.owner = block.number + 1;
    }
    const Event* other = nullptr;
    if (!noted)
      if (const char* what = conflict(cell, access, kind, region->shared, &other)) {
        note(what, access, region, other);
        noted = true;
      }
    if (access.write)
      cell.write = event;
    else
      remember_read(cell, event, access.thread);
  }
}
}  // namespace

void check_access(const Access& access) { check(access, Kind::PART); }
void check_copy_begins(const Access& from, const Access& to) {
  if (from.bytes) check(from, Kind::PART);
  check(to, Kind::COPY_BEGINS);
}
void check_copy_ends(const Access& to) { check(to, Kind::COPY_ENDS); }
void check_product_begins(const Access& from) { check(from, Kind::PRODUCT_BEGINS); }
void check_product_ends(const Access& from) {
  auto reading = readings.find(from.address / CHUNK_BYTES);
  if (reading != readings.end() && --reading->second.products == 0) readings.erase(reading);
  check(from, Kind::PRODUCT_ENDS);
}
void check_publish(const Thread& thread) { published[thread.number].push_back(++now); }

void check_atomic(const void* address, unsigned bytes, const void* called_from) {
  check({(uintptr_t)address, bytes, true, called_from, *current}, Kind::ATOMIC);
  acquired = true;
  if (fenced) released[block.number] = now;
}
void check_fence() { fenced = true; }

void check_launch_begins() {
  for (Region& region : regions)
    if (region.cells) munmap(region.cells, std::max<size_t>(1, region.range.end - region.range.begin) * sizeof(Cell));
  regions.clear();
  findings.clear();
  found.clear();
  released.clear();
  now = 1;
  memset(lanes_know, 0, sizeof lanes_know);
  add_region(static_shared_range(), true);
  add_region(dynamic_shared_range(), true);
  std::sort(arrays.begin(), arrays.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  for (size_t i = 0; i < arrays.size();) {  // views of one array become one region
    Range range = arrays[i++];
    for (; i < arrays.size() && arrays[i].begin < range.end; i++) range.end = std::max(range.end, arrays[i].end);
    add_region(range, false);
  }
  arrays.clear();
}
void check_block_begins() {
  now++;
  fenced = acquired = false;
  readings.clear();
  for (auto& times : published) times.clear();
}
void check_block_ends() { count_block_ends(); }
void check_barrier_begins() { now++; }
void check_barrier_passed(Thread& thread) { thread.passed_barrier = now; }

void check_syncwarp(unsigned warp, unsigned mask) {
  now++;
  uint32_t together[WARP] = {};
  for (unsigned lane = 0; lane < WARP; lane++)
    if (mask >> lane & 1)
      for (unsigned k = 0; k < WARP; k++) together[k] = std::max(together[k], lanes_know[warp][lane][k]);
  for (unsigned lane = 0; lane < WARP; lane++)
    if (mask >> lane & 1) together[lane] = now;
  for (unsigned lane = 0; lane < WARP; lane++)
    if (mask >> lane & 1) memcpy(lanes_know[warp][lane], together, sizeof together);
}
}  // namespace emulator

using namespace emulator;

EXPORTED void emulator_add_array(uintptr_t address, size_t bytes) { arrays.push_back({address, address + bytes}); }

EXPORTED void emulator_add_guard(size_t offset) { guards.insert(offset); }

// What was found since the launch, a line each, or nullptr. {pc:0x...} is an instruction's position in the library.
EXPORTED const char* emulator_findings() { return findings.empty() ? nullptr : findings.c_str(); }

// ---- the calls that g++ inserts
#define ON_ACCESS(name, BYTES, WRITE)                                                                       \
  extern "C" void name(void* address) {                                                                     \
    check({(uintptr_t)address, BYTES, WRITE, __builtin_return_address(0), *current}, Kind::PLAIN);          \
  }
#define ON_ACCESSES(BYTES)                                 \
  ON_ACCESS(__tsan_read##BYTES, BYTES, false)              \
  ON_ACCESS(__tsan_write##BYTES, BYTES, true)              \
  ON_ACCESS(__tsan_unaligned_read##BYTES, BYTES, false)    \
  ON_ACCESS(__tsan_unaligned_write##BYTES, BYTES, true)
ON_ACCESSES(1)
ON_ACCESSES(2)
ON_ACCESSES(4)
ON_ACCESSES(8)
ON_ACCESSES(16)
extern "C" void __tsan_read_range(void* address, size_t bytes) {
  check({(uintptr_t)address, (unsigned)bytes, false, __builtin_return_address(0), *current}, Kind::PLAIN);
}
extern "C" void __tsan_write_range(void* address, size_t bytes) {
  check({(uintptr_t)address, (unsigned)bytes, true, __builtin_return_address(0), *current}, Kind::PLAIN);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
