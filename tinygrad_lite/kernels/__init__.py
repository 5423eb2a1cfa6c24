"""Fast twins of the fused ops: one module per device and op, over plain arrays, knowing nothing of tensors.

Each module holds

    forward(*arrays, **params) -> (out, saved)
    backward(g, saved, needs, into, **params) -> one gradient per input array

DTYPES says which float types the arrays may have, all the same; float32 and float64 where a module says nothing.
`supports(*arrays, **params)`, where a module has it, says whether the kernel takes these; else the readable twin runs.
Arrays are C-contiguous; where no gradient is needed they come as they lie to a module that says TAKES_STRIDES = True.
`needs[i]` says whether input i wants a gradient, `into[i]` is a C-contiguous buffer to overwrite with it, or None.
`backward` of a module that names inputs in ADDS takes `onto` too: for such an i onto[i] is a C-contiguous array to which
gradient i is added on the way to its own memory, or None. A 16-bit sum is then rounded once.
Importing this package loads nothing: Numba (0.4 s) and CuPy come with the first kernel that is looked up.
"""

import importlib
import warnings

from ..config import settings
from ..dtypes import float32, float64

_found = {}
_DEVICES = {"numpy": "cpu", "cupy": "cuda"}  # where a namespace's arrays are


def lookup(device_name, op_name):
    """The module `kernels.<device_name>.<op_name>`, or None where that device has no such kernel.

    None also when the compiler behind the kernels (Numba, CuPy) is not installed, with one warning: the readable twins
    still compute everything.
    """
    key = device_name, op_name
    if key not in _found:
        _found[key] = _import(device_name, op_name)
    return _found[key]


def kernel_for(xp, op_name, dtype):
    """The kernel that a primitive's formula may call for arrays of namespace xp, or None: the formula computes by itself."""
    kernel = lookup(_DEVICES.get(xp.name, xp.name), op_name) if settings.use_fused else None
    return kernel if kernel is not None and dtype in kernel.DTYPES else None


def _import(device_name, op_name):
    module_name = f"{__name__}.{device_name}.{op_name}"
    try:
        module = importlib.import_module(module_name)
        for name, default in (("DTYPES", (float32, float64)), ("supports", None), ("ADDS", ())):
            if not hasattr(module, name):
                setattr(module, name, default)
        return module
    except ModuleNotFoundError as error:
        if error.name in (module_name, f"{__name__}.{device_name}"):
            return None
        compiler = {"cpu": "numba", "cuda": "cupy"}.get(device_name)
        if compiler is None or (error.name or "").split(".")[0] != compiler:
            raise  # a broken import inside a kernel must not pass for a missing kernel
        warnings.warn(
            f"{compiler} is not installed, so {device_name} runs without its fused kernels, several times slower: "
            f"pip install {compiler}",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
