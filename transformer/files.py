"""Files that another process may have open at that moment, and on a disk that may be full."""

from __future__ import annotations

import os
import time

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

WAITS_S = (0.01, 0.03, 0.1, 0.3, 1.0)


def replace(source, target):
    """os.replace, tried again for a second where the system refuses.

    Windows refuses while another program has the target open: a virus scanner, an image viewer, `tgl sample` reading
    which checkpoint is the latest. A training run must not end there.
    """
    for wait in WAITS_S:
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(wait)
    os.replace(source, target)


def save_arrays(path, arrays: dict, metadata: dict | None = None):
    """Write named arrays as safetensors. OSError if they cannot be: the library's own error is of no such kind."""
    try:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(f"{path}: cannot be written: {error}") from None
