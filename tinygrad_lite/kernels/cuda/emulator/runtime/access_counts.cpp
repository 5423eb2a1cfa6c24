// How well the accesses of a warp fit the memory: shared-memory wavefronts (bank conflicts) and global sectors
// (coalescing), for every instruction that reads or writes.
//
// A GPU serves the 32 lanes of an instruction together. Here they come one after the other, so the k-th access of each
// lane by one instruction is taken together with the k-th of the others.
#include <algorithm>
#include <map>
#include <unordered_map>
#include <vector>

#include "checks.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace emulator {
struct AccessCount {  // as module.py reads it
  uint32_t instruction;
  uint32_t bytes;  // of one lane
  uint8_t shared, write;
  uint64_t requests;  // instructions of a warp
  uint64_t wavefronts, least_wavefronts;
  uint64_t sectors, least_sectors;
};

namespace {
constexpr unsigned BANKS = 32, BANK_BYTES = 4, SECTOR_BYTES = 32;

struct Lane {
  unsigned lane;
  uintptr_t address;
};
struct Instruction {
  AccessCount total;
  unsigned executed[MOST_THREADS];                                      // by thread, in this block
  std::map<std::pair<unsigned, unsigned>, std::vector<Lane>> requests;  // by warp and how many it executed before
};
bool counting;
std::unordered_map<uint32_t, Instruction> instructions;
std::vector<AccessCount> totals;

template <class T> size_t distinct(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  return std::unique(values.begin(), values.end()) - values.begin();
}

// Lanes are served together up to 128 bytes: all 32, or 16 with 8 bytes each, or 8 with 16. Different words of one bank
// need a wavefront each; the same word is read for all at once.
void count_wavefronts(const std::vector<Lane>& lanes, AccessCount& total) {
  unsigned together = total.bytes <= 4 ? 32 : total.bytes <= 8 ? 16 : 8;
  for (unsigned begin = 0; begin < WARP; begin += together) {
    std::vector<uintptr_t> words[BANKS];
    size_t most = 0;
    for (const Lane& lane : lanes) {
      if (lane.lane < begin || lane.lane >= begin + together) continue;
      for (uintptr_t word = lane.address / BANK_BYTES; word <= (lane.address + total.bytes - 1) / BANK_BYTES; word++)
        words[word % BANKS].push_back(word);
    }
    for (auto& bank : words) most = std::max(most, distinct(bank));
    total.wavefronts += most;
    total.least_wavefronts += most > 0;
  }
}

void count_sectors(const std::vector<Lane>& lanes, AccessCount& total) {
  std::vector<uintptr_t> sectors, addresses;
  for (const Lane& lane : lanes) {
    addresses.push_back(lane.address);
    for (uintptr_t s = lane.address / SECTOR_BYTES; s <= (lane.address + total.bytes - 1) / SECTOR_BYTES; s++)
      sectors.push_back(s);
  }
  total.sectors += distinct(sectors);
  total.least_sectors += (distinct(addresses) * total.bytes + SECTOR_BYTES - 1) / SECTOR_BYTES;
}
}  // namespace

void count_access(const Access& access, bool shared) {
  if (!counting) return;
  // An instruction that copies (cp.async) both reads and writes.
  uint32_t key = position_in_library(access.instruction) << 2 | access.write << 1 | shared;
  auto [place, is_new] = instructions.try_emplace(key);
  Instruction& instruction = place->second;
  if (is_new) {
    instruction.total.instruction = position_in_library(access.instruction);
    instruction.total.bytes = access.bytes;
    instruction.total.shared = shared;
    instruction.total.write = access.write;
  }
  unsigned before = instruction.executed[access.thread.number]++;
  instruction.requests[{access.thread.warp, before}].push_back({access.thread.lane, access.address});
}

void count_block_ends() {
  for (auto& [key, instruction] : instructions) {
    AccessCount& total = instruction.total;
    for (auto& [which, lanes] : instruction.requests) {
      total.requests++;
      if (total.shared)
        count_wavefronts(lanes, total);
      else
        count_sectors(lanes, total);
    }
    instruction.requests.clear();
    memset(instruction.executed, 0, sizeof instruction.executed);
  }
}
}  // namespace emulator

using namespace emulator;

// What one request costs: an instruction of a warp whose lanes access these addresses.
EXPORTED void emulator_count_request(AccessCount* count, const uint32_t* lanes, const uint64_t* addresses, size_t n) {
  std::vector<Lane> request;
  for (size_t i = 0; i < n; i++) request.push_back({lanes[i], addresses[i]});
  if (count->shared)
    count_wavefronts(request, *count);
  else
    count_sectors(request, *count);
}

EXPORTED void emulator_count_accesses(int on) {
  counting = on != 0;
  if (on) instructions.clear();
}

// The counts since emulator_count_accesses(1): how many, and where they are until the next call.
EXPORTED size_t emulator_access_counts(const AccessCount** counts) {
  totals.clear();
  for (auto& [key, instruction] : instructions) totals.push_back(instruction.total);
  *counts = totals.data();
  return totals.size();
}
