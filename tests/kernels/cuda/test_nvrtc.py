"""Machine code is compiled once for a text, a compiler and an architecture, and kept on disk."""

import os
import types

import pytest

from tinygrad_lite.config import settings
from tinygrad_lite.kernels.cuda import nvrtc


class Compiler:
    """Stands where CuPy's NVRTC would: the machine code says what it was made of."""

    version = (13, 2)

    def __init__(self):
        self.compiled = []

    def getVersion(self):
        return self.version

    def createProgram(self, text, name, headers, include_names):
        return types.SimpleNamespace(text=text, options=None)

    def addNameExpression(self, program, expression):
        pass

    def compileProgram(self, program, options):
        if "error" in program.text:
            raise ValueError("NVRTC_ERROR_COMPILATION")
        program.options = options
        self.compiled.append(program)

    def getProgramLog(self, program):
        return 'one.cu(1): error: identifier "error" is undefined'

    def getLoweredName(self, program, expression):
        return f"_Z{expression}"

    def getCUBIN(self, program):
        return " ".join((program.text, *program.options)).encode()

    def destroyProgram(self, program):
        pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a source and a header; the cache is beside them."""
    monkeypatch.setattr(settings, "cache_directory", tmp_path / "cache")
    (tmp_path / "one.cu").write_text("one")
    (tmp_path / "head.cuh").write_text("head")
    return tmp_path


@pytest.fixture
def compiler():
    return Compiler()


def cubin(folder, compiler, arch="sm_80", names=("one",)):
    lib = types.SimpleNamespace(__name__="cupy", cuda=types.SimpleNamespace(nvrtc=compiler))
    return nvrtc.cubin(lib, folder / "one.cu", names, arch)


def test_what_was_compiled_is_kept(folder, compiler):
    path, symbols = cubin(folder, compiler)
    assert path.parent == folder / "cache" / "cuda" and path.read_bytes().startswith(b"one -std=c++17")
    assert symbols == {"one": "_Zone"} and cubin(folder, compiler) == (path, symbols)
    assert cubin(folder, Compiler()) == (path, symbols)  # another process
    assert len(compiler.compiled) == 1
    assert sorted(x.suffix for x in path.parent.iterdir()) == [".cubin", ".json"]


@pytest.mark.parametrize("change", [
    lambda folder, compiler: (folder / "one.cu").write_text("two"),
    lambda folder, compiler: (folder / "head.cuh").write_text("other"),
    lambda folder, compiler: (folder / "more.cuh").write_text(""),
    lambda folder, compiler: setattr(compiler, "version", (13, 3)),
    lambda folder, compiler: [x.unlink() for x in (folder / "cache" / "cuda").glob("*.json")],
    lambda folder, compiler: [x.unlink() for x in (folder / "cache" / "cuda").glob("*.cubin")],
], ids=["source", "header", "another header", "compiler", "no names", "no code"])  # fmt: skip
def test_it_is_compiled_again_where_something_has_changed(change, folder, compiler):
    cubin(folder, compiler)
    change(folder, compiler)
    path, _ = cubin(folder, compiler)
    assert len(compiler.compiled) == 2 and path.read_bytes().startswith((folder / "one.cu").read_bytes())


def test_each_architecture_and_each_set_of_kernels_has_its_own(folder, compiler):
    paths = [cubin(folder, compiler, arch, names)[0] for arch in ("sm_80", "sm_90a") for names in (("one",), ("two",))]
    assert len(set(paths)) == len(compiler.compiled) == 4
    assert [b"-DWARPGROUPS=1" in path.read_bytes() for path in paths] == [False, False, True, True]


def test_what_is_kept_is_on_the_disk_before_it_has_its_name(folder, compiler, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append("flushed") or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("named") or replace(*paths))
    cubin(folder, compiler)
    assert done == ["flushed", "named"] * 2


def test_an_error_names_the_file_and_the_architecture_and_nothing_is_kept(folder, compiler):
    (folder / "one.cu").write_text("error")
    with pytest.raises(RuntimeError, match=r"^one.cu: does not compile for sm_80:\none.cu\(1\): error"):
        cubin(folder, compiler)
    assert list((folder / "cache" / "cuda").iterdir()) == []


@pytest.mark.parametrize("place", ["none", "a file", "read only"])
def test_without_a_place_to_keep_it_the_process_has_its_own(place, folder, compiler, monkeypatch):
    if place == "none":
        monkeypatch.setattr(settings, "cache_directory", None)
    elif place == "a file":
        (folder / "cache").write_text("")
    elif os.geteuid() == 0:
        pytest.skip("root writes where it likes")
    else:
        (folder / "cache").mkdir(mode=0o500)
    nvrtc._folder_of_this_process.cache_clear()
    path, _ = cubin(folder, compiler)
    assert path.exists() and folder not in path.parents
    assert cubin(folder, compiler)[0] == path and len(compiler.compiled) == 1
