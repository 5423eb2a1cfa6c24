"""Contestants, each in a process of its own, taking turns: A B A B ...

Thread pools of two libraries in one process spin on the same cores, and each slows the other; a machine that slows down
slows both sides of a pair alike.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback

# Seconds after each turn: OpenBLAS's threads spin on for 0.1 s, OpenMP's for less, on cores that the next side then shares.
REST = 0.3


class Side:
    """A process that holds what `make(*args)` returns, a function of one argument, and calls it when told.

    make must be importable by name: the process is started afresh, with nothing of this one's state. environment: what
    must stand in os.environ before NumPy is imported there.
    """

    def __init__(self, make, *args, environment: dict[str, str] | None = None):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        before = dict(os.environ)
        os.environ.update(environment or {})
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()

    def run(self, arguments) -> list[tuple[float, object]]:
        """(milliseconds, result) of a call with each argument in turn, timed over there. What it raises is raised here."""
        self.connection.send(list(arguments))
        return self._answer()

    def call(self, argument):
        """The result of one call whose time does not matter."""
        return self.run([argument])[0][1]

    def close(self) -> float:
        """End the process; its peak resident memory in MiB."""
        self.connection.send(None)
        peak_mib = self._answer()
        self.process.join()
        return peak_mib

    def _answer(self):
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"a side of the benchmark died, exit code {self.process.exitcode}") from None
        if isinstance(answer, _Failure):
            raise RuntimeError(answer.text)
        return answer


def take_turns(sides: dict[str, Side], rounds) -> dict[str, list[list[tuple[float, object]]]]:
    """Each side runs the arguments of each round, one side after the other; what each answered, round by round."""
    answers = {name: [] for name in sides}
    for arguments in rounds:
        for name, side in sides.items():
            answers[name].append(side.run(arguments))
            time.sleep(REST)
    return answers


class _Failure:
    """An exception as text: not every one can be sent."""

    def __init__(self, error: BaseException):
        self.text = f"{type(error).__name__}: {error}"


def _serve(connection, make, args):
    from transformer.memory import MIB, peak_bytes

    try:
        function = make(*args)
        while (arguments := connection.recv()) is not None:
            answers = []
            for argument in arguments:
                began = time.perf_counter()
                result = function(argument)
                answers.append(((time.perf_counter() - began) * 1e3, result))
            connection.send(answers)
        connection.send(peak_bytes() / MIB)
    except Exception as error:
        traceback.print_exc()  # for whoever wants to know where; the other process gets the text alone
        connection.send(_Failure(error))
