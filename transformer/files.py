"""Files that another process may have open at that moment."""

from __future__ import annotations

import os
import time

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
