"""`tgl cuda trace`: what a CUDA kernel does, warp operation by warp operation, on a machine without a GPU."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tinygrad_lite.kernels.cuda.emulator.options import options, unavailable

MISUSE = 2  # exit code
WIDTHS = 100, 120  # of a line, in characters

cuda = typer.Typer(no_args_is_help=True, help="Look at the CUDA kernels, without a GPU.")


@cuda.callback()
def _group():
    """`tgl cuda` alone says which commands there are."""


@cuda.command()
def trace(
    target: Annotated[str | None, typer.Argument(help="A kernel of the library (see --list), or a .cu file.")] = None,
    kernel: Annotated[
        str | None, typer.Argument(help="Of your .cu file: the kernel's name, with its template arguments.")
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Say which kernels there are.")] = False,
    block: Annotated[int, typer.Option(min=0, help="The block to look at, counted along x, then y, then z.")] = 0,
    warp: Annotated[int, typer.Option(min=0, help="The warp of that block.")] = 0,
    lanes: Annotated[bool, typer.Option("--lanes", help="Every lane's values, and whole matrices.")] = False,
    most: Annotated[int, typer.Option("--max", min=0, help="Steps to print; 0 for all.")] = 100,
    line: Annotated[int | None, typer.Option(min=1, help="Only the steps of this source line.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the kernel's elements: float32, bfloat16 or float16.")] = None,
    values: Annotated[
        str | None,
        typer.Option(help="What shared memory holds: float, bf16, half, double, int ...; prints it at barriers."),
    ] = None,
    grid: Annotated[str | None, typer.Option(help="Your kernel's blocks, 2 or 2x3 say. Default: 1.")] = None,
    threads: Annotated[str | None, typer.Option(help="Your kernel's threads a block. Default: 32.")] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option(help="Your kernel's arguments in order: float:64, bf16:4x8=range, float:64=0, int=64."),
    ] = None,
    shared: Annotated[int | None, typer.Option(min=0, help="Your kernel's dynamic shared memory, in bytes.")] = None,
):
    """Run a kernel in the emulator, and show what one warp does, step by step.

    Loads and stores with their bank conflicts and sectors, shuffles,
    tensor cores, asynchronous copies, shared memory at each barrier;
    then what every line cost.

    Exit code 0: it ran. 1: something is wrong with the kernel, or with
    this machine. 2: a mistake in what was asked.
    """
    from tinygrad_lite.kernels.cuda.emulator.trace import examples, own, recording
    from tinygrad_lite.kernels.cuda.emulator.trace.report import View, report
    from tinygrad_lite.kernels.cuda.emulator.trace.values import TYPES
    from tinygrad_lite.kernels.cuda.launch import FOLDER

    try:
        if show_list or target is None:
            _print_list(examples.EXAMPLES, asked=show_list)
            return
        if (trouble := unavailable()) is not None:
            raise RuntimeError(trouble)
        if values is not None and values not in TYPES:
            raise ValueError(f"--values must be one of {', '.join(TYPES)}, got {values!r}")
        columns = min(max(shutil.get_terminal_size((110, 24)).columns, WIDTHS[0]), WIDTHS[1])
        view = View(warp, lanes, most, line, TYPES[values] if values else None, columns, (FOLDER,))
        mine = target.endswith((".cu", ".cuh")) or "/" in target
        if mine:
            if dtype is not None:
                raise ValueError("--dtype is for the library's kernels; your arguments' types are those of --arg")
            name, launch = _own(own, target, kernel, grid or "1", threads or "32", arg or (), shared or 0)
            view.folders = (Path(target).parent, FOLDER)
        else:
            given = {"--grid": grid, "--threads": threads, "--arg": arg, "--shared": shared}
            if said := [option for option, value in given.items() if value is not None]:
                raise ValueError(f"{said[0]} is for a .cu file of yours; {target} brings its own arrays")
            name, launch = _example(examples, target, kernel, dtype)
        with tempfile.TemporaryDirectory(prefix="tgl-trace-") as folder:
            error = None
            with options.set(order="ascending", lazy_copies=False), recording(name, block) as found:
                try:
                    launch(Path(folder))
                except RuntimeError as raised:
                    if found.recording is None:
                        raise
                    error = raised
            if found.recording is None:
                raise RuntimeError(f"cuda trace: {name} was not launched, but {', '.join(found.launched) or 'nothing'}")
            for text in report(found.recording, view):
                print(text)
    except (ValueError, TypeError) as mistake:
        print(f"tgl: cuda trace: {mistake}", file=sys.stderr)
        raise typer.Exit(MISUSE) from None
    if error is not None:
        raise error


def _print_list(found, asked: bool):
    width = max(len(e.name) for e in found)
    for e in found:
        other = f" [{e.kernel}]" if e.kernel != e.name else ""
        print(f"{e.name:<{width}}  {e.about}{other}")
    if not asked:
        print("\ntgl cuda trace NAME shows one of them; tgl cuda trace --help says how.")


def _example(examples, target, kernel, dtype):
    """(the kernel's name, what launches it) of one of the library's."""
    example = examples.find(target)
    if kernel is not None:
        raise ValueError(f"{kernel!r} is one name too many: a second one belongs to a .cu file of yours")
    return example.kernel, lambda folder: examples.run(example, dtype or example.dtype)


def _own(own, target, kernel, grid, threads, arg, shared):
    """(the kernel's name, what launches it) of the user's."""
    path = Path(target)
    if not path.is_file():
        raise ValueError(f"there is no file {target}")
    if kernel is None:
        raise ValueError(f"name the kernel too: tgl cuda trace {target} KERNEL")
    sizes = _size("--grid", grid), _size("--threads", threads)
    launch = lambda folder: own.launch(path, kernel, *sizes, arg, shared, folder)
    return kernel.partition("<")[0], launch


def _size(option: str, text: str) -> tuple[int, ...]:
    parts = text.split("x")
    if not 1 <= len(parts) <= 3 or not all(p.isdecimal() for p in parts):
        raise ValueError(f"{option} must be one to three numbers joined by x, 2x3 say; got {text!r}")
    return tuple(map(int, parts))
