"""The environment variables of the library; TGL_FUSED is read here, the others by the kernels when they start.

TGL_FUSED        1     0 runs the readable twin of every fused op instead of its kernel
TGL_NUM_THREADS        threads of the kernels and of BLAS; by default the cores this process may use
TGL_CACHE_DIR          where compiled kernels are kept; by default the user's cache directory
"""

from __future__ import annotations

import os


class Settings:
    """Read at import; attributes may be set afterwards, in tests say."""

    __slots__ = ("use_fused",)

    def __init__(self):
        self.use_fused = os.environ.get("TGL_FUSED", "1") != "0"


settings = Settings()
