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
    monkeypatch.setattr(device, "_DEVICES", {"cpu": device.CPU})


class Runtime:
    """CUDA's, of a machine with a card."""

    getDeviceCount = staticmethod(lambda: 1)
    driverGetVersion = staticmethod(lambda: 12040)
    runtimeGetVersion = staticmethod(lambda: 13020)
    getDeviceProperties = staticmethod(lambda device: {"name": b"Tesla T4"})


@pytest.fixture
def library(unopened, monkeypatch):
    """Stands where CuPy would be imported."""
    made = type("Library", (emulated._Library,), {})
    made.card = types.SimpleNamespace(id=0, compute_capability="80")
    made.cuda = types.SimpleNamespace(runtime=Runtime(), Device=lambda: made.card, get_allocator=lambda: None)
    monkeypatch.setattr(settings, "cuda_library", "cupy")
    monkeypatch.setattr(device.importlib, "import_module", lambda name: made)
    return made


def failing(message):
    def fail():
        raise RuntimeError(message)

    return fail


def test_without_a_driver_the_error_says_what_to_do(library):
    library.cuda.runtime.getDeviceCount = failing("cudaErrorNoDevice: no CUDA-capable device is detected")
    with pytest.raises(RuntimeError, match="no usable NVIDIA GPU or driver .cudaErrorNoDevice.*TGL_CUDA=emulate"):
        tgl.ones(2, device="cuda")


@pytest.mark.parametrize("driver, said", [
    (12040, r"driver knows CUDA up to 12.4, and this CuPy was built for CUDA 13.2: update the driver, .*cupy-cuda12x"),
    (0, "no usable NVIDIA GPU or driver"),  # what CUDA says where there is none
])  # fmt: skip
def test_a_driver_too_old_for_cupy_is_told_from_none(library, driver, said):
    runtime = library.cuda.runtime
    runtime.getDeviceCount = failing("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    runtime.driverGetVersion = lambda: driver
    with pytest.raises(RuntimeError, match=f'^device "cuda": .*{said}.*use device="cpu"'):
        tgl.ones(2, device="cuda")


@pytest.mark.parametrize("capability, said", [("75", "7.5"), ("61", "6.1")])
def test_a_card_that_cannot_run_the_kernels_is_named_with_the_way_out(library, capability, said):
    library.card.compute_capability = capability
    wanted = f'Tesla T4 has compute capability {said}, and the kernels need 8.0 or higher .*: use device="cpu"'
    for _ in range(2):  # and not known afterwards
        with pytest.raises(RuntimeError, match=wanted):
            tgl.ones(2, device="cuda")


@pytest.mark.parametrize("capability", ["80", "90", "120"])
def test_later_cards_are_taken(library, capability):
    library.card.compute_capability = capability
    assert device.get_device("cuda").name == "cuda"


def test_without_cupy_the_error_says_what_to_install(unopened, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'cupy'")

    monkeypatch.setattr(settings, "cuda_library", "cupy")
    monkeypatch.setattr(device.importlib, "import_module", missing)
    with pytest.raises(RuntimeError, match=r"CuPy is not installed: pip install .*\[cuda\]"):
        tgl.ones(2, device="cuda")


def test_a_cupy_that_cannot_be_loaded_is_not_said_to_be_missing(unopened, monkeypatch):
    def broken(name):
        raise ImportError("libnvrtc.so.13: cannot open shared object file")

    monkeypatch.setattr(settings, "cuda_library", "cupy")
    monkeypatch.setattr(device.importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="CuPy is installed and cannot be loaded: libnvrtc.so.13"):
        tgl.ones(2, device="cuda")


def test_the_emulator_stands_behind_cuda_where_it_is_asked_for(unopened, monkeypatch):
    monkeypatch.setattr(settings, "cuda_library", emulated.__name__)
    x = tgl.ones(2, device="cuda")
    assert type(x.data) is emulated.ndarray and (x + x).numpy().tolist() == [2.0, 2.0]


def test_an_unknown_device_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'tpu' is not known: choose one of 'cpu', 'cuda'"):
        tgl.ones(2, device="tpu")
