"""Time on the device, by its events: each call finds the caches full of something else, and its launches waiting.

Before each call a buffer much larger than the caches is read. So inputs come from memory, and while that reading lasts
the host is done with the launches to come: what is between the two events is the device's time alone. What a call
wrote last may still be in the cache when its time ends.
"""

from __future__ import annotations

import numpy as np

from tinygrad_lite.kernels.cuda.launch import cupy

FLUSH_BYTES = {False: 1 << 30, True: 1 << 16}  # by toy


class Clock:
    """Measures calls of ours."""

    def __init__(self, toy: bool):
        self.lib = cupy()
        self.flush = self.lib.zeros(FLUSH_BYTES[toy] // 4, np.float32)
        self.large = (1 << 16) if toy else (2 << 30)

    def ms(self, run, repeats: int = 20, warm: int = 3) -> list[float]:
        """Milliseconds of each of some calls, after others that are not counted."""
        lib, marks = self.lib, []
        for _ in range(warm):
            run()
        for _ in range(repeats):
            lib.sum(self.flush)
            begin, end = lib.cuda.Event(), lib.cuda.Event()
            begin.record()
            run()
            end.record()
            marks.append((begin, end))
        marks[-1][1].synchronize()
        return [float(lib.cuda.get_elapsed_time(*pair)) for pair in marks]

    def copy_bytes_per_ms(self, n: int | None = None) -> float:
        """Bytes read and written in a millisecond by a copy of n bytes from device to device; None: a large one."""
        n = self.large if n is None else n
        source, to = self.lib.zeros(n, np.uint8), self.lib.zeros(n, np.uint8)

        def copy():
            to[...] = source

        return 2 * n / float(np.median(self.ms(copy)))


class TorchClock:
    """The same for PyTorch; on device "cpu", for a rehearsal, by the host's clock."""

    def __init__(self, toy: bool, device: str = "cuda"):
        import torch

        self.torch, self.device = torch, device
        self.flush = torch.zeros(FLUSH_BYTES[toy] // 4, device=device)

    def ms(self, run, repeats: int = 20, warm: int = 3) -> list[float]:
        """Milliseconds of each of some calls, after others that are not counted."""
        if self.device == "cpu":
            return self._host_ms(run, repeats, warm)
        event, marks = self.torch.cuda.Event, []
        for _ in range(warm):
            run()
        for _ in range(repeats):
            self.flush.sum()
            begin, end = event(enable_timing=True), event(enable_timing=True)
            begin.record()
            run()
            end.record()
            marks.append((begin, end))
        self.torch.cuda.synchronize()
        return [begin.elapsed_time(end) for begin, end in marks]

    def _host_ms(self, run, repeats, warm):
        import time

        times = []
        for _ in range(warm + repeats):
            began = time.perf_counter()
            run()
            times.append((time.perf_counter() - began) * 1e3)
        return times[warm:]


def random_array(shape, dtype, seed: int = 0, scale: float = 1.0):
    """Normal numbers on the device; a large array repeats some of them, for drawing billions takes longer than timing."""
    size = int(np.prod(shape))
    some = np.random.default_rng(seed).standard_normal(min(size, (1 << 20) + 7)) * scale
    some, out = cupy().asarray(some.astype(dtype)), cupy().empty((size,), dtype=dtype)
    for start in range(0, size, len(some)):
        out[start : start + len(some)] = some[: size - start]
    return out.reshape(shape)


def is_emulated() -> bool:
    """Whether device "cuda" is the emulator, whose times mean nothing."""
    from tinygrad_lite.config import settings

    return settings.cuda_library != "cupy"
