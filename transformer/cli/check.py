"""`tgl gradcheck`: prove the gradients of the registry's ops, or of a function of your own."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tinygrad_lite import Tensor
from tinygrad_lite.gradcheck import gradcheck as check
from tinygrad_lite.gradcheck import report as kinds
from tinygrad_lite.gradcheck.registry import cases_of, check_case, grouped

from .target import MISUSE, Usage, find_function, in_a_line, shapes_of

console = Console(highlight=False)
WRONG_GRADIENT = 1  # exit code
QUIET_S = 2.0  # what takes no longer shows no progress


def gradcheck(
    target: Annotated[
        str | None, typer.Argument(help="An op's name, module:function or path/to/file.py:function. Default: every op.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Shape of an input of your function, 2x3 or scalar say; once for each. Default: 2x3."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Random draws of each case.")] = 1,
    mode: Annotated[str, typer.Option(help="full: every entry. fast: random directions, for large inputs.")] = "full",
    dtype: Annotated[str, typer.Option(help="float64, float32, float16 or bfloat16.")] = "float64",
    low: Annotated[float, typer.Option(help="Your function's inputs are drawn from here ...")] = -2.0,
    high: Annotated[float, typer.Option(help="... to here: keep them in its domain.")] = 2.0,
):
    """Compare gradients with finite differences, to second order, and explain each disagreement.

    Exit code 0: all right. 1: a gradient is wrong, or could not be proven. 2: a mistake in what was asked.
    """
    try:
        if mode not in ("full", "fast"):
            raise Usage(f"--mode must be full or fast, got {mode!r}")
        if dtype not in ("float64", "float32", "float16", "bfloat16"):
            raise Usage(f"--dtype must be float64, float32, float16 or bfloat16, got {dtype!r}")
        if target and (":" in target or target.endswith(".py")):
            ok = _own(target, shape, seeds, mode, dtype, low, high)
        elif shape:
            raise Usage("--shape is for a function of yours, module:function; an op brings its own cases")
        else:
            ok = _ops([target] if target else None, seeds, mode, dtype)
    except Usage as error:
        print(f"tgl: gradcheck: {error}", file=sys.stderr)
        raise typer.Exit(MISUSE) from None
    if not ok:
        raise typer.Exit(WRONG_GRADIENT)


@contextmanager
def _progress(text: str, total: int | None):
    """Inside, a bar appears on a terminal once QUIET_S have gone by; yields advance()."""
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
    columns = columns if total else [SpinnerColumn(), TextColumn("{task.description}")]
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    task, start = bar.add_task(text, total=total), time.perf_counter()

    def advance():
        bar.advance(task)
        if console.is_terminal and not bar.live.is_started and time.perf_counter() - start > QUIET_S:
            bar.start()

    try:
        if console.is_terminal and not total:
            bar.start()
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


# -- the registry -------------------------------------------------------------------------------------------
def _ops(names, seeds: int, mode: str, dtype: str) -> bool:
    try:
        cases, rows = cases_of(names), []
    except ValueError as error:
        raise Usage(str(error).removeprefix("gradcheck: ")) from None
    with _progress("checking", len(cases) * seeds) as advance:
        for op, case, path in cases:
            for seed in range(seeds):
                rows.append(check_case(op, case, seed, path=path, mode=mode, dtype=dtype))
                advance()
    view = Table("op", "case", "path", "1st order", "2nd order", "verdict", title="largest relative errors")
    for row in grouped(rows):
        errors = ["" if e is None else f"{e:.0e}" for e in (row["first-order error"], row["second-order error"])]
        view.add_row(
            row["op"], row["case"].removeprefix("Case(").removesuffix(")"), row["path"], *errors, row["verdict"]
        )
    console.print(view, markup=False)
    wrong = [row for row in rows if row.verdict != "ok"]
    for row in wrong[:5]:
        result = row.second if row.first.verdict == "ok" else row.first
        console.print(f"\n{row.op} {row.case}, {row.path}, seed {row.seed}: {result}", markup=False, soft_wrap=True)
    ops = len({row.op for row in rows})
    counts = f"{len(rows)} check{'s' * (len(rows) != 1)} of {ops} op{'s' * (ops != 1)}"
    console.print(f"{counts}, first and second order: " + (f"{len(wrong)} not right." if wrong else "all right."))
    return not wrong


# -- a function of the user's ---------------------------------------------------------------------------------
def _own(target: str, shapes, seeds: int, mode: str, dtype: str, low: float, high: float) -> bool:
    fn = find_function(target)
    name = target.rpartition(":")[2]
    shapes = shapes_of(fn, name, shapes)
    good = True
    with _progress(f"checking {name}", None):
        results = [_checked(fn, name, shapes, seed, mode, dtype, low, high) for seed in range(seeds)]
    view = Table("input", "shape", "order", "error", "at", "analytic", "numeric", title=f"{name}: largest errors")
    for result in results:
        good &= result.ok
        for r in result.reports:
            at = "" if r.index is None else str(r.index)
            view.add_row(_label(r.input, len(shapes)), str(r.shape), str(r.order), f"{r.max_abs_error:.0e}", at,
                         f"{r.analytic:.6g}", f"{r.numeric:.6g}")  # fmt: skip
    if view.row_count:
        console.print(view, markup=False)
    for result in results:
        if result.findings:
            console.print(result.text(reports=False), markup=False, soft_wrap=True)
    verdicts = sorted({r.verdict for r in results if r.verdict != "ok"}, key=kinds.KINDS.index)
    said = "all right, first and second order." if not verdicts else ", ".join(verdicts)
    said += ": nothing is wrong, but at a kink nothing is proven" if verdicts and good else ""
    console.print(f"{name}: {said}", markup=False)
    return good


def _label(number: int, count: int) -> str:
    return str(number) if number < count else f"v{number - count}"  # second order: the gradient handed to an output


def _checked(fn, name, shapes, seed, mode, dtype, low, high):
    rng = np.random.default_rng(seed)
    inputs = [Tensor(rng.uniform(low, high, s), dtype=dtype, requires_grad=True) for s in shapes]
    try:
        return check(fn, inputs, mode=mode, order=2, raise_exception=False, seed=seed)
    except Exception as error:
        given = ", ".join(f"{dtype} {s}" for s in shapes)
        raise Usage(f"{name} on {given} raised {in_a_line(error)}") from None
