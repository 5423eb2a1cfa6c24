"""Freed memory stays with the process, so that the next step's arrays need no new pages.

By default the C library gives large blocks back to the system as soon as they are free, and each page of the next array
is then mapped and zeroed again on first touch: 5,000 page faults in a step of 0.8 million parameters, a fifth of its
time (65 to 50 ms).
"""

import ctypes
import functools
import sys

from ..config import settings

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
LARGEST = 1 << 25  # a larger block is still the system's: the most that every version of glibc accepts
KEPT = (1 << 31) - 1  # of free memory at the heap's end, more is given back
GROWTH = 1 << 26  # the heap grows by so much; pages that are not touched cost nothing


@functools.cache
def keep_freed_memory():
    """Tell glibc's allocator, once; other C libraries keep it by themselves or cannot be told.

    Not if the user has told it already. It holds for the whole process: what it has freed shows as resident until 2 GiB of it lie at the heap's end.
    """
    if not sys.platform.startswith("linux") or settings.allocator_is_set:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, KEPT), (M_TOP_PAD, GROWTH)):
            mallopt(option, value)
