"""Where arrays live: a device has a name and the array namespace that computes there."""

from __future__ import annotations

import importlib

import numpy

from .config import settings
from .device_memory import guard
from .xp import Namespace


class Device:
    """A place for arrays. `xp` is our namespace over its array library; `to_host(array)` gives NumPy's."""

    __slots__ = ("name", "xp", "to_host")

    def __init__(self, name: str, xp: Namespace, to_host):
        self.name, self.xp, self.to_host = name, xp, to_host

    def __repr__(self):
        return f"device({self.name!r})"

    def __reduce__(self):
        return get_device, (self.name,)


CPU = Device("cpu", Namespace(numpy, "numpy"), lambda array: array)
_DEVICES = {"cpu": CPU}


def register_device(device: Device) -> Device:
    """Make a device known by its name: the place where another array library joins."""
    _DEVICES[device.name] = device
    return device


def get_device(device) -> Device:
    """The device of that name ("cpu", "cuda"), or the device itself; None means the CPU."""
    if device is None:
        return CPU
    if isinstance(device, Device):
        return device
    if device == "cuda" and "cuda" not in _DEVICES:
        return register_device(_open_cuda())
    if device not in _DEVICES:
        known = ", ".join(repr(name) for name in sorted({*_DEVICES, "cuda"}))
        raise ValueError(f"device: {device!r} is not known: choose one of {known}")
    return _DEVICES[device]


def is_device(name) -> bool:
    """Whether this is a device or a device's name."""
    return isinstance(name, Device) or isinstance(name, str) and (name == "cuda" or name in _DEVICES)


LEAST_CAPABILITY = 80  # Ampere: asynchronous copies, and tensor cores that take bfloat16


def _open_cuda() -> Device:
    try:
        lib = importlib.import_module(settings.cuda_library)  # the one place that chooses: everything asks the device
    except ModuleNotFoundError as error:
        raise RuntimeError('device "cuda": CuPy is not installed: pip install "tinygrad-lite[cuda]"') from error
    except ImportError as error:  # a library that it needs is not there
        raise RuntimeError(f'device "cuda": CuPy is installed and cannot be loaded: {error}') from error
    _check_card(lib)
    guard(lib)
    xp = Namespace(lib, "cupy")
    from .kernels.cuda.product import stacked  # which asks for this device when it is called

    xp.matmul, xp.takes_halves = stacked, frozenset({"matmul"})
    try:
        from cupyx.scipy.special import erf

        xp.erf = erf if settings.cuda_library == "cupy" else xp.erf
    except ImportError:
        pass  # erf element by element on the host: right, and slow
    return Device("cuda", xp, lib.asnumpy)


def _check_card(lib):
    """Raise RuntimeError unless there is a driver, a card, and a card that our kernels run on."""
    other = 'use device="cpu", or set TGL_CUDA=emulate to run the kernels on the CPU, slowly'
    runtime = lib.cuda.runtime
    try:
        runtime.getDeviceCount()
    except Exception as error:
        # CUDA says "insufficient driver" where there is none, too; its version is then 0.
        driver = runtime.driverGetVersion() if "InsufficientDriver" in str(error) else 0
        if driver:
            needed, has = _version(runtime.runtimeGetVersion()), _version(driver)
            raise RuntimeError(
                f'device "cuda": the NVIDIA driver knows CUDA up to {has}, and this CuPy was built for CUDA {needed}: '
                f"update the driver, or install the CuPy for it (pip install cupy-cuda{driver // 1000}x); else {other}"
            ) from error
        raise RuntimeError(f'device "cuda": no usable NVIDIA GPU or driver ({error}): {other}') from error
    card = lib.cuda.Device()
    capability = int(card.compute_capability)
    if capability < LEAST_CAPABILITY:
        name = runtime.getDeviceProperties(card.id)["name"].decode()
        raise RuntimeError(
            f'device "cuda": {name} has compute capability {capability / 10}, and the kernels need '
            f"{LEAST_CAPABILITY / 10} or higher (Ampere and later): {other}"
        )


def _version(number: int) -> str:
    """CUDA's number of a version, 12040 say, as it is written: 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"
