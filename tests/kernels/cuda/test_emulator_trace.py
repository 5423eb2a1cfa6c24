"""Traces of kernels whose every step is known."""

import numpy as np
import pytest
from kernels.cuda.emulated import Kernels, needs_emulator

from tinygrad_lite import device
from tinygrad_lite.dtypes import bfloat16
from tinygrad_lite.kernels.cuda import emulator
from tinygrad_lite.kernels.cuda.emulator.trace import examples, record, recording
from tinygrad_lite.kernels.cuda.emulator.trace.report import View, report
from tinygrad_lite.kernels.cuda.emulator.trace.shared_map import SharedMemory
from tinygrad_lite.kernels.cuda.emulator.trace.source import parameter_names
from tinygrad_lite.kernels.cuda.emulator.trace.steps import steps_of
from tinygrad_lite.kernels.cuda.emulator.trace.values import fragments
from tinygrad_lite.kernels.cuda.launch import FOLDER

pytestmark = needs_emulator

SOURCE = r"""
#include "gpu.cuh"

#define SIZES int rows, \
    int columns

__global__ void planted(float* out, const float* in, SIZES) {
  __shared__ float s[8 * 32];
  s[8 * threadIdx.x] = in[8 * threadIdx.x];            // conflict
  __syncthreads();                                     // barrier
  float x = s[8 * threadIdx.x];                        // read
  x += __shfl_xor_sync(ALL_LANES, x, 1);               // shuffle
  if (threadIdx.x < 4) out[threadIdx.x] = x;           // some
}

__global__ void vectors(float* out, const float4* in) {
  float4 x = in[threadIdx.x];                          // vector
  out[threadIdx.x] = x.x + x.y + x.z + x.w;
}

// Lane l comes l % 4 times to the loop, then all meet behind it.
__global__ void loops(float* out, const float* in) {
  float sum = 0.f;
  for (int i = 0; i < threadIdx.x % 4; i++) sum += in[32 * i + threadIdx.x];  // turn
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;    // end
}

// Lanes 0 to 15 and the others go different ways, in every turn of a loop, and vote between the turns.
__global__ void ways(int* out, const float* in) {
  int votes = 0;
  for (int i = 0; i < 2; i++) {
    float x = 1.f;
    if (threadIdx.x % 32 < 16 || i) x = in[threadIdx.x];  // way
    votes += __ballot_sync(ALL_LANES, x > 0.f) != 0;   // vote
  }
  out[threadIdx.x] = votes;
}

__global__ void product(float* out, const bf16* a, const bf16* b) {  // row-major fragments, as gpu.cuh has them
  const int group = threadIdx.x / 4, pair = threadIdx.x % 4 * 2;
  auto two = [](const bf16* p) { return (u32)__bfloat16_as_ushort(p[0]) | (u32)__bfloat16_as_ushort(p[1]) << 16; };
  const u32 fa[4] = {two(a + group * 16 + pair), two(a + (group + 8) * 16 + pair), two(a + group * 16 + pair + 8),
                     two(a + (group + 8) * 16 + pair + 8)};
  const u32 fb[2] = {two(b + group * 16 + pair), two(b + group * 16 + pair + 8)};  // b holds columns
  float d[4] = {};
  mma_16816(bf16(), d, fa, fb);                        // mma
  out[threadIdx.x] = d[0];
}

__global__ void copies(bf16* out, const bf16* in) {
  __shared__ __align__(16) bf16 first[64 * 8], second[64 * 8];
  cp_async16(first + 8 * threadIdx.x, in + 8 * threadIdx.x);
  cp_async_commit();
  cp_async16(second + 8 * threadIdx.x, in, threadIdx.x < 32 ? 16 : 0);  // half
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();
  out[threadIdx.x] = first[8 * threadIdx.x];
  cp_async_wait<0>();
  __syncthreads();
  out[threadIdx.x] = second[8 * threadIdx.x];
}

__global__ void warps(int* out) {
  int x = __shfl_sync(ALL_LANES, 10 * threadIdx.x, threadIdx.x + 1);  // rotate
  int most = __reduce_max_sync(ALL_LANES, x);          // most
  out[threadIdx.x] = most + __ballot_sync(ALL_LANES, threadIdx.x < 4);  // ballot
}

__global__ void adds(int* total) { atomicAdd(total, 2); }  // atomic

__global__ void fails(float* out) {
  out[threadIdx.x] = 1.f;
  if (threadIdx.x == 5) out[99] = 2.f;
}
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    names = ["planted", "vectors", "loops", "ways", "product", "copies", "warps", "adds", "fails"]
    return Kernels(tmp_path_factory.mktemp("trace"), SOURCE, *names)


@pytest.fixture
def example(monkeypatch):
    """Runs an example of the library, and gives its recording; what stood behind "cuda" comes back afterwards."""
    monkeypatch.setattr(device, "_DEVICES", dict(device._DEVICES))

    def run(name, dtype=None, block=0, **options):
        found = examples.find(name)
        with emulator.options.set(**options), recording(found.kernel, block) as result:
            examples.run(found, dtype or found.dtype)
        return result.recording

    return run


def ones(size, dtype=np.float32):
    """From a multiple of 64 bytes on."""
    base = np.ones(size + 32, dtype)
    begin = -base.ctypes.data % 64 // base.itemsize
    return base[begin : begin + size]


def traced(kernels, name, *arguments, block=32, grid=1, which=0):
    with recording(name, which) as result:
        kernels.run(name, grid, block, *arguments)
    return result.recording


def at(kernels, steps, mark):
    """The steps of the line with that comment."""
    line = int(kernels.line(mark).partition(":")[2])
    return [step for step in steps if ("planted.cu", line) in step.frames]


def planted(kernels):
    x = ones(256)
    x[:] = np.arange(256)
    return traced(kernels, "planted", np.zeros(4, np.float32), x, np.int32(7), np.int32(9))


def text(kernels, recording, **view):
    return "\n".join(report(recording, View(folders=(kernels.source.parent, FOLDER), **view)))


def test_conflicts_and_sectors_of_a_step(kernels):
    load, store = at(kernels, steps_of(planted(kernels), 0), "conflict")
    assert (load.kind, store.kind) == (record.READ, record.WRITE)
    assert [(c.unit, c.taken, c.least) for c in load.costs + store.costs] == [("sector", 32, 4), ("wavefront", 8, 1)]


def test_steps_come_in_order_with_their_lanes(kernels):
    steps = steps_of(planted(kernels), 0)
    kinds = [record.READ, record.WRITE, record.BARRIER, record.READ, record.WARP, record.WRITE]
    assert [s.kind for s in steps] == kinds
    assert steps[-1].lanes == [0, 1, 2, 3] and steps[0].lanes == list(range(32))


def test_values_of_loads_stores_and_shuffles(kernels):
    steps = steps_of(planted(kernels), 0)
    value = lambda event, name: np.frombuffer(bytes(event[name])[:4], np.float32)[0]
    (shuffle,), (store,) = at(kernels, steps, "shuffle"), at(kernels, steps, "some")
    assert [value(e, "input") for e in shuffle.events] == [8.0 * i for i in range(32)]
    assert [value(e, "output") for e in shuffle.events] == [8.0 * (i ^ 1) for i in range(32)]
    assert [value(e, "input") for e in store.events] == [8.0, 8.0, 40.0, 40.0]  # written after g++'s call


def test_what_the_report_says(kernels):
    lines = text(kernels, planted(kernels)).split("\n")
    for wanted in (
        "  rows = 7, columns = 9",
        "        <- bank conflict: 8 wavefronts where 1 would do",
        "        <- not coalesced, or not aligned: 32 sectors where 4 would do",
        f"{kernels.line('shuffle')}  x += __shfl_xor_sync(ALL_LANES, x, 1);               // shuffle",
        "        out[0..3] = 8 8 40 40",
        "        |        0  0....... 0....... 0....... 0.......  and 7 more lines like it",
        "shared memory: 16 wavefronts of 2, 14 too many: bank conflicts",
    ):
        assert wanted in lines, wanted
    (brings,) = [line for line in lines if line.startswith("        brings")]
    (receives,) = [line for line in lines if line.startswith("        receives")]
    assert brings.split()[:5] == ["brings", "0", "8", "16", "24"]
    assert receives.split()[:5] == ["receives", "8", "0", "24", "16"]
    assert max(map(len, lines)) <= 110


def test_options_of_the_report(kernels):
    found = planted(kernels)
    line = int(kernels.line("shuffle").partition(":")[2])
    short = text(kernels, found, line=line, lanes=True)
    assert "global load" not in short.partition("All blocks")[0] and "31: 240" in short
    assert "... 5 more steps" in text(kernels, found, most=1)
    assert "     0:          0          ?          ?" in text(kernels, found, values=np.dtype("f4"))
    assert "No step of this warp is at line 1\n" in text(kernels, found, line=1)


def test_a_vector_is_one_access(kernels):
    steps = steps_of(traced(kernels, "vectors", np.zeros(32, np.float32), ones(128)), 0)
    (load,) = at(kernels, steps, "vector")
    assert load.first["bytes"] == 16 and (load.costs[0].taken, load.costs[0].least) == (16, 16)


def test_lanes_that_leave_a_loop_wait_behind_it(kernels):
    steps = steps_of(traced(kernels, "loops", np.zeros(32, np.float32), ones(96)), 0)
    turns, (end,) = at(kernels, steps, "turn"), at(kernels, steps, "end")
    assert [len(step.lanes) for step in turns] == [24, 16, 8]
    assert len(end.lanes) == 32 and steps[-1] is end


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_turns_of_different_lanes_are_told_apart_by_what_the_warp_does_between(kernels, order):
    """Lanes 16 to 31 come to the load first in the second turn; the others for the second time."""
    with emulator.options.set(order=order):
        steps = steps_of(traced(kernels, "ways", np.zeros(64, np.int32), ones(64), block=64), 1)
    assert [len(step.lanes) for step in at(kernels, steps, "way")] == [16, 32]
    assert [s.kind for s in steps] == [record.READ, record.WARP, record.READ, record.WARP, record.WRITE]


@pytest.mark.parametrize("row, inner, column", [(0, 0, 0), (9, 3, 5), (15, 15, 7), (4, 8, 2)])
def test_fragments_of_a_one_hot_product(kernels, row, inner, column):
    """A has a 2 at (row, inner), B a 3 at (inner, column): D a 6 at (row, column)."""
    a, b = np.zeros((16, 16), bfloat16), np.zeros((8, 16), bfloat16)
    a[row, inner], b[column, inner] = 2, 3
    found = traced(kernels, "product", np.zeros(32, np.float32), a, b)
    (step,) = at(kernels, steps_of(found, 0), "mma")
    gathered = fragments(step.events, bfloat16)
    np.testing.assert_array_equal(gathered["A"], a.astype(np.float32))
    np.testing.assert_array_equal(gathered["B"], b.T.astype(np.float32))
    assert not gathered["D before"].any()
    assert np.argwhere(gathered["D after"]).tolist() == [[row, column]] and gathered["D after"][row, column] == 6
    lines = text(kernels, found, lanes=True).split("\n")
    begin = lines.index("        D after, 16 x 8:") + 1
    assert lines[begin + row].split() == ["6" if j == column else "0" for j in range(8)]


def test_shared_memory_at_barriers_with_copies_under_way(kernels):
    found = traced(kernels, "copies", np.zeros(64, bfloat16), ones(512, bfloat16), block=64)
    barriers = np.flatnonzero((found.events["kind"] == record.BARRIER) & (found.events["thread"] == 0))
    memory, maps = SharedMemory(found), []
    for index in barriers:
        assert memory.advance(index)
        maps.append("\n".join(memory.lines("")))
    assert maps[0].count("00000000 00000000") == 2 and maps[0].count("~~~~~~~~ ~~~~~~~~") == 2
    assert maps[1].count("00000000 00000000") == 4 and "~" not in maps[1]
    values = [
        line.split(":")[1].split() for line in memory.lines("", bfloat16) if line.count(":") and "bytes" not in line
    ]
    assert sorted(values) == [["0"] * 8] * 32 + [["1"] * 8] * 96
    (copy,) = at(kernels, steps_of(found, 0), "half")
    assert [(c.unit, c.taken) for c in copy.costs] == [("sector", 1), ("wavefront", 4)]
    assert "nothing is read by all lanes: zeros" in text(kernels, found, warp=1)
    said = text(kernels, found)
    assert "cp.async wait<1>" in said and "shared memory at barrier 2\n" in said  # all has landed: not as before


def test_votes_reductions_and_shuffles_from_other_lanes(kernels):
    lines = text(kernels, traced(kernels, "warps", np.zeros(32, np.int32))).split("\n")
    under = lambda mark: lines[next(i for i, line in enumerate(lines) if line.endswith("// " + mark)) + 2 :]
    brings, sources, receives = (line.split() for line in under("rotate")[:3])
    assert brings[:4] == ["brings", "0", "10", "20"] and sources[:6] == ["with", "x", "=", "1", "2", "3"]
    assert receives[:4] == ["receives", "10", "20", "30"]
    assert under("most")[1] == "        receives 310 in all 32"
    assert under("ballot")[1] == "        receives 0x0000000f in all 32"


def test_an_atomic_shows_what_was_there_and_what_is(kernels):
    found = traced(kernels, "adds", np.zeros(1, np.int32), block=4)
    (step,) = at(kernels, steps_of(found, 0), "atomic")
    value = lambda event, name: np.frombuffer(bytes(event[name])[:4], np.int32)[0]
    assert [(value(e, "output"), value(e, "input")) for e in step.events] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert "        total[0] = 0->2 2->4 4->6 6->8" in text(kernels, found).split("\n")


def test_a_failed_launch_is_recorded_too(kernels):
    with recording("fails") as result, pytest.raises(RuntimeError, match="out of bounds"):
        kernels.run("fails", 1, 32, np.zeros(128, np.float32)[:32])
    assert "out of bounds" in result.recording.error
    assert len(steps_of(result.recording, 0)[0].lanes) == 32


def test_only_the_asked_block_of_the_first_launch_is_recorded(kernels):
    x, out = ones(96), np.zeros(96, np.float32)
    with recording("loops", 1) as result:
        kernels.run("vectors", 1, 8, out, x)
        kernels.run("loops", 2, 8, out, x)
        kernels.run("loops", 3, 8, out, x)
    assert result.launched == ["vectors", "loops", "loops"]
    assert result.recording.grid == (2,) and set(result.recording.events["thread"]) == set(range(8))
    with pytest.raises(ValueError, match="block 2 is not there: the grid has 2, numbered from 0"):
        traced(kernels, "loops", out, x, grid=2, which=2)
    with pytest.raises(ValueError, match="warp 1 is not there: a block has 1, numbered from 0"):
        steps_of(result.recording, 1)


def test_a_full_log_says_so(kernels, monkeypatch):
    monkeypatch.setattr(record, "MOST_EVENTS", 40)
    found = planted(kernels)
    assert len(found.events) == 40 and found.happened == 32 * 5 + 4
    assert "The block had 164 events; only the first 40 were kept" in text(kernels, found)


def test_nothing_is_recorded_outside(kernels):
    with recording("loops") as result:
        pass
    with emulator.options.set(mode="race"):
        kernels.run("loops", 1, 32, np.zeros(32, np.float32), ones(96))
        assert kernels.module.library.emulator_traced() == 0
    assert result.recording is None
    with emulator.options.set(mode="fast"):
        assert not hasattr(kernels.module.library, "emulator_trace")


def test_names_of_parameters(kernels):
    assert parameter_names([kernels.source.parent], "planted") == ["out", "in", "rows", "columns"]
    assert parameter_names([FOLDER], "norm_forward")[:5] == ["out", "saved_mean", "saved_rstd", "x", "weight"]
    assert parameter_names([FOLDER], "attention_forward")[-1] == "aligned"


@pytest.mark.parametrize("name", ["softmax_long_row", "gemm", "layer_norm_backward"])
def test_steps_cost_what_the_counter_counts(example, name):
    """All warps' steps of the one block, against counts that are taken without putting steps together."""
    found = example(name)
    assert found.grid in ((1,), (1, 1)) and found.error is None
    for unit, taken, least in (
        ("wavefront", "wavefronts", "least_wavefronts"),
        ("sector", "sectors", "least_sectors"),
    ):
        costs = [c for w in range(found.threads // 32) for s in steps_of(found, w) for c in s.costs if c.unit == unit]
        assert sum(c.taken for c in costs) == sum(getattr(r, taken) for r in found.counts) > 0
        assert sum(c.least for c in costs) == sum(getattr(r, least) for r in found.counts)


def test_steps_do_not_depend_on_the_order_of_threads(example):
    """In the emulator; on a GPU the lanes of a warp run together anyway."""

    def told(found):
        return [(s.kind, s.frames, s.lanes, [bytes(e["input"]) for e in s.events]) for s in steps_of(found, 3)]

    first = told(example("softmax_long_row"))
    assert len(first) > 20
    for order in ("descending", "random"):
        assert told(example("softmax_long_row", order=order)) == first


@pytest.mark.parametrize(
    "name", [e.name if e.name in ("gelu_forward", "dropout")
             else pytest.param(e.name, marks=pytest.mark.slow) for e in examples.EXAMPLES]
)  # fmt: skip
def test_every_example_has_a_trace(example, name):
    for dtype in examples.find(name).dtypes[:2]:
        found = example(name, dtype)
        lines = list(report(found, View(folders=(FOLDER,), most=0, width=110)))
        assert found.error is None and 0 < found.happened == len(found.events)
        assert max(map(len, lines)) <= 110, max(lines, key=len)
        assert not [line for line in lines if "argument " in line or "address 0x" in line]


def test_an_unknown_example_names_near_ones():
    with pytest.raises(
        ValueError, match="no kernel 'softmx_forward' to trace: did you mean softmax_forward or .*--list"
    ):
        examples.find("softmx_forward")
    assert examples.find("norm_forward").name == examples.find("layer_norm").name == "layer_norm_forward"
