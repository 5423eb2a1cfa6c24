"""Lookup, the cache of compiled kernels, threads, forks, and running without the compiler."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from tinygrad_lite.kernels import lookup
from tinygrad_lite.kernels.cpu import compile as compiler
from tinygrad_lite.kernels.cpu import threads

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def python(text, **environment):
    """Standard output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONPATH": ROOT, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


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


def test_a_forked_child_runs_kernels():
    text = """
        import os, sys
        import numpy as np
        from tinygrad_lite.kernels import lookup
        from tinygrad_lite.kernels.cpu import threads
        threads.set_num_threads(3)
        x = np.ones((4000, 64), np.float32)
        gelu = lambda: lookup("cpu", "gelu").forward(x, approximate="none")[0]
        qkv = np.ones((4, 64, 96), np.float32)
        attend = lambda: lookup("cpu", "attention_qkv").forward(qkv, heads=4, causal=True, scale=1.0)[0]
        expected, attended = gelu(), attend()
        child = os.fork()
        if child == 0:
            same = np.array_equal(gelu(), expected) and np.array_equal(attend(), attended)
            os._exit(0 if same and threads.get_num_threads() == 1 else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(gelu(), expected))
    """
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    assert python(text) == "0 True"


def test_kernels_may_be_called_from_many_threads_at_once():
    x = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    kernel = lookup("cpu", "gelu")
    expected, wrong = kernel.forward(x, approximate="none")[0], []

    def work():
        for _ in range(20):
            if not np.array_equal(kernel.forward(x, approximate="none")[0], expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_parallel_for_covers_the_range_once_and_raises_what_a_chunk_raised():
    for n in (0, 1, 7, 100):
        for grain in (1, 3, 200):
            seen = np.zeros(n, int)

            def mark(start, stop, seen=seen):
                seen[start:stop] += 1

            threads.parallel_for(mark, n, grain)
            assert (seen == 1).all()

    def fail(start, stop):
        raise ArithmeticError(start)

    for _ in range(20):
        with pytest.raises(ArithmeticError):
            threads.parallel_for(fail, 100, 1)
    test = np.zeros(10, int)
    threads.parallel_for(lambda start, stop: test.__setitem__(slice(start, stop), 1), 10, 1)
    assert test.all()


def test_the_number_of_threads_comes_from_the_environment():
    text = "from tinygrad_lite.kernels.cpu import threads; print(threads.get_num_threads())"
    assert python(text, TGL_NUM_THREADS="3") == "3"
    with pytest.raises(AssertionError, match="TGL_NUM_THREADS: expected a whole number"):
        python(text, TGL_NUM_THREADS="many")
    with pytest.raises(ValueError, match="at least 1"):
        threads.set_num_threads(0)


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


def test_without_a_place_for_the_cache_kernels_still_run(tmp_path):
    (tmp_path / "file").write_text("")
    assert python(SMALL, TGL_CACHE_DIR=str(tmp_path / "file")) == "0.125"


def test_the_users_own_cache_directory_stays_as_it_was():
    before = compiler.numba.config.CACHE_DIR
    lookup("cpu", "softmax").forward(np.ones((1, 2), np.float32))
    assert compiler.numba.config.CACHE_DIR == before


def test_one_specialisation_for_read_only_and_writable_inputs():
    kernel = lookup("cpu", "gelu")
    for writable in (True, False):
        x = np.ones(40, np.float32)
        x.setflags(write=writable)
        kernel.forward(x, approximate="none")
    assert len(kernel._forward_erf[np.dtype(np.float32)].signatures) == 1


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
                ("swiglu", (x[:, :32].copy(),), {}), ("linear", (x, x, np.ones(3, dtype)), {}),
                ("attention_qkv", (x.reshape(1, 3, 33),), {"heads": 1, "causal": True, "scale": 0.3}),
                ("attention", (x.reshape(1, 1, 3, 33),) * 3, {"causal": True, "scale": 0.3}),
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
    assert len(compiled) == len(plain) == 28
    for a, b in zip(compiled, plain):
        assert a.split()[0] == b.split()[0]
        np.testing.assert_allclose(
            [float(x) for x in a.split()[1:]], [float(x) for x in b.split()[1:]], rtol=1e-4, atol=1e-4
        )
