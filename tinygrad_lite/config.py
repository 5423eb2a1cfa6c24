"""The environment variables of the library: all are read here, once, when the library is imported.

TGL_FUSED        1     0 runs the readable twin of every fused op instead of its kernel
TGL_NUM_THREADS        threads that share kernels and products; by default the cores this process may use
TGL_CACHE_DIR          where compiled kernels are kept; by default the user's cache directory
TGL_GRAPH        1     0 launches the kernels of a step on the GPU one by one, and records no step and no token on the CPU
TGL_CUDA         cupy  emulate puts the emulator of kernels/cuda/emulator behind device "cuda", for a machine without a GPU

and whether glibc's own variables tell its allocator what to keep (MALLOC_TRIM_THRESHOLD_ and its like), and where
CUDA_PATH or CUDA_HOME say that a CUDA toolkit is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

MOST_THREADS = 1024
CUDA_TOOLKIT = ("CUDA_PATH", "CUDA_HOME")
CUDA_LIBRARIES = {"": "cupy", "cupy": "cupy", "emulate": "tinygrad_lite.kernels.cuda.emulator.cupy"}
ALLOCATOR = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


class Settings:
    """What the environment says; attributes may be set afterwards, in tests say. Raises ValueError naming a bad value.

    use_fused        whether fused ops run their kernels
    use_graph        whether a step or a written token is one CUDA graph on the GPU, and is recorded on the CPU
    num_threads      threads that share kernels and products, or None for as many as there are cores
    cache_directory  where compiled kernels are kept, or None if no place is known
    cuda_library     the module behind device "cuda": CuPy, or the emulator's stand-in for it
    cuda_toolkits    folders that may hold CUDA's headers, from the environment
    allocator_is_set whether the user has told glibc's allocator what to keep
    """

    __slots__ = (
        "use_fused",
        "use_graph",
        "num_threads",
        "cache_directory",
        "cuda_library",
        "cuda_toolkits",
        "allocator_is_set",
    )

    def __init__(self, environment=os.environ, platform: str = sys.platform):
        self.use_fused = _switch("TGL_FUSED", environment.get("TGL_FUSED", ""))
        self.use_graph = _switch("TGL_GRAPH", environment.get("TGL_GRAPH", ""))
        self.num_threads = _thread_count("TGL_NUM_THREADS", environment.get("TGL_NUM_THREADS", ""))
        self.cache_directory = _cache_directory(environment, platform)
        self.cuda_library = _cuda_library("TGL_CUDA", environment.get("TGL_CUDA", ""))
        self.cuda_toolkits = tuple(environment[name] for name in CUDA_TOOLKIT if environment.get(name))
        self.allocator_is_set = any(name in environment for name in ALLOCATOR)


def _switch(name: str, value: str) -> bool:
    value = value.strip()
    if value not in ("", "0", "1"):
        raise ValueError(f"{name}: expected 0 or 1, got {value!r}: correct or unset this environment variable")
    return value != "0"


def _cuda_library(name: str, value: str) -> str:
    value = value.strip()
    if value not in CUDA_LIBRARIES:
        raise ValueError(f"{name}: expected cupy or emulate, got {value!r}: correct or unset this environment variable")
    return CUDA_LIBRARIES[value]


def _thread_count(name: str, value: str) -> int | None:
    value = value.strip()
    if not value:
        return None
    if not value.isdecimal() or not 1 <= int(value) <= MOST_THREADS:
        raise ValueError(
            f"{name}: expected a whole number from 1 to {MOST_THREADS}, got {value!r}: correct or unset this "
            "environment variable (unset, it is the cores that the process may use)"
        )
    return int(value)


def _cache_directory(environment, platform: str) -> Path | None:
    asked = environment.get("TGL_CACHE_DIR", "").strip()
    try:
        if asked:
            return Path(asked).expanduser().absolute()
        if platform == "win32" and environment.get("LOCALAPPDATA"):
            return Path(environment["LOCALAPPDATA"], "tinygrad_lite", "Cache")
        if environment.get("XDG_CACHE_HOME"):
            return Path(environment["XDG_CACHE_HOME"], "tinygrad_lite")
        return Path.home() / ("Library/Caches" if platform == "darwin" else ".cache") / "tinygrad_lite"
    except RuntimeError:  # this user has no home
        return None


settings = Settings()
