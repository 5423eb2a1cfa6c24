"""Choosing what stands behind device "cuda", and what is said where nothing does."""

import types

import pytest

import tinygrad_lite as tgl
from tinygrad_lite import device
from tinygrad_lite.config import settings
from tinygrad_lite.kernels.cuda.emulator import cupy as emulated


@pytest.fixture
def unopened(monkeypatch):
    """As in a new process: "cuda" was not asked for yet."""
    monkeypatch.delitem(device._DEVICES, "cuda", raising=False)


def fake_library(monkeypatch, raises):
    """Stands where CuPy would be imported."""

    def count():
        raise raises

    library = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=count)))
    monkeypatch.setattr(settings, "cuda_library", "cupy")
    monkeypatch.setattr(device.importlib, "import_module", lambda name: library)


def test_without_a_driver_the_error_says_what_to_do(unopened, monkeypatch):
    fake_library(monkeypatch, RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected"))
    with pytest.raises(RuntimeError, match="no usable NVIDIA GPU or driver .cudaErrorNoDevice.*TGL_CUDA=emulate"):
        tgl.ones(2, device="cuda")


def test_without_cupy_the_error_says_what_to_install(unopened, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'cupy'")

    monkeypatch.setattr(settings, "cuda_library", "cupy")
    monkeypatch.setattr(device.importlib, "import_module", missing)
    with pytest.raises(RuntimeError, match=r"CuPy is not installed: pip install .*\[cuda\]"):
        tgl.ones(2, device="cuda")


def test_the_emulator_stands_behind_cuda_where_it_is_asked_for(unopened, monkeypatch):
    monkeypatch.setattr(settings, "cuda_library", emulated.__name__)
    x = tgl.ones(2, device="cuda")
    assert type(x.data) is emulated.ndarray and (x + x).numpy().tolist() == [2.0, 2.0]


def test_an_unknown_device_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'tpu' is not known: choose one of 'cpu', 'cuda'"):
        tgl.ones(2, device="tpu")
