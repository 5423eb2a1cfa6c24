"""Lookup, the cache of compiled kernels, and running without the compiler."""

import inspect
import threading
import time

import numpy as np
import pytest
from kernels.checks import python

import tokenizer.native
from tinygrad_lite.kernels import lookup
from tinygrad_lite.native import compile as compiler


def test_lookup_finds_a_module_or_none():
    assert lookup("cpu", "layer_norm").forward
    assert lookup("cpu", "no_such_op") is None
    assert lookup("no_such_device", "layer_norm") is None


def test_importing_loads_no_compiler_and_changes_no_environment():
    text = """
        import os, sys
        before = dict(os.environ)
        import tinygrad_lite.kernels
        print("numba" in sys.modules, dict(os.environ) == before)
    """
    assert python(text) == "False True"


SMALL = """
    import numpy as np
    from tinygrad_lite.kernels import lookup
    x = np.ones((2, 8), np.float32)
    print(lookup("cpu", "softmax").forward(x)[0][0, 0])
"""


def test_compiled_kernels_are_kept_on_disk(tmp_path):
    assert python(SMALL, TGL_CACHE_DIR=str(tmp_path)) == "0.125"
    (directory,) = tmp_path.iterdir()
    files = {f: f.stat().st_mtime_ns for f in directory.rglob("*.nbc")}
    assert directory.name.startswith("numba-") and files
    assert python(SMALL, TGL_CACHE_DIR=str(tmp_path)) == "0.125"
    assert {f: f.stat().st_mtime_ns for f in directory.rglob("*.nbc")} == files


def test_a_kernel_from_disk_computes_the_same_bits_as_in_the_process_that_compiled_it(tmp_path):
    text = SMALL.replace(
        "np.ones((2, 8), np.float32)", "np.random.default_rng(0).standard_normal((64, 88), np.float32)"
    )
    text = text.replace("[0][0, 0]", "[0].view(np.int32).sum()")
    assert len({python(text, TGL_CACHE_DIR=str(tmp_path)) for _ in range(2)}) == 1


@pytest.mark.slow
def test_without_a_place_for_the_cache_kernels_still_run(tmp_path):
    (tmp_path / "file").write_text("")
    warned = "import warnings; warnings.simplefilter('error')\ntry:" + SMALL + "except RuntimeWarning as w: print(w)"
    assert python(SMALL, TGL_CACHE_DIR=str(tmp_path / "file")) == "0.125"
    assert "TGL_CACHE_DIR to a directory that can be written" in python(warned, TGL_CACHE_DIR=str(tmp_path / "file"))


def test_no_lines_of_a_file_are_taken_for_those_of_a_function_made_from_text():
    kernel = lookup("cpu", "gelu")._forward_erf[np.dtype(np.float32)]
    for made in (kernel.launch, kernel.bind):
        with pytest.raises(OSError, match="out of bounds"):
            inspect.getsource(made.py_func)


def test_the_users_own_cache_directory_stays_as_it_was():
    before = compiler.numba.config.CACHE_DIR
    lookup("cpu", "softmax").forward(np.ones((1, 2), np.float32))
    assert compiler.numba.config.CACHE_DIR == before


@pytest.mark.parametrize("native", [compiler, tokenizer.native])
def test_threads_that_compile_at_the_same_time_keep_what_they_compile_where_it_belongs(native):
    class Dispatcher:
        def __init__(self, meanwhile, seconds):
            self.meanwhile, self.seconds = meanwhile, seconds

        def enable_caching(self):
            self.meanwhile()
            time.sleep(self.seconds)
            seen.append(native.numba.config.CACHE_DIR)

    before, seen = native.numba.config.CACHE_DIR, []
    second = threading.Thread(target=native._enable_cache, args=(Dispatcher(lambda: None, 0.04),))
    native._enable_cache(Dispatcher(second.start, 0.02))  # ends while the second would be in the middle
    second.join()
    assert seen == [native._directory] * 2 and native.numba.config.CACHE_DIR == before


def test_one_specialisation_for_read_only_and_writable_inputs():
    kernel = lookup("cpu", "gelu")
    for writable in (True, False):
        x = np.ones(40, np.float32)
        x.setflags(write=writable)
        kernel.forward(x, approximate="none")
    assert len(kernel._forward_erf[np.dtype(np.float32)].function.signatures) == 1


@pytest.mark.slow
def test_kernels_run_as_plain_python():
    text = """
        import numpy as np
        from tinygrad_lite.kernels import lookup
        for dtype in (np.float32, np.float64):
            x = np.random.default_rng(0).standard_normal((3, 33)).astype(dtype)
            one, targets = np.ones(33, dtype), np.array([0, 1, -100])
            calls = [
                ("gelu", (x,), {"approximate": "none"}), ("gelu", (x,), {"approximate": "tanh"}),
                ("bias_gelu", (x, one), {"approximate": "none"}), ("layer_norm", (x, one, one), {"eps": 1e-5}),
                ("rms_norm", (x, one), {"eps": 1e-5}), ("softmax", (x,), {}), ("log_softmax", (x,), {}),
                ("swiglu", (x[:, :32].copy(),), {}), ("linear", (x, x, np.ones(3, dtype), np.ones((3, 3), dtype)), {}),
                ("attention_qkv", (x.reshape(1, 3, 33),), {"heads": 1, "kv_heads": 1, "causal": True, "window": None, "scale": 0.3}),
                ("attention", (x.reshape(1, 1, 3, 33),) * 3, {"causal": True, "window": None, "scale": 0.3}),
                ("attention", (x.reshape(1, 1, 3, 33),) * 3, {"causal": True, "window": None, "scale": 0.3, "p": 0.5}),
                ("cross_entropy", (x, targets), {"ignore_index": -100, "label_smoothing": 0.1}),
                ("linear_cross_entropy", (x, x, targets), {"ignore_index": -100}),
                ("dropout", (x,), {"p": 0.5, "key": 1, "offset": 0}),
            ]
            for name, arrays, params in calls:
                kernel, n = lookup("cpu", name), len(arrays)
                needs = tuple(a.dtype == dtype for a in arrays)
                out, saved = kernel.forward(*arrays, **params)
                grads = kernel.backward(np.ones_like(out), saved, needs, (None,) * n, **params)
                print(name, *(repr(float(np.sum(a, dtype=np.float64))) for a in (out, *grads) if a is not None))
    """
    compiled, plain = python(text).splitlines(), python(text, NUMBA_DISABLE_JIT="1").splitlines()
    assert len(compiled) == len(plain) == 30
    for a, b in zip(compiled, plain):
        assert a.split()[0] == b.split()[0]
        np.testing.assert_allclose(
            [float(x) for x in a.split()[1:]], [float(x) for x in b.split()[1:]], rtol=1e-4, atol=1e-4
        )
