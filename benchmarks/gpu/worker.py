"""Processes that hold the GPU: a broken kernel ends its process and not the benchmark.

After an illegal access every later call of the process fails, and a kernel that hangs answers never. So this process
never opens the GPU; a worker that fails or is silent for too long is ended, and the next question starts another.
"""

from __future__ import annotations

import time

from ..pair import Side
from .results import WorkerError, say

SILENCE = 5.0  # seconds after which a line says that somebody still waits


class Worker:
    """Calls what `make(*args)` returns, in a process of its own that is started when it is first asked.

    make must be importable by name.
    """

    def __init__(self, name: str, make, *args, environment: dict[str, str] | None = None):
        self.name, self.make, self.args, self.environment = name, make, args, environment
        self.side = None

    def ask(self, request, seconds: float = 120.0):
        """The answer to a request. Raises WorkerError with what went wrong, or that there was no answer in time."""
        if self.side is None:
            self.side = Side(self.make, *self.args, environment=self.environment)
        began = time.perf_counter()
        try:
            self.side.connection.send([request])
            while not self.side.connection.poll(min(SILENCE, seconds)):
                waited = time.perf_counter() - began
                if waited >= seconds:
                    raise WorkerError(f"{self.name}: no answer in {seconds:.0f} s; its process was ended")
                say(f"    {self.name}: {waited:.0f} s of at most {seconds:.0f}")
            return self.side._answer()[0][1]
        except WorkerError:
            self.end()
            raise
        except (RuntimeError, OSError) as error:
            self.end()
            raise WorkerError(str(error)) from None

    def end(self):
        """End the process, whatever it does."""
        if self.side is not None:
            self.side.process.kill()
            self.side.process.join()
            self.side.connection.close()
            self.side = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()


def peer_missing() -> str | None:
    """Why PyTorch cannot be measured here, or None where it can."""
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    return None if torch.cuda.is_available() else "torch.cuda.is_available() is false"
