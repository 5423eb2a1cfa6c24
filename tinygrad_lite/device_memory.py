"""A GPU whose memory is full: what is kept for later is given back, the request repeated, and an error says what helps."""

from __future__ import annotations

import gc
from functools import partial
from weakref import WeakSet

_pools: WeakSet[Pool] = WeakSet()  # all that this process has
_NO_MEMORY = 2  # cudaErrorMemoryAllocation


class OutOfMemory(MemoryError):
    """The GPU has no room for an array."""


class Pool:
    """A memory pool of CuPy's whose `malloc` tries once more where the card is full, then raises OutOfMemory.

    pool: the library's; without one it is a new one. Once `is_recorded` is set, a CUDA graph writes to its blocks, in use
    or not, and none is given back.
    """

    def __init__(self, lib, pool=None):
        self.lib, self.is_recorded = lib, False
        self.pool = lib.cuda.MemoryPool(partial(_cuda_malloc, lib)) if pool is None else pool
        _pools.add(self)

    def malloc(self, size: int):
        """What CuPy is given as an allocator."""
        try:
            return self.pool.malloc(size)
        except MemoryError:
            pass
        gc.collect()  # of arrays in reference cycles
        for pool in (*[p.pool for p in list(_pools) if not p.is_recorded], self.lib.get_default_memory_pool()):
            pool.free_all_blocks()
        try:
            return self.pool.malloc(size)
        except MemoryError:
            raise self._error(size) from None

    def total_bytes(self) -> int:
        """What it holds of the card, in use or for later."""
        return self.pool.total_bytes()

    def used_bytes(self) -> int:
        """What arrays use of it."""
        return self.pool.used_bytes()

    def _error(self, size):
        card = self.lib.cuda.Device()
        free, total = card.mem_info
        name = self.lib.cuda.runtime.getDeviceProperties(card.id)["name"].decode()
        held, used = sum(pool.total_bytes() for pool in _pools), sum(pool.used_bytes() for pool in _pools)
        return OutOfMemory(
            f'device "cuda": out of memory: {_size(size)} asked for, {_size(free)} of {_size(total)} free on {name}; this '
            f"process's pools hold {_size(held)}, {_size(used)} of it in use. What helps: a smaller --batch-size with a "
            "larger --accumulate, --dtype bfloat16, a shorter --block-size; and nvidia-smi shows whether another process "
            "uses the card"
        )


def guard(lib):
    """Let arrays come from a Pool around the library's own. An allocator that the program has set stays in its place."""
    default = lib.get_default_memory_pool()
    if lib.cuda.get_allocator() == default.malloc:
        lib.cuda.set_allocator(Pool(lib, default).malloc)


def _cuda_malloc(lib, size: int):
    """cudaMalloc for a pool: where it fails the pool would free blocks and try again, but that is for Pool to decide."""
    try:
        return lib.cuda.MemoryPointer(lib.cuda.Memory(size), 0)
    except lib.cuda.runtime.CUDARuntimeError as error:
        if error.status != _NO_MEMORY:
            raise
        raise MemoryError(str(error)) from None


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
