"""Settings of the whole suite: property tests are deterministic, and print how to repeat a failure.

Device "cuda" is the emulator where there is no GPU, or where TGL_CUDA=emulate asks for it.
"""

import os

if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TGL_CUDA", "emulate")  # before the library reads it

from hypothesis import settings  # noqa: E402

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")
