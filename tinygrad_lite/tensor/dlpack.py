"""bfloat16 through DLPack, which NumPy does not know there: the same 16 bits as integers, and the type's code corrected.

A capsule holds a struct whose type stands at a fixed place: dlpack.h, DLManagedTensor and DLManagedTensorVersioned.
"""

import ctypes

import numpy as np

from ..dtypes import bfloat16

_TYPE_AT = {b"dltensor": 20, b"dltensor_versioned": 52}  # of the code; then bits
_UINT, _BFLOAT = 1, 4

_name, _pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
_name.restype, _name.argtypes = ctypes.c_char_p, [ctypes.py_object]
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _type_of(capsule):
    """The capsule's (code, bits), to be written to."""
    name = _name(capsule)
    return (ctypes.c_uint8 * 2).from_address(_pointer(capsule, name) + _TYPE_AT[name])


def bfloat16_capsule(array: np.ndarray, **options):
    """A DLPack capsule of a bfloat16 array; options as for `__dlpack__`."""
    capsule = array.view(np.uint16).__dlpack__(**options)
    _type_of(capsule)[0] = _BFLOAT
    return capsule


class Bits:
    """What NumPy imports in the place of a bfloat16 source: its 16 bits as integers."""

    def __init__(self, source):
        self.source = source

    def __dlpack__(self, **options):
        capsule = self.source.__dlpack__(**options)
        if tuple(_type_of(capsule)) == (_BFLOAT, 16):
            _type_of(capsule)[0] = _UINT
        return capsule

    def __dlpack_device__(self):
        return self.source.__dlpack_device__()


def imported(source) -> np.ndarray:
    """numpy.from_dlpack, for bfloat16 too."""
    try:
        return np.from_dlpack(source)
    except (BufferError, RuntimeError):
        if "bfloat16" not in str(getattr(source, "dtype", "")):
            raise
    source = source.view(np.uint16) if isinstance(source, np.ndarray) else Bits(source)
    return np.from_dlpack(source).view(bfloat16)
