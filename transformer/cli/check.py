"""`tgl gradcheck`: prove the gradients of the registry's ops, or of a function of your own."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

console = Console(highlight=False)


def gradcheck(
    target: Annotated[str | None, typer.Argument(help="An op's name, or module:function. Default: every op.")] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Shapes of the function's inputs, 2x3 say; once for each.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Random draws of each case.")] = 1,
):
    """Compare gradients with finite differences, to second order, and explain each disagreement."""
    if target and ":" in target:
        _own(target, shape)
        return
    from tinygrad_lite.gradcheck.registry import check_registry, table

    rows = table(check_registry([target] if target else None, seeds=seeds))
    if not rows:
        raise ValueError(
            f"gradcheck: there is no op {target!r} with a gradient: see `tgl gradcheck` for all, or name module:function"
        )
    _print(rows)
    if any(row["verdict"] != "ok" for row in rows):
        raise typer.Exit(1)


def _print(rows):
    view = Table(*rows[0])
    for row in rows:
        view.add_row(*[f"{v:.1e}" if isinstance(v, float) else str(v) for v in row.values()])
    console.print(view)
    wrong = sum(row["verdict"] != "ok" for row in rows)
    console.print(f"{len(rows)} cases, {wrong} wrong.")


def _own(target: str, shapes):
    from tinygrad_lite import float64, randn
    from tinygrad_lite.gradcheck import gradcheck as check
    from tinygrad_lite.gradcheck import gradgradcheck

    module, _, name = target.partition(":")
    sys.path.insert(0, "")
    fn = getattr(importlib.import_module(module.removesuffix(".py").replace("/", ".")), name, None)
    if fn is None:
        raise ValueError(f"gradcheck: {module} has no function {name!r}")
    inputs = [randn(*map(int, s.split("x")), dtype=float64, requires_grad=True) for s in shapes or ["2x3"]]
    failed = False
    for order, run in (("first", check), ("second", gradgradcheck)):
        result = run(fn, inputs, raise_exception=False)
        console.print(f"{order} order: {result}", markup=False)
        failed |= not result.ok
    if failed:
        raise typer.Exit(1)
