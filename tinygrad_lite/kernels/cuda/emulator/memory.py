"""Memory of the emulated card: counted, so that it can run out, and kept by pools as CuPy keeps it.

What `empty`, `zeros` and `asarray` make is counted; results of array functions are not.
"""

from __future__ import annotations

import contextlib
import weakref

UNIT = 512  # bytes: CuPy's pools give multiples of it


class CUDARuntimeError(RuntimeError):
    """What a call of CUDA's runtime answers: `status` is its number."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class OutOfMemoryError(MemoryError):
    """A pool found no memory, or has reached its limit."""


class _Card:
    """How many bytes it has, and how many of them are taken."""

    total, taken = 80 << 30, 0


card = _Card()


class Memory:
    """What cudaMalloc gives, until the object dies."""

    size = 0

    def __init__(self, size: int):
        if card.taken + size > card.total:
            raise CUDARuntimeError(2, "cudaErrorMemoryAllocation: out of memory")
        self.size = size
        card.taken += size

    def __del__(self, card=card):  # an argument, which is still there when the interpreter ends
        card.taken -= self.size


class MemoryPointer:
    """A place in memory, which it keeps alive."""

    def __init__(self, mem, offset: int):
        self.mem = mem


class _Pooled:
    """A block in use; it goes back to its pool when it dies."""

    def __init__(self, block: Memory, pool: MemoryPool):
        self.block, self.pool = block, pool

    def __del__(self):
        self.pool.in_use -= self.block.size
        self.pool.free.setdefault(self.block.size, []).append(self.block)


class MemoryPool:
    """Blocks that are used again for the same size, and given back to the card where it is full or when asked to."""

    def __init__(self, allocator=None):
        self.allocator = allocator or (lambda size: MemoryPointer(Memory(size), 0))
        self.free, self.in_use, self.limit = {}, 0, 0

    def malloc(self, size: int) -> MemoryPointer:
        size = -(-size // UNIT) * UNIT
        block = self.free[size].pop() if self.free.get(size) else self._new(size)
        self.in_use += size
        return MemoryPointer(_Pooled(block, self), 0)

    def _new(self, size):
        if self.limit and self.total_bytes() + size > self.limit:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes (limit set to: {self.limit:,} bytes).")
        try:
            return self.allocator(size).mem
        except CUDARuntimeError:
            self.free_all_blocks()
        try:
            return self.allocator(size).mem
        except CUDARuntimeError:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes.") from None

    def free_all_blocks(self, stream=None):
        self.free.clear()

    def set_limit(self, size: int):
        self.limit = size

    def used_bytes(self) -> int:
        return self.in_use

    def free_bytes(self) -> int:
        return sum(size * len(blocks) for size, blocks in self.free.items())

    def total_bytes(self) -> int:
        return self.used_bytes() + self.free_bytes()


default_pool = MemoryPool()
_malloc = default_pool.malloc


def set_allocator(malloc):
    """Take memory for arrays from here."""
    global _malloc
    _malloc = malloc


def get_allocator():
    """Where arrays' memory comes from."""
    return _malloc


@contextlib.contextmanager
def using_allocator(malloc):
    """Inside, arrays' memory comes from here."""
    before = _malloc
    set_allocator(malloc)
    try:
        yield
    finally:
        set_allocator(before)


def take_for(owner, size: int):
    """Memory of the card for as long as owner lives."""
    weakref.finalize(owner, id, _malloc(size)).atexit = False
