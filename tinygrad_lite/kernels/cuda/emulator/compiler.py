"""What NVRTC is to a GPU: compile CUDA C, with g++, to a shared library that the emulator runs.

Functions have the names and the behaviour of cupy.cuda.nvrtc; the "cubin" is the shared library's bytes. A kernel file
is compiled against include/ and linked with the runtime (runtime/), which is compiled once and kept on disk.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .. import nvrtc
from .options import options, unavailable

INCLUDE, RUNTIME = (Path(__file__).parent / folder for folder in ("include", "runtime"))
# Casts between element types and 16-byte vectors are CUDA's daily bread: no strict aliasing. nvcc fuses a * b + c.
COMMON = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-w", "-ffp-contract=fast", "-fno-strict-aliasing",
          "-fno-math-errno", "-mf16c", "-mfma")  # fmt: skip
KERNEL = {
    "fast": ("-O2", "-g1", "-fsanitize=bounds,alignment"),
    # -fsanitize=thread only inserts calls; race_checks.cpp answers them. -fno-tree-sra: a float4 is read in one access, as
    # on a GPU, and not number by number.
    "race": ("-O1", "-fno-tree-sra", "-g", "-fsanitize=thread,bounds,alignment", "-DEMULATOR_CHECKS"),
}
RUNTIME_SOURCES = {"fast": ("fibers", "scheduler", "barriers", "shared_memory", "async_copies", "tensor_cores",
                            "warpgroup", "sanitizers", "traps", "launch")}  # fmt: skip
RUNTIME_SOURCES["race"] = ("race_checks", "access_counts", "trace", *RUNTIME_SOURCES["fast"])
RUNTIME_FLAGS = {"fast": ("-O2",), "race": ("-O2", "-DEMULATOR_CHECKS")}


class NVRTCError(RuntimeError):
    """A source that does not compile."""


class _Program:
    def __init__(self, code: str, name: str):
        self.code, self.name, self.expressions, self.log, self.library = code, name, [], "", b""


def createProgram(code, name, headers, include_names):
    """A program to compile; headers come by -I alone."""
    return _Program(code, name)


def addNameExpression(program, expression):
    """Ask for an instance of a kernel, `norm<float, 32>` say."""
    program.expressions.append(expression)


def getLoweredName(program, expression):
    """The symbol of an instance: here its C++ name, which stands in the library's table."""
    return expression


def getProgramLog(program):
    """What g++ said."""
    return program.log


def getCUBIN(program):
    """The shared library's bytes."""
    return program.library


def destroyProgram(program):
    """Nothing is held outside of Python."""


@functools.cache
def _identity() -> str:
    if (trouble := unavailable()) is not None:
        raise RuntimeError(trouble)
    key = hashlib.sha256(subprocess.run(["g++", "--version"], capture_output=True, check=True).stdout)
    for file in (Path(__file__), *sorted(INCLUDE.iterdir()), *sorted(RUNTIME.iterdir())):
        key.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return key.hexdigest()[:16]


def getVersion():
    """What decides whether a kept library is still good: the options that change it, and g++'s and the emulator's text."""
    return "emulator", options.mode, options.compute_capability, _identity()


def compileProgram(program, given):
    """g++ with the -I and -D of `given`; the wanted instances are listed in a table at the end of the source."""
    entries = "".join(
        f'{{"{e}", emulator::Kernel<&{e}>::call, emulator::Kernel<&{e}>::parameters}}, ' for e in program.expressions
    )
    text = (
        f'#include "cuda_on_cpu.h"\n#line 1 "{program.name}"\n{_with_launch_bounds(program.code)}\n'
        'extern "C" __attribute__((visibility("default"))) const emulator::KernelEntry emulator_kernels[] = '
        f"{{{entries}{{0, 0, 0}}}};\n"
    )
    arch = next((re.sub(r"\D", "", o) + "0" for o in given if o.startswith("-arch=")), "900")
    passed = [o for o in given if o[:2] == "-D" or o[:2] == "-I" and not os.path.exists(o[2:] + "/cuda_bf16.h")]
    with tempfile.TemporaryDirectory(prefix="tinygrad_lite-emulator-") as folder:
        source, library = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        source.write_text(text)
        command = ["g++", *COMMON, *KERNEL[options.mode], f"-DEMULATOR_ARCH={arch}", f"-I{INCLUDE}", *passed, source]
        object_file = Path(folder, "kernel.o")
        program.log += _run(program.name, [*command, "-c", "-o", object_file])
        # Without the -fsanitize options: with them g++ would link the sanitizers' own libraries.
        link = ["g++", *_linker(), "-shared", object_file, _runtime(options.mode), "-o", library]
        program.log += _run(program.name, link)
        program.library = library.read_bytes()


def _run(name, command) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise NVRTCError(f"{name}: g++ failed:\n{done.stderr}")
    return done.stderr


@functools.cache
def _linker() -> tuple[str, ...]:
    """gold takes half of ld's time."""
    return ("-fuse-ld=gold",) if shutil.which("ld.gold") else ()


def _runtime(mode: str) -> Path:
    """The object file that every library of kernels is linked with. Compiled unless kept."""
    path = nvrtc.cache_folder() / f"emulator-{mode}-{_identity()}.o"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # renamed when complete: others may do the same
            together, made = Path(folder, "runtime.cpp"), Path(folder, path.name)  # in one go, for a third of the time
            together.write_text("".join(f'#include "{RUNTIME / name}.cpp"\n' for name in RUNTIME_SOURCES[mode]))
            _run("emulator", ["g++", *COMMON, *RUNTIME_FLAGS[mode], "-c", together, "-o", made])
            os.replace(made, path)
    return path


def _with_launch_bounds(code: str) -> str:
    """A test of the bound as the first statement of each kernel with __launch_bounds__; lines stay as they are.

    __launch_bounds__(32 * WARPS) f(float* x) {  becomes  ... {CHECK_LAUNCH_BOUNDS(32 * WARPS);
    """
    ignored = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'  # comments and strings
    blank = re.sub(ignored, lambda m: re.sub(r"[^\n]", " ", m[0]), code, flags=re.S)
    insertions = []
    for match in re.finditer(r"\b__launch_bounds__\s*\(", blank):
        end = _closing(blank, match.end())
        parameters_end = _closing(blank, blank.find("(", end) + 1)
        body = re.compile(r"\s*\{").match(blank, parameters_end)
        if body:
            insertions.append((body.end(), f"CHECK_LAUNCH_BOUNDS({blank[match.end() : end - 1]});"))
    for place, text in reversed(insertions):
        code = code[:place] + text + code[place:]
    return code


def _closing(text: str, start: int) -> int:
    """Behind the parenthesis that closes the one before start."""
    depth = 1
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i + 1
    return len(text)
