// The events of one block, in the order in which they happen, for ../trace/ to read: every access of memory, and every
// operation at which threads meet, with what each lane brings and receives.
#include "checks.h"
#include "shared_memory.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace emulator {
namespace {
enum class Happening : uint8_t { READ, WRITE, ATOMIC, COPY, COPY_LANDS, COMMIT, WAIT, WARP, BARRIER };

struct Record {        // one thread's part in an event, as trace/record.py reads it
  uint64_t address;    // of an access; where a copy goes; the row that ldmatrix reads
  uint64_t from;       // a copy's source
  const char *operation, *file;  // of a warp operation or a barrier
  uint32_t line, mask, meeting;  // likewise; the lanes that meet have the same number
  uint32_t instruction, bytes;   // 0: nobody passed it
  uint16_t thread;
  Happening kind;
  bool shared;
  LaneValue value, result;          // what input and output hold
  unsigned char input[48];          // of an access: the bytes, of a write as they are after it
  unsigned char output[16];
};
static_assert(sizeof(Record) == 128);

Record* records;  // null: nothing is traced
size_t room, happened;
unsigned traced_block;
uint32_t meeting;
Record* unfinished;  // a write or an atomic whose result is not in memory yet: g++ calls before it

void finish() {
  if (unfinished) memcpy(unfinished->input, (void*)unfinished->address, unfinished->bytes);
  unfinished = nullptr;
}

// Room for a thread's next record, or nullptr.
Record* next(Happening kind, const Thread& thread) {
  if (!records || block.number != traced_block) return nullptr;
  finish();
  if (happened++ >= room) return nullptr;
  Record& record = records[happened - 1];
  record = Record();
  record.kind = kind;
  record.thread = thread.number;
  return &record;
}

void copy_values(unsigned char* to, const LaneValue* values, size_t count, const void* from) {
  for (size_t i = 0; i < count; i++) {
    const LaneValue& value = values[i];
    auto* at = (const unsigned char*)from + value.offset;
    memcpy(to, value.pointed ? *(const unsigned char* const*)at : at, value.bytes);
    to += value.bytes;
  }
}
}  // namespace

void trace_access(const Access& access, bool shared, bool atomic) {
  Record* record = next(atomic ? Happening::ATOMIC : access.write ? Happening::WRITE : Happening::READ, access.thread);
  if (!record) return;
  record->address = access.address;
  record->bytes = access.bytes < sizeof record->input ? access.bytes : sizeof record->input;
  record->instruction = position_in_library(access.instruction);
  record->shared = shared;
  memcpy(record->input, (void*)access.address, record->bytes);
  if (atomic) memcpy(record->output, (void*)access.address, access.bytes);
  if (access.write) unfinished = record;
}

void trace_copy(const void* to, const void* from, unsigned bytes, const void* instruction) {
  if (Record* record = next(Happening::COPY, *current)) {
    record->address = (uintptr_t)to;
    record->from = (uintptr_t)from;
    record->bytes = bytes;
    record->instruction = position_in_library(instruction);
    memcpy(record->input, from, bytes);
  }
}

void trace_copy_lands(const void* to) {
  if (Record* record = next(Happening::COPY_LANDS, *current)) record->address = (uintptr_t)to;
}

void trace_commit(const void* instruction) {
  if (Record* record = next(Happening::COMMIT, *current)) record->instruction = position_in_library(instruction);
}

void trace_wait(int groups_left, const void* instruction) {
  if (Record* record = next(Happening::WAIT, *current)) {
    record->bytes = groups_left;
    record->instruction = position_in_library(instruction);
  }
}

void trace_meeting() { meeting++; }

void trace_barrier(const Thread& thread, const Place& place) {
  if (Record* record = next(Happening::BARRIER, thread)) {
    record->operation = place.operation;
    record->file = place.file;
    record->line = place.line;
    record->meeting = meeting;
    if (thread.called_from) record->instruction = position_in_library(thread.called_from);
  }
}

void trace_lane(const Thread& lane, unsigned mask, const Place& place, const LaneOperation& operation) {
  Record* record = next(Happening::WARP, lane);
  if (!record) return;
  record->operation = place.operation;
  record->file = place.file;
  record->line = place.line;
  record->mask = mask;
  record->meeting = meeting;
  if (lane.called_from) record->instruction = position_in_library(lane.called_from);
  record->address = (uintptr_t)lane.input;
  record->value = operation.inputs[0];
  record->result = operation.output;
  copy_values(record->input, operation.inputs, 3, lane.input);
  copy_values(record->output, &operation.output, 1, lane.output);
}
}  // namespace emulator

using namespace emulator;

// Events of block `number` go into memory for so many records; nullptr: none. From the next launch on.
EXPORTED void emulator_trace(void* memory, size_t records_in_it, unsigned number) {
  records = (Record*)memory;
  room = records_in_it;
  traced_block = number;
  happened = meeting = 0;
  unfinished = nullptr;
}

// How many events there were, which may be more than there was room for.
EXPORTED size_t emulator_traced() {
  finish();
  return happened;
}

// Where __shared__ variables and dynamic shared memory begin and end.
EXPORTED void emulator_shared_ranges(uintptr_t* ends) {
  const Range variables = static_shared_range(), dynamic = dynamic_shared_range();
  ends[0] = variables.begin, ends[1] = variables.end, ends[2] = dynamic.begin, ends[3] = dynamic.end;
}
