"""`tgl`: the entry point, and how errors reach the terminal."""

from __future__ import annotations

import sys

MISUSE = 2  # exit code


def main():
    """Run a command; a mistake in what was asked is one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a text with any character prints on any terminal
            stream.reconfigure(errors="replace")
    try:
        # Here, since the engine reads the environment when it is imported, and may refuse it.
        from tinygrad_lite.device_memory import OutOfMemory

        from .app import app
    except ValueError as error:
        _end(error, MISUSE)
    try:
        app()
    except OutOfMemory as error:  # says itself what helps
        _end(error, 1)
    except MemoryError as error:
        _end(f"{error or 'out of memory'}: try a smaller --batch-size, --block-size or model", 1)
    except (ValueError, TypeError, IndexError, RuntimeError, OSError) as error:
        _end(error, 1)


def _end(error, code: int):
    print(f"tgl: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
