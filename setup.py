"""Says at once what pip would find out after minutes of building; all else is in setup.cfg."""

import sys
import sysconfig

from setuptools import setup

if sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info < (3, 14):
    raise SystemExit(
        "Numba has no wheels for free-threaded Python 3.13: take 3.14, or a Python with the interpreter's lock"
    )

setup()
