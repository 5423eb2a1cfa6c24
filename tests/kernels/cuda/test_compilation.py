"""Every kernel file belongs to a module, every kernel in it is launched by a test, and NVRTC compiles it without spills."""

import collections
import gc
import importlib
import json
import os
import pkgutil
import re
import struct
import subprocess
import sys
import types

import pytest
from kernels.checks import ROOT
from kernels.cuda.checks import EMULATED, SCHEDULES, needs_cuda

from tinygrad_lite.dtypes import bfloat16, float16, float32
from tinygrad_lite.kernels import cuda
from tinygrad_lite.kernels.cuda import nvrtc
from tinygrad_lite.kernels.cuda.emulator.trace.examples import EXAMPLES
from tinygrad_lite.kernels.cuda.launch import FOLDER, Source

REGISTERS = 65536  # of one processor, for all its threads
# Kernels of which one block may fill a processor, as patterns, and why.
ONE_BLOCK = {
    r"attention_forward<(bf16|half), (128|64, true)": "two warpgroups, 8 warps: as many as two blocks of 128 threads",
    r"norm_backward<float": "a float32 row takes twice a bfloat16 row's registers, and as many bytes are under way",
    r"norm_backward<(bf16|half), \w+, false": "rows that do not fit vectors keep each element in a register of its own",
    r"softmax_(forward|backward)<.*, 16>": "16 warps keep a row of up to 16,384 columns, which is bytes enough under way",
}


# Files whose T is a 16-bit type: float32 has kernels of its own there.
TENSOR_CORES_ONLY = {"attention_forward.cu", "attention_backward.cu"}


def _sources():
    """Every Source that the modules of kernels/cuda declare, wherever they keep it."""
    for module in pkgutil.iter_modules(cuda.__path__):
        if not module.ispkg:
            importlib.import_module(f"{cuda.__name__}.{module.name}")
    found = {repr(x): x for x in gc.get_objects() if isinstance(x, Source) and (FOLDER / x.file).exists()}
    return [found[key] for key in sorted(found)]


SOURCES = _sources()


def _dtypes(source):
    return (bfloat16, float16) if source.file in TENSOR_CORES_ONLY else (float32, bfloat16, float16)


def _text(path):
    """A source without comments and without __launch_bounds__(...)."""
    text = re.sub(r"//.*|/\*.*?\*/", "", path.read_text())
    while (at := text.find("__launch_bounds__")) >= 0:
        end, depth = text.index("(", at) + 1, 1
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        text = text[:at] + text[end:]
    return text


def _kernels(path):
    """The names of the kernels that a file defines."""
    return set(re.findall(r"__global__[\w\s]*?\bvoid\s+(\w+)\s*\(", _text(path)))


def _declared(file=None):
    return {name.partition("<")[0] for source in SOURCES if file in (None, source.file) for name in source.kernels}


def test_every_file_is_some_modules_source():
    assert {path.name for path in FOLDER.glob("*.cu")} == {source.file for source in SOURCES}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.cu*")), ids=lambda path: path.name)
def test_every_kernel_is_declared(path):
    """A kernel that no Source names would never be compiled, let alone tested."""
    assert len(re.findall(r"__global__", _text(path))) == len(_kernels(path))  # the pattern finds them all
    assert _kernels(path) <= (_declared(path.name) if path.suffix == ".cu" else _declared())


def test_every_kernel_can_be_traced():
    kernels = set().union(*map(_kernels, FOLDER.glob("*.cu*")))
    assert kernels == {example.kernel for example in EXAMPLES}


def test_all_inline_assembly_is_in_two_files():
    with_assembly = {path.name for path in FOLDER.glob("*.cu*") if re.search(r"\basm\b", _text(path))}
    assert with_assembly == {"gpu.cuh", "wgmma.cuh"}


# Runs the other tests of this folder but those of traces, which ask for no results; of the slow ones those of attention's
# head sizes and those that look for races. Prints which kernels they launch, and how.
RECORD = """
import json, sys, pytest
from tinygrad_lite.kernels.cuda.emulator import options
from tinygrad_lite.kernels.cuda.emulator.module import Module
seen, launch = set(), Module.launch
def record(self, name, *arguments):
    seen.add((name, options.mode, options.order, options.lazy_copies))
    return launch(self, name, *arguments)
Module.launch = record
folder, quiet = "tests/kernels/cuda", ["-p", "no:cacheprovider", "-n", "0", "-q"]
pytest.main([*quiet, folder, "--ignore", folder + "/test_emulator_trace.py"])
pytest.main([*quiet, "-m", "slow", "-k", "head_sizes", folder + "/test_attention.py"])
pytest.main([*quiet, "-m", "slow", "-k", "no_races", folder])
print("launched: " + json.dumps(sorted(seen)))
"""


@pytest.mark.slow
@needs_cuda
@pytest.mark.skipif(not EMULATED, reason="the emulator knows what is launched")
def test_every_instance_of_every_kernel_is_launched_in_every_order_and_every_kernel_with_race_checks():
    environment = {**os.environ, "TGL_CUDA": "emulate", "PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-c", RECORD], cwd=ROOT, env=environment, capture_output=True, text=True)
    *_, line = [line for line in done.stdout.splitlines() if line.startswith("launched: ")] or [
        done.stdout + done.stderr
    ]
    orders, raced = collections.defaultdict(set), set()
    for name, mode, *order in json.loads(line.removeprefix("launched: ")):
        if mode == "race":
            raced.add(name.partition("<")[0])
        else:
            orders[name].add(tuple(order))
    missing = [
        f"{source.file}: {name} in {len(orders[name])} of {len(SCHEDULES)} orders"
        for source in SOURCES
        for d in _dtypes(source)
        if d != float16  # the kernels' bfloat16 texts
        for name in source.expressions(d).values()
        if len(orders[name]) < len(SCHEDULES)
    ]
    assert not missing, "no test launches\n" + "\n".join(missing)
    assert _declared() <= raced, f"no test looks for races in {', '.join(sorted(_declared() - raced))}"


def _real_compiler():
    """CuPy's NVRTC, no GPU needed; skips where it, or CUDA's headers, are not installed."""
    try:
        from cupy.cuda import nvrtc as compiler

        compiler.getVersion()
    except Exception as error:  # an ImportError, or whatever loading the library raises
        pytest.skip(f"NVRTC is not usable here: {error}")
    if not nvrtc.include_directories():
        pytest.skip("CUDA's headers (cuda_bf16.h) are not installed")
    return compiler


def _compile(source, dtype, arch):
    """(the compiler's log, the PTX text, kernel by symbol) of a source for an element type."""
    compiler = _real_compiler()

    class WithPTX:  # compile_source asks for the machine code and destroys the program
        def __getattr__(self, name):
            return getattr(compiler, name)

        def getCUBIN(self, program):
            return compiler.getPTX(program)

    lib = types.SimpleNamespace(cuda=types.SimpleNamespace(nvrtc=WithPTX()))
    expressions = tuple(source.expressions(dtype).values())
    ptx, symbols, log = nvrtc.compile_source(lib, FOLDER / source.file, expressions, arch, ("-Xptxas", "-v"))
    ptx = ptx.decode() if isinstance(ptx, bytes) else ptx
    return log, ptx, {symbol: expression for expression, symbol in symbols.items()}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    "source, dtype",
    [(source, d) for source in SOURCES for d in _dtypes(source)],
    ids=lambda x: f"{x.file}:{x.kernels[0]}" if isinstance(x, Source) else str(x),
)
def test_nvrtc_compiles_without_spills_and_leaves_room_for_a_second_block(source, dtype, arch):
    log, ptx, kernels = _compile(source, dtype, arch)
    seen, troubles = set(), []
    for symbol, text in re.findall(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", log, re.S):
        kernel = kernels[symbol]
        seen.add(kernel)
        numbers = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers", text, re.S)
        stores, loads, registers = map(int, numbers.groups())
        threads = re.search(rf"\.entry {symbol}\([^{{]*?\.maxntid (\d+)", ptx)
        assert threads, f"{kernel}: has no __launch_bounds__"
        blocks = 1 if any(re.match(pattern, kernel) for pattern in ONE_BLOCK) else 2
        ceiling = min(255, REGISTERS // (blocks * int(threads[1])))
        if stores or loads:
            troubles.append(f"{kernel}: spills, {stores} bytes of stores and {loads} of loads")
        if registers > ceiling:
            troubles.append(
                f"{kernel}: {registers} registers, {ceiling} let {blocks} blocks of {threads[1]} threads in"
            )
    assert seen == set(kernels.values())
    assert troubles == []


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_machine_code_is_as_long_as_its_header_says(arch, tmp_path):
    lib = types.SimpleNamespace(cuda=types.SimpleNamespace(nvrtc=_real_compiler()))
    source = tmp_path / "one.cu"
    source.write_text("template <class T> __global__ void one(T* x) { *x = 1; }")
    code, _, _ = nvrtc.compile_source(lib, source, ("one<float>",), arch)
    programs, sections = struct.unpack_from("<QQ", code, 32)
    program_size, program_count, section_size, section_count = struct.unpack_from("<4H", code, 54)
    assert len(code) == max(programs + program_size * program_count, sections + section_size * section_count)
