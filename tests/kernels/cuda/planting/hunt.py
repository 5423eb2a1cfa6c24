"""Wake one planted bug after another, and see whether the kernels' tests find it.

A bug is woken in a forked process, which it may crash, hang or fill with rubbish. There the questions of asked.py that
come by the bug are asked: in mode "race", then as the tests ask them in every order of threads, at last in mode "race"
in every order. Whatever they raise has found it.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import os
import pickle
import re
import resource
import shutil
import signal
import tempfile
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from kernels.cuda import checks
from kernels.cuda.planting.asked import QUESTIONS
from kernels.cuda.planting.sources import Bug, plant

from tinygrad_lite.kernels.cuda import launch, nvrtc
from tinygrad_lite.kernels.cuda.emulator import options
from tinygrad_lite.kernels.cuda.emulator.module import Module

PHASES = (("race", checks.SCHEDULES[:1]), ("fast", checks.SCHEDULES))
PATIENCE = 20, 30  # a process that asks may take so many times the processor's time of the sound kernels, and seconds


@dataclass(frozen=True)
class Outcome:
    """What became of a bug: `found` says by what, and is empty where nothing found it."""

    bug: Bug
    found: str
    reached: int  # by how many questions
    seconds: float

    def __str__(self):
        what = self.found or ("SURVIVED" if self.reached else "SURVIVED: no question comes by")
        return f"{self.bug}\n    {self.seconds:.1f} s: {what}"


class Hunt:
    """The planted copies of a folder of kernels, and what the sound ones do."""

    def __init__(self, folder: Path = launch.FOLDER):
        self.folder = Path(tempfile.mkdtemp(prefix="planted-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.bugs = plant(folder, self.folder)
        self._baselines = {}

    def sources(self, file: str) -> list[str]:
        """The .cu files with questions that a file is a part of."""
        return [s for s in QUESTIONS if file == s or file in _included(self.folder / s)]

    def questions(self, bug: Bug):
        """(name, question, the sound kernel's time) of each that comes by a bug, the quick ones first."""
        asked = [q for source in self.sources(bug.file) for q in self._baseline(source)]
        return sorted(((n, q, t) for n, q, t, reached in asked if reached[bug.number]), key=lambda q: q[2])

    def _baseline(self, source: str):
        """(name, question, processor's time, which bugs it came by) of all of a source, with no bug awake."""
        return [self._sound(name, question) for name, question in QUESTIONS[source].items()]

    def _sound(self, name, question):
        if name not in self._baselines:
            with self.awake(0), _phase("fast", checks.SCHEDULES[:1]):
                question()  # all is compiled before bugs are at large
            reached, began = bytearray(1 + len(self.bugs)), time.process_time()
            with self.awake(0, reached), _phase(*PHASES[0]):
                question()
            self._baselines[name] = name, question, time.process_time() - began, reached
        return self._baselines[name]

    @contextlib.contextmanager
    def awake(self, number: int, reached: bytearray | None = None):
        """Inside, kernels are the planted ones, with this bug awake; what they come by is marked in `reached`."""
        run = Module.launch

        def launched(module, *arguments):
            planted_bug(module.library).value = number
            try:
                run(module, *arguments)
            finally:
                if reached is not None:
                    marks = (ctypes.c_ubyte * len(reached)).in_dll(module.library, "planted_reached")
                    reached[:] = bytes(a | b for a, b in zip(reached, marks, strict=True))

        version = nvrtc.compiler_version
        with (
            mock.patch.object(launch, "FOLDER", self.folder),
            mock.patch.object(nvrtc, "compiler_version", lambda lib: (*version(lib), "planted")),
            mock.patch.object(Module, "launch", launched),
            mock.patch.object(Module, "_with_lines", lambda module, text: text),  # asks another program
        ):
            yield

    def find(self, bug: Bug) -> Outcome:
        """Wake a bug and see who notices."""
        began, asked = time.perf_counter(), self.questions(bug)
        found = in_another_process(lambda: self._ask(bug, asked), sum(t for *_, t in asked)) if asked else ""
        return Outcome(bug, found, len(asked), time.perf_counter() - began)

    def _ask(self, bug, asked) -> str:
        with self.awake(bug.number):
            for mode, schedules in PHASES:
                for name, question, _ in asked:
                    with _phase(mode, schedules):
                        try:
                            question()
                        except BaseException as error:
                            said = re.sub(r"\s+", " ", str(error))[:150]
                            return f"{name} in mode {mode}: {type(error).__name__}: {said}"
        return ""


def planted_bug(library):
    """The number of the bug that is awake in a library of kernels, to be set."""
    return ctypes.c_int.in_dll(library, "planted_bug")


@contextlib.contextmanager
def _phase(mode, schedules):
    with options.set(mode=mode), mock.patch.object(checks, "SCHEDULES", schedules):
        yield


def in_another_process(work, seconds: float) -> str:
    """What work() returns, or what became of the process that was to compute it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            limit = int(PATIENCE[0] * seconds + PATIENCE[1])
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(writing, pickle.dumps(work()))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if said:
        return pickle.loads(said)
    ended = os.waitstatus_to_exitcode(status)
    return "took too long" if -ended in (signal.SIGXCPU, signal.SIGKILL) else f"crashed: {ended}"


@functools.cache
def _included(path: Path) -> frozenset[str]:
    """The headers of a source, and theirs."""
    names = [n for n in re.findall(r'#include "(\w+\.cuh)"', path.read_text()) if (path.parent / n).exists()]
    return frozenset(names).union(*(_included(path.parent / n) for n in names))
