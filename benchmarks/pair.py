"""Two contestants, each in a process of its own, taking turns: A B A B ...

Thread pools of two libraries in one process spin on the same cores, and each slows the other; a machine that slows down
slows both sides of a pair alike.
"""

from __future__ import annotations

import multiprocessing
import time


class Side:
    """A process that holds what `make(*args)` returns, a function of one argument, and calls it when told.

    make must be importable by name: the process is started afresh, with nothing of this one's state.
    """

    def __init__(self, make, *args):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, args), daemon=True)
        self.process.start()
        theirs.close()

    def run(self, arguments) -> list[tuple[float, object]]:
        """(milliseconds, result) of a call with each argument in turn, timed over there."""
        self.connection.send(arguments)
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> float:
        """End the process; its peak resident memory in MiB."""
        self.connection.send(None)
        peak_mib = self.connection.recv()
        self.process.join()
        return peak_mib


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
        connection.send(error)
