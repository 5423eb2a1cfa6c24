"""Compile CUDA C with NVRTC, for one architecture, and keep the machine code on disk.

CuPy's own RawModule(code=) would ask for sm_90 where sm_90a is there, and flush denormals to zero.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from ...config import settings

OPTIONS = ("-std=c++17", "--fmad=true")
FULL_FEATURES = {"90": "sm_90a"}  # architectures whose own instructions have a name of their own
WARPGROUPS = ("sm_90a",)  # where kernels find the macro WARPGROUPS to be 1: those with wgmma (wgmma.cuh); else 0


def architecture(lib) -> str:
    """The current device's, as NVRTC names it."""
    capability = lib.cuda.Device().compute_capability
    return FULL_FEATURES.get(capability, f"sm_{capability}")


def compiler_version(lib) -> tuple:
    """What identifies the compiler: with it the sources' text decides whether kept code is still good."""
    return lib.__name__, *lib.cuda.nvrtc.getVersion()


def cubin(lib, source: Path, expressions: tuple[str, ...], arch: str) -> tuple[Path, dict[str, str]]:
    """The file with the machine code of a source, and each C++ expression's symbol in it. Compiled unless kept.

    Raises RuntimeError with the compiler's log where the source does not compile.
    """
    key = hashlib.sha256(repr((compiler_version(lib), OPTIONS, arch, expressions)).encode())
    for file in (source, *sorted(source.parent.glob("*.cuh"))):
        key.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    folder = cache_folder()
    path = folder / f"{source.stem}-{arch}-{key.hexdigest()[:20]}.cubin"
    names = path.with_suffix(".json")
    if not (path.exists() and names.exists()):
        if sys.stderr.isatty():
            print(f"compiling {source.name} for {arch} ...", file=sys.stderr)
        code, symbols, _ = compile_source(lib, source, expressions, arch)
        _write(names, json.dumps(symbols).encode())
        _write(path, code)
    return path, json.loads(names.read_text())


def compile_source(lib, source: Path, expressions, arch: str, extra=()) -> tuple[bytes, dict[str, str], str]:
    """(machine code, symbols by expression, the compiler's log)."""
    nvrtc = lib.cuda.nvrtc
    program = nvrtc.createProgram(source.read_text(), source.name, [], [])
    try:
        for expression in expressions:
            nvrtc.addNameExpression(program, expression)
        includes = (f"-I{d}" for d in (source.parent, *include_directories()))
        options = (*OPTIONS, f"-arch={arch}", f"-DWARPGROUPS={int(arch in WARPGROUPS)}", *includes, *extra)
        try:
            nvrtc.compileProgram(program, options)
        except Exception as error:
            log = nvrtc.getProgramLog(program).strip()
            raise RuntimeError(f"{source.name}: does not compile for {arch}:\n{log or error}") from None
        symbols = {e: nvrtc.getLoweredName(program, e) for e in expressions}
        return _whole(nvrtc.getCUBIN(program)), symbols, nvrtc.getProgramLog(program)
    finally:
        nvrtc.destroyProgram(program)


def _whole(code: bytes) -> bytes:
    """An ELF file as its header describes it: CuPy 14.2 cuts the last byte off, as if it ended a string."""
    if code[:4] != b"\x7fELF":
        return code
    programs, sections = struct.unpack_from("<QQ", code, 32)  # where the two tables of headers begin
    program_size, program_count, section_size, section_count = struct.unpack_from("<4H", code, 54)
    end = max(programs + program_size * program_count, sections + section_size * section_count)
    return code + b"\0" if len(code) == end - 1 else code


@lru_cache(maxsize=1)
def include_directories() -> tuple[str, ...]:
    """Where cuda_bf16.h is: the pip package nvidia-cuda-runtime, or a toolkit. Empty where there is neither."""
    candidates = [os.path.join(toolkit, "include") for toolkit in settings.cuda_toolkits]
    candidates += [os.path.join(p, "nvidia", "cu13", "include") for p in sys.path] + ["/usr/local/cuda/include"]
    return tuple(d for d in candidates if os.path.exists(os.path.join(d, "cuda_bf16.h")))[:1]


def cache_folder() -> Path:
    """Where machine code is kept: the cache directory, or where that cannot be written one that this process alone uses."""
    root = settings.cache_directory
    if root is not None:
        try:
            folder = root / "cuda"
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
        except OSError:
            pass
    return _folder_of_this_process()


@lru_cache(maxsize=1)
def _folder_of_this_process() -> Path:
    return Path(tempfile.mkdtemp(prefix="tinygrad_lite-cuda-"))


def _write(path: Path, data: bytes):
    """Under a name of this process first: another one may compile the same, and the power may fail."""
    temporary = path.with_suffix(f".{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # or the name could outlive what stands under it
    os.replace(temporary, path)
