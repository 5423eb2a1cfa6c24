"""Would our tests find it: every barrier, wait and commit left out, every bound off by one, in every CUDA kernel."""

import os
import signal

import numpy as np
import pytest
from kernels.cuda.checks import EMULATED
from kernels.cuda.emulated import Kernels, needs_emulator
from kernels.cuda.planting import hunt as hunting
from kernels.cuda.planting.equivalents import EQUIVALENT, reason
from kernels.cuda.planting.hunt import Hunt
from kernels.cuda.planting.sources import UNTOUCHED, plant, plant_in

from tinygrad_lite.kernels.cuda import emulator
from tinygrad_lite.kernels.cuda.launch import FOLDER

pytestmark = [needs_emulator, pytest.mark.skipif(not EMULATED, reason="a GPU does not survive these bugs")]

SOURCE = r"""
#include "gpu.cuh"
constexpr int THREADS = 64;
template <int W> constexpr int twice = W < 32 ? 2 * W : W;

// if (n < 3) is no code
__global__ void __launch_bounds__(THREADS) shifted(float* out, const float* in, int n, int count) {
  __shared__ float s[THREADS];
  const int i = threadIdx.x;
  for (int k = i; k < THREADS; k += THREADS) s[k] = k >= 0 && k < n ? fminf(in[k], 35.f) : 0.f;
  if (s[i] > 35.f) return;
  __syncthreads();
  if (i >= n) return;
  float sum = 0.f;
  for (int k = 0; k < 4; k++) sum += k;  // known to the compiler
  for (int k = 0; k < min(n, count); k++) sum += s[k];
  out[i] = sum + s[n - 1 - i];
  cp_async_commit();
  cp_async_wait<1>();
}
"""
FILES = [f for f in sorted((*FOLDER.glob("*.cu"), *FOLDER.glob("*.cuh"))) if f.name not in UNTOUCHED]
FILES = [f.name for f in FILES if plant_in(f.read_text(), f.name, 1)[1]]


@pytest.fixture(scope="module")
def hunt():
    return Hunt()


def test_what_is_planted():
    text, bugs = plant_in(SOURCE, "shifted.cu", 1)
    assert [(b.line, b.text, b.planted) for b in bugs] == [
        (10, "k < THREADS", "k < THREADS + 1"),
        (10, "k >= 0", "k >= 0 - 1"),
        (10, "k < n", "k < n + 1"),
        (12, "__syncthreads()", "nothing"),
        (13, "i >= n", "i >= n + 1"),  # who leaves
        (16, "k < min(n, count)", "k < min(n, count) + 1"),
        (16, "min(n, count)", "min(n, count) + 1"),
        (18, "cp_async_commit()", "nothing"),
        (19, "cp_async_wait<1>()", "nothing"),
        (19, "cp_async_wait<1>()", "cp_async_wait<1 + 1>()"),
    ]
    assert [b.number for b in bugs] == list(range(1, 11)) and bugs[3].source == "__syncthreads();"
    lines = text.split("\n")
    assert (
        lines[11] == "  (planted(4) ? (void)0 : __syncthreads());" and lines[12] == "  if (i >= planted(5) + n) return;"
    )
    assert lines[15] == "  for (int k = 0; k < planted(6) + (planted(7) + min(n, count)); k++) sum += s[k];"
    assert [line for line in lines if "planted" not in line] == [
        line for i, line in enumerate(SOURCE.split("\n"), 1) if i not in {b.line for b in bugs}
    ]


def test_a_bug_sleeps_until_its_number_is_called(tmp_path):
    source, planted = tmp_path / "source", tmp_path / "planted"
    source.mkdir(), planted.mkdir()
    (source / "shifted.cu").write_text(SOURCE)
    bugs = plant(source, planted)
    kernels = Kernels(planted, (planted / "shifted.cu").read_text(), "shifted")
    x = np.arange(40, dtype=np.float32)

    def run(number):
        out = np.zeros(40, np.float32)
        with emulator.options.set(mode="race"):
            hunting.planted_bug(kernels.module.library).value = number
        kernels.run("shifted", 1, 64, out, x, np.int32(40), np.int32(3), mode="race")
        return out

    found = {0: ""}
    np.testing.assert_array_equal(run(0), 9 + np.minimum(x, 35)[::-1])
    for bug in bugs:
        try:
            found[bug.number] = "" if np.array_equal(run(bug.number), run(0)) else "another result"
        except RuntimeError as error:
            found[bug.number] = str(error)
    assert "out of bounds" in found[1] and "out of bounds" in found[3] and "out of bounds" in found[5]
    assert "race" in found[4] and found[6] == found[7] == "another result"
    assert not any(found[n] for n in (2, 8, 9, 10))  # no thread comes before 0, and nothing is copied


def test_a_bug_that_crashes_or_hangs_ends_its_own_process_only(monkeypatch):
    monkeypatch.setattr(hunting, "PATIENCE", (1, 1))

    def hangs():
        while True:
            pass

    assert hunting.in_another_process(lambda: "noticed", 1) == "noticed"
    assert hunting.in_another_process(lambda: "", 1) == ""
    assert hunting.in_another_process(lambda: os.kill(os.getpid(), signal.SIGSEGV), 1) == "crashed: -11"
    assert hunting.in_another_process(hangs, 0) == "took too long"


def test_every_source_is_asked(hunt):
    assert {bug.file for bug in hunt.bugs} == set(FILES)
    assert all(hunt.sources(file) for file in FILES)


def test_what_is_named_as_harmless_is_planted(hunt):
    for file, piece in EQUIVALENT:
        assert any(b.file == file and piece in b.source and b.text in piece for b in hunt.bugs), (file, piece)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_planted_bug_is_found(file, hunt):
    outcomes = [hunt.find(bug) for bug in hunt.bugs if bug.file == file and reason(bug) is None]
    survivors = [str(outcome) for outcome in outcomes if not outcome.found]
    assert outcomes and not survivors, "\n".join(survivors)
