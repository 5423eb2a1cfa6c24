"""Run CUDA C on the CPU: every CUDA thread a fiber, every warp operation computed when its last lane arrives.

TGL_CUDA=emulate puts it behind device "cuda". It needs Linux on x86-64 and g++.

    compiler.py   what NVRTC is to a GPU: .cu -> a library, by g++ against include/ and with runtime/
    module.py     launch a kernel of a library; errors name line, block and thread
    counts.py     bank conflicts and coalescing, counted
    trace/        what a kernel does, step by step: `tgl cuda trace`
    cupy.py       the array library that device "cuda" uses
    cublaslt.py   what it uses for matrix products
    options.py    the order of threads, and mode "race", which looks for races and accesses out of bounds
"""

from .counts import AccessRecord, count_accesses
from .options import Options, options, unavailable

__all__ = ["AccessRecord", "Options", "count_accesses", "options", "unavailable"]
