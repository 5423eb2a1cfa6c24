"""How well the memory accesses of kernels fit a GPU, counted while they run.

    with emulator.count_accesses() as records:
        kernel(...)
    assert all(r.wavefronts == r.least_wavefronts for r in records if r.memory == "shared")

A record is a line of a kernel's source (AccessRecord).
"""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass

from .options import options


@dataclass
class AccessRecord:
    """What one line of a kernel did, over all launches.

    memory            "shared" or "global"
    access            "read" or "write"
    bytes             that one lane reads or writes at once
    requests          how often a warp executed it
    wavefronts        passes through shared memory: more than least_wavefronts means bank conflicts
    sectors           pieces of 32 bytes of global memory: more than least_sectors means that lanes do not lie together
    """

    kernel: str
    file: str
    line: int
    memory: str
    access: str
    bytes: int
    requests: int = 0
    wavefronts: int = 0
    least_wavefronts: int = 0
    sectors: int = 0
    least_sectors: int = 0


_COUNTED = ("requests", "wavefronts", "least_wavefronts", "sectors", "least_sectors")
_records: list[AccessRecord] | None = None


class Count(ctypes.Structure):
    """An instruction's counts, as runtime/access_counts.cpp writes them."""

    _fields_ = [("instruction", ctypes.c_uint32), ("bytes", ctypes.c_uint32), ("shared", ctypes.c_uint8),
                ("write", ctypes.c_uint8), *((name, ctypes.c_uint64) for name in _COUNTED)]  # fmt: skip


@contextlib.contextmanager
def count_accesses():
    """A list of AccessRecord, which grows with the launches inside the block. Kernels are compiled in mode "race"."""
    global _records
    before, _records = _records, []
    try:
        with options.set(mode="race"):
            yield _records
    finally:
        _records = before


def counting() -> bool:
    """Whether a `count_accesses()` block is open."""
    return _records is not None


def read(library, kernel: str, lines):
    """Add what a library counted in its last launch."""
    array = ctypes.POINTER(Count)()
    n = library.emulator_access_counts(ctypes.byref(array))
    frames = lines[[count.instruction for count in array[:n]]]
    for count in array[:n]:
        memory, access = "shared" if count.shared else "global", "write" if count.write else "read"
        _add(AccessRecord(kernel, *frames[count.instruction].place, memory, access, count.bytes), count)
    _records.sort(key=lambda r: (r.kernel, r.file, r.line))


def _add(new: AccessRecord, count):
    """One line may be many instructions, where loops are unrolled or several kernels share it."""
    same = ("kernel", "file", "line", "memory", "access", "bytes")
    record = next((r for r in _records if all(getattr(r, s) == getattr(new, s) for s in same)), None)
    if record is None:
        _records.append(record := new)
    for name in _COUNTED:
        setattr(record, name, getattr(record, name) + getattr(count, name))
