"""How the emulator runs what it is given; tests set these, and a launch reads them."""

from __future__ import annotations

import contextlib
import platform
import shutil
import sys
from dataclasses import dataclass


@dataclass
class Options:
    """order      in which ready threads run: "ascending", "descending" or "random"
    lazy_copies   cp.async and wgmma read at their wait, the last moment allowed, instead of at once
    poison        the byte that fills shared memory before a block starts
    seed          of the random order
    mode          "fast", or "race": races, bounds, uninitialised shared memory, bank conflicts are looked for
    compute_capability  of the card that is claimed, as CuPy names it: "90" has warpgroups (wgmma.cuh), "80" has none
    """

    order: str = "ascending"
    lazy_copies: bool = False
    poison: int = 0xFF
    seed: int = 1
    mode: str = "fast"
    compute_capability: str = "90"

    @contextlib.contextmanager
    def set(self, **changes):
        """With these changes inside the block."""
        before = {name: getattr(self, name) for name in changes}
        for name, value in changes.items():
            setattr(self, name, value)
        try:
            yield self
        finally:
            for name, value in before.items():
                setattr(self, name, value)


options = Options()


def unavailable() -> str | None:
    """Why kernels cannot be emulated here, or None where they can."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return f"the CUDA emulator switches stacks on Linux, x86-64 only; this is {sys.platform}, {platform.machine()}"
    if shutil.which("g++") is None:
        return "the CUDA emulator compiles kernels with g++, which is not installed"
    return None
