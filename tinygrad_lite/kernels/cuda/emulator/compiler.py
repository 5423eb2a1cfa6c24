"""What NVRTC is to a GPU: compile CUDA C, with g++, to a shared library that the emulator runs.

Functions have the names and the behaviour of cupy.cuda.nvrtc; the "cubin" is the shared library's bytes.
"""

from __future__ import annotations

import functools
import hashlib
import re
import subprocess
import tempfile
from pathlib import Path

from .options import options, unavailable

INCLUDE = Path(__file__).parent / "include"
# Casts between element types and 16-byte vectors are CUDA's daily bread: no strict aliasing. nvcc fuses a * b + c.
COMMON = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-w", "-ffp-contract=fast", "-fno-strict-aliasing", "-mf16c",
          "-mfma")  # fmt: skip
FLAGS = {"fast": ("-O2", "-fno-math-errno"), "race": ("-O1", "-g")}


class NVRTCError(RuntimeError):
    """A source that does not compile."""


class _Program:
    def __init__(self, code: str, name: str):
        self.code, self.name, self.expressions, self.log, self.library = code, name, [], "", b""


def createProgram(code, name, headers, include_names):
    return _Program(code, name)


def addNameExpression(program, expression):
    program.expressions.append(expression)


def getLoweredName(program, expression):
    return expression


def getProgramLog(program):
    return program.log


def getCUBIN(program):
    return program.library


def destroyProgram(program):
    """Nothing is held outside of Python."""


@functools.lru_cache(maxsize=None)
def _identity() -> str:
    if (trouble := unavailable()) is not None:
        raise RuntimeError(trouble)
    key = hashlib.sha256(subprocess.run(["g++", "--version"], capture_output=True, check=True).stdout)
    key.update(repr((COMMON, FLAGS)).encode())
    for file in sorted(INCLUDE.iterdir()):
        key.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return key.hexdigest()[:16]


def getVersion():
    return "emulator", options.mode, _identity()


def compileProgram(program, given):
    """g++ with the -I and -D of `given`; the wanted instances are listed in a table at the end of the source."""
    entries = "".join(
        f'{{"{e}",cudahost::K<&{e}>::tramp,cudahost::K<&{e}>::sig}},' for e in program.expressions
    )  # fmt: skip
    text = (
        f'#define CUDAHOST_MAIN\n#include "cudahost.h"\n#line 1 "{program.name}"\n{program.code}\n'
        'extern "C" __attribute__((visibility("default"))) cudahost::KernelEntry cudahost_kernels[] = '
        f"{{{entries}{{0,0,0}}}};\n"
    )
    arch = next((re.sub(r"\D", "", o) + "0" for o in given if o.startswith("-arch=")), "900")
    passed = [o for o in given if o.startswith("-D") or o.startswith("-I") and "cuda/include" not in o and "cu13" not in o]
    command = ["g++", *COMMON, *FLAGS[options.mode], f"-DCUDAHOST_ARCH={arch}", f"-I{INCLUDE}", *passed]
    with tempfile.TemporaryDirectory(prefix="tinygrad_lite-emulator-") as folder:
        source, library = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        source.write_text(text)
        if options.mode == "race":  # -fsanitize=thread only inserts calls; ours answer them
            made = Path(folder, "kernel.o")
            _run(program, [*command, "-fsanitize=thread,bounds", "-c", source, "-o", made])
            _run(program, [*command, "-O2", "-shared", made, INCLUDE / "racecheck.cpp", "-o", library])
        else:
            _run(program, [*command, "-shared", source, "-o", library])
        program.library = library.read_bytes()


def _run(program, command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    program.log += done.stderr
    if done.returncode:
        raise NVRTCError(f"{program.name}: g++ failed")
