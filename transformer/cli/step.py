"""`tgl step`: through the forward and the backward pass, one op at a time."""

from __future__ import annotations

import inspect
import runpy
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .target import MISUSE, Usage, find_function, in_a_line

EXTRA = "pip install 'tinygrad-lite[study]'"


def step(
    target: Annotated[
        str | None,
        typer.Argument(
            help="Statements such as 'a=-4.0; b=2.0; a*b + b**3', path/to/file.py:function or module:function, or a "
            "program, which is stopped where it first calls backward()."
        ),
    ] = None,
    let: Annotated[
        list[str] | None,
        typer.Option(help="A name's value: a=2.0, a=[1,2], or a shape of random numbers, a=2x3. Once for each."),
    ] = None,
    directory: Annotated[Path | None, typer.Option("--from", help="Step through a run's model instead ...")] = None,
    text: Annotated[str | None, typer.Option(help="... on this text: each token predicts the next.")] = None,
    stops: Annotated[
        list[str] | None,
        typer.Option("--break", help="Stop at an op, a tensor's name, file.py:line or a condition: 'g.norm() > 10'."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Print every step and end.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Typed commands also where a full screen is possible.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of random values.")] = 0,
):
    """Step through forward and backward, either way, on the real engine.

    On a terminal the full screen opens, with its keys shown. In a pipe, and with --plain, commands are typed: n(ext),
    b(ack), c(ontinue), break, open, close, why, check, show, help, quit.
    """
    from tinygrad_lite.study.shell import waiting  # study code is loaded by this command alone: `tgl train` never does

    try:
        with waiting("running forward"):
            stepper = _stepper(target, let or (), directory, text, np.random.default_rng(seed))
        for stop in stops or ():
            if not stepper.stop_at(stop).is_somewhere(stepper):
                print(
                    f"tgl: step: --break {stop}: nothing that ran forward is so named or stands there", file=sys.stderr
                )
    except (Usage, ValueError) as error:
        print(f"tgl: step: {str(error).removeprefix('step: ')}", file=sys.stderr)
        raise typer.Exit(MISUSE) from None
    _show(stepper, every, plain)


def _show(stepper, every, plain):
    from tinygrad_lite.study.shell import Shell, interact

    if every:
        print(stepper)
        while stepper.next() is not None:
            print(f"\n{stepper}")
        print("\n" + Shell(stepper).do("next"))
        return
    if not plain and sys.stdin.isatty() and sys.stdout.isatty():
        try:
            from tinygrad_lite.study.fullscreen import run
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "textual":
                raise
            print(f"tgl: step: the full screen needs textual: {EXTRA}. Until then, typed commands:", file=sys.stderr)
        else:
            run(stepper)
            return
    try:
        understood = interact(stepper)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not understood and not sys.stdin.isatty():
        raise typer.Exit(MISUSE)


def _stepper(target, let, directory, text, rng):
    from tinygrad_lite.study.expression import Expression, value_of
    from tinygrad_lite.study.stepper import Stepper

    if directory is not None or text is not None:
        if target is not None or directory is None or text is None:
            raise Usage("--from DIR and --text '...' go together, and without an expression or file")
        return _of_run(directory, text)
    if target is None:
        raise Usage(
            "name what to step through: 'a=-4.0; b=2.0; a*b + b**3', file.py:function or --from DIR --text '...'"
        )
    values = {}
    for item in let:
        name, equals, value = item.partition("=")
        if not equals or not name.strip().isidentifier():
            raise Usage(f"--let is name=value, a=2.0 say; got {item!r}")
        try:
            values[name.strip()] = value_of(value, rng)
        except ValueError as error:
            raise Usage(f"--let {name}: {error}") from None
    if target.endswith(".py"):
        if not Path(target).is_file():
            raise Usage(f"there is no file {target}")
        if values:
            raise Usage(f"--let is for an expression or a function: name one, {target}:function")
        return _of_program(Path(target))
    if _names_function(target):
        fn = find_function(target)
        given = _arguments(fn, target.rpartition(":")[2], values, rng)
    else:
        fn, given = Expression(target, values), ()
    try:
        return Stepper(fn, *given)
    except Exception as error:
        raise Usage(
            f"{target} raised {in_a_line(error)}" if not str(error).startswith("Stepper") else str(error)
        ) from None


def _names_function(target: str) -> bool:
    """Whether the text is file.py, file.py:function or module:function, and not statements."""
    where, colon, name = target.rpartition(":")
    if not colon:
        return target.endswith(".py")
    return where.endswith(".py") or (name.replace(".", "").isidentifier() and where.replace(".", "").isidentifier())


def _arguments(fn, name, values, rng) -> list:
    """A value for each parameter: those given by --let, 2x3 random numbers for the others that need one."""
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return list(values.values())
    placed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if unknown := values.keys() - {p.name for p in placed}:
        takes = f"parameters {', '.join(p.name for p in placed)}" if placed else "no parameters"
        raise Usage(f"--let {sorted(unknown)[0]}: {name} has {takes}")
    last = max((i for i, p in enumerate(placed) if p.name in values or p.default is p.empty), default=-1)
    return [
        values[p.name] if p.name in values else rng.standard_normal((2, 3)) if p.default is p.empty else p.default
        for p in placed[: last + 1]
    ]


def _of_program(path: Path):
    from tinygrad_lite.study.stepper import Stepper

    def program():
        argv, sys.argv = sys.argv, [str(path)]
        sys.path.insert(0, str(path.resolve().parent))
        try:
            runpy.run_path(str(path), run_name="__main__")
        finally:
            sys.argv = argv
            sys.path.remove(str(path.resolve().parent))
        raise Usage(f"{path} ran to its end and never called backward(): name a function, {path}:function")

    try:
        stepper = Stepper(program)
    except Usage:
        raise
    except (Exception, SystemExit) as error:
        raise Usage(f"running {path} raised {in_a_line(error)}") from None
    if isinstance(stepper.error, Usage):
        raise stepper.error
    return stepper


def _of_run(directory, text):
    from tinygrad_lite.study.stepper import Stepper

    from ..model import as_tokens
    from .inspect import load_model

    model, tok, _ = load_model(directory)
    try:
        ids = tok.encode_to_array(text)
    except ValueError as error:
        raise Usage(f"--text: {error}") from None
    most = model.config.block_size + 1
    if not 2 <= len(ids) <= most:
        raise Usage(f"--text must be of 2 to {most} tokens for this model, got {len(ids)}")
    return Stepper(model, as_tokens(ids[None, :-1]), as_tokens(ids[None, 1:]))
