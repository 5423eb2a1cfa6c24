"""What the card can do: copy, multiply, launch. What everything else is measured against."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from tinygrad_lite.dtypes import bfloat16, float32
from tinygrad_lite.kernels.cuda import nvrtc
from tinygrad_lite.kernels.cuda.launch import Source, cupy
from tinygrad_lite.kernels.cuda.product import matmul

from .clock import Clock, is_emulated, random_array
from .results import Part, WorkerError
from .worker import Worker

TITLE = "The card. A product counts 2 M K N operations; a copy counts the bytes it reads and those it writes."
COLUMNS = {"ms": "ms", "TB/s": "tb_per_s", "TFLOP/s": "tflops", "us a launch": "launch_us", "found": "found"}
LAUNCHES = 300

# (M, K, N) of GPT-2 124M's products at 32 x 1024 tokens: forward, the input's and the weight's gradient.
TOKENS, CHANNELS, VOCABULARY = 32 * 1024, 768, 50304
SHAPES = {
    "qkv": (TOKENS, CHANNELS, 3 * CHANNELS),
    "project": (TOKENS, CHANNELS, CHANNELS),
    "up": (TOKENS, CHANNELS, 4 * CHANNELS),
    "down": (TOKENS, 4 * CHANNELS, CHANNELS),
    "head": (TOKENS, CHANNELS, VOCABULARY),
}
TOY_SHAPES = {"qkv": (64, 32, 96), "up": (64, 32, 128), "down": (64, 128, 32), "head": (64, 32, 128)}
WITH_GELU = ("up", "forward, gelu"), ("down", "dx, gelu's slope")


def run(part: Part):
    """Measure everything."""
    toy = part.options.toy
    with Worker("probe", make_probe, toy) as worker:
        part.measure("device", lambda: {"found": worker.ask("device")})
        part.measure("copy", lambda: worker.ask("copy"))
        part.measure("launch", lambda: worker.ask("launch"))
        part.measure("launch in a graph", lambda: worker.ask("graph"))
        for dtype in ("bfloat16", "float32"):
            for name in TOY_SHAPES if toy else SHAPES:
                for way in ("forward", "dx", "dw"):
                    part.measure(f"{dtype} {name} {way}", lambda r=(dtype, name, way): worker.ask(r))
        for name, way in WITH_GELU:
            part.measure(f"bfloat16 {name} {way}", lambda r=("bfloat16", name, way): worker.ask(r))


def device_missing() -> str | None:
    """Why no kernel can be compiled and launched here, or None: asked once, for else every row would say it."""
    with Worker("device", make_launcher) as worker:
        try:
            return worker.ask("launch")
        except WorkerError as error:
            return str(error)


def make_launcher():
    """Answers why an empty kernel cannot be launched, or None where it was."""

    def answer(_):
        try:
            _nothing()((1,), (32,))
            cupy().cuda.get_current_stream().synchronize()
        except Exception as error:
            return str(error)

    return answer


def make_probe(toy: bool):
    """Answers "device", "copy", "launch", "graph", or (dtype, shape's name, way)."""
    clock, shapes = Clock(toy), TOY_SHAPES if toy else SHAPES
    launches = 20 if toy else LAUNCHES

    def answer(request):
        if request == "device":
            return describe()
        if request == "copy":
            rate = clock.copy_bytes_per_ms()
            return {"tb_per_s": rate / 1e9}
        if request == "launch":
            return launch_cost(launches)
        if request == "graph":
            return graph_cost(launches, clock)
        dtype, name, way = request
        return product_rate(clock, *shapes[name], way, bfloat16 if dtype == "bfloat16" else float32)

    return answer


def describe() -> str:
    """The card, its driver and the compiler, in words."""
    lib = cupy()
    if is_emulated():
        return "emulator"
    runtime, found = lib.cuda.runtime, lib.cuda.runtime.getDeviceProperties(0)
    versions = runtime.driverGetVersion(), runtime.runtimeGetVersion(), ".".join(map(str, lib.cuda.nvrtc.getVersion()))
    name = found["name"].decode() if isinstance(found["name"], bytes) else found["name"]
    return (
        f"{name}, {found['multiProcessorCount']} SMs, {found['totalGlobalMem'] / 2**30:.0f} GiB, L2 "
        f"{found['l2CacheSize'] / 2**20:.0f} MiB, compiled for {nvrtc.architecture(lib)}; driver for CUDA {versions[0]}, "
        f"runtime {versions[1]}, NVRTC {versions[2]}, CuPy {lib.__version__}"
    )


def _nothing():
    return Source(str(Path(__file__).with_name("empty.cu")), "nothing")[float32]["nothing"]


def launch_cost(launches: int) -> dict:
    """Microseconds a launch of an empty kernel takes the host, and all of them with the device's end."""
    lib, nothing = cupy(), _nothing()
    for _ in range(10):
        nothing((1,), (32,))
    lib.cuda.get_current_stream().synchronize()
    began = time.perf_counter()
    for _ in range(launches):
        nothing((1,), (32,))
    host = time.perf_counter() - began
    lib.cuda.get_current_stream().synchronize()
    whole = time.perf_counter() - began
    return {"launch_us": host / launches * 1e6, "until_done_us": whole / launches * 1e6}


def graph_cost(launches: int, clock: Clock) -> dict:
    """Microseconds a kernel of a graph of so many takes the device, and one launch of it all the host."""
    lib, nothing = cupy(), _nothing()
    lib.cuda.get_current_stream().synchronize()  # the clock's buffer was written there
    with lib.cuda.Stream(non_blocking=True) as stream:
        nothing((1,), (32,))
        stream.synchronize()
        stream.begin_capture()
        try:
            for _ in range(launches):
                nothing((1,), (32,))
        finally:
            graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
        began = time.perf_counter()
        graph.launch(stream)
        host = time.perf_counter() - began
        stream.synchronize()
        ms = float(np.median(clock.ms(lambda: graph.launch(stream))))
    return {"launch_us": ms * 1e3 / launches, "ms": ms, "host_us": host * 1e6, "kernels": launches}


def operands(m: int, k: int, n: int, way: str, dtype):
    """x, y and the place of their product: of a linear layer's forward, its input's gradient, its weight's."""
    if way == "forward":  # activations @ weight.T
        return random_array((m, k), dtype), random_array((n, k), dtype, 1).T, cupy().empty((m, n), dtype=dtype)
    if way == "dx":  # gradient @ weight
        return random_array((m, n), dtype), random_array((n, k), dtype, 1), cupy().empty((m, k), dtype=dtype)
    return random_array((m, n), dtype).T, random_array((m, k), dtype, 1), cupy().empty((n, k), dtype=dtype)


def product_rate(clock: Clock, m: int, k: int, n: int, way: str, dtype, use_own: bool = False) -> dict:
    """Time and operations a second of a product; way: see operands, perhaps one of WITH_GELU."""
    way, _, gelu = way.partition(", ")
    x, y, out = operands(m, k, n, way, dtype)
    named = {}
    if gelu == "gelu":
        named = dict(bias=random_array((n,), dtype, 2), before_gelu=cupy().empty(out.shape, dtype=dtype))
    elif gelu:
        named = dict(slope_at=random_array(out.shape, dtype, 2))
    ms = float(np.median(clock.ms(lambda: matmul(x, y, out, use_own=use_own, **named))))
    return {"ms": ms, "tflops": 2 * m * k * n / ms / 1e9}
