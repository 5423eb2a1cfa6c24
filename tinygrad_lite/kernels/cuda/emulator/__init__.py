"""Run CUDA C on the CPU: every CUDA thread a fiber, every warp operation computed when its last lane arrives.

TGL_CUDA=emulate puts it behind device "cuda". It needs Linux on x86-64 and g++.
"""

from .options import Options, options, unavailable

__all__ = ["Options", "options", "unavailable"]
