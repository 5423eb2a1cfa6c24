"""The stepper by typed words: what a line of input does, and the text that answers it.

For terminals, pipes and tests alike; the full screen sends its keys through here too.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import nullcontext

from ..errors import describe
from ..tensor import Tensor
from .formula import number
from .sheet import INLINE, statistics
from .steps import Steps, Twin

# (words, argument, what it does); the method of Shell is named by the first word.
COMMANDS = (
    (("next", "n"), "[COUNT]", "one op on; after the last op of forward, one step of backward"),
    (("back", "b"), "[COUNT]", "one op back"),
    (("continue", "c"), "", "on to the next breakpoint, or to the end"),
    (("reverse", "r"), "", "back to the last breakpoint, or to the start"),
    (("go", "g"), "NUMBER", "to op NUMBER; `go backward` to the first step of backward, `go end` to the last"),
    (("show", "s"), "", "this step again"),
    (("list", "l"), "", "all ops, and the steps of backward that were taken"),
    (("why", "w", "explain"), "", "the topological order: why this node now, and what the others wait for"),
    (("open", "o"), "", "step inside a fused op: its readable twin, forward and backward"),
    (("close", "x"), "", "leave the twin"),
    (("check", "k"), "", "finite differences on this op alone"),
    (("break", "stop"), "[WHAT]", "stop at an op, a tensor's name, file.py:line or a condition: break g.norm() > 10"),
    (("delete",), "NUMBER", "take a breakpoint away"),
    (("grads",), "", "the gradients that leaves hold now"),
    (("help", "h", "?"), "", "these words"),
    (("quit", "q"), "", "end"),
)
_WORDS = {word: words[0] for words, _, _ in COMMANDS for word in words}
_LONG = ("continue", "reverse", "go", "check")
LEAVES = 20  # gradients that are named at the end


class Shell:
    """A stepper and the twins that were opened inside it. `do` takes a line and returns what to print."""

    def __init__(self, steps: Steps):
        self.stack, self.running, self.last = [steps], True, "next"

    @property
    def steps(self) -> Steps:
        """What is stepped through now: the innermost that is open."""
        return self.stack[-1]

    def do(self, line: str) -> str:
        """Run a line; an empty one repeats the last move. Raises ValueError where it is no command, or refused."""
        word, _, argument = (line.strip() or self.last).partition(" ")
        name = _WORDS.get(word.lower())
        if name is None:
            raise ValueError(f"there is no command {word!r}: help lists them")
        if name in ("next", "back", "continue", "reverse"):
            self.last = word
        command: Callable[[str], str] = getattr(self, f"_{name}")
        return command(argument.strip())

    def answer(self, line: str) -> tuple[str, bool]:
        """What `do` returns, or the error; and whether it was refused. Errors of the user's own hooks are no end."""
        try:
            return self.do(line), False
        except Exception as error:
            named = "" if isinstance(error, (ValueError, RuntimeError, TypeError)) else f"{type(error).__name__}: "
            return f"{named}{error}", True

    def may_take_long(self, line: str) -> bool:
        """Whether a line asks for many steps, or for finite differences: seconds, on a large model."""
        return _WORDS.get((line.strip() or self.last).partition(" ")[0].lower()) in _LONG

    # -- moving -------------------------------------------------------------------------------------------
    def _next(self, argument):
        for _ in range(_count("next", argument)):
            if self.steps.next() is None:
                return self._at_the_end()
        return str(self.steps)

    def _back(self, argument):
        for _ in range(_count("back", argument)):
            if self.steps.back() is None:
                return f"{self.steps}\n\nThis is the first op."
        return str(self.steps)

    def _continue(self, _):
        point = self.steps.go_on()
        return f"{self.steps}\n\n" + (f"Stopped at breakpoint: {point}" if point else self._at_the_end())

    def _reverse(self, _):
        point = self.steps.go_back()
        return f"{self.steps}\n\n" + (f"Stopped at breakpoint: {point}" if point else "This is the first op.")

    def _go(self, argument):
        if argument in ("backward", "end", "start"):
            {"backward": self.steps.start_of_backward, "end": self.steps.end, "start": self.steps.start}[argument]()
        else:
            self.steps.go_to(_count("go", argument) - 1)
        return str(self.steps)

    def _at_the_end(self):
        steps = self.steps
        if error := getattr(steps, "error", None):
            return f"Here the function raised {type(error).__name__}: {error}"
        if isinstance(steps, Twin) and steps.kernel_step is None:
            return "The twin's end. The gradient has not come to this op yet: close, and open it on the way back."
        if isinstance(steps, Twin):
            return "The twin's end. Largest difference from the kernel: " + self._differences()
        return "The end: every leaf has its gradient.\n" + self._grads("")

    def _differences(self):
        return ", ".join(f"{name} {value:.2g}" for name, value in self.steps.differences().items())

    # -- looking ------------------------------------------------------------------------------------------
    def _show(self, _):
        return str(self.steps)

    def _list(self, _):
        return "\n".join(listing(self.steps))

    def _why(self, _):
        return self.steps.why()

    def _check(self, _):
        event = self.steps.now.event
        given = "" if event is None else f"{event.op.name} alone, at the inputs that it had here:\n"
        return given + str(self.steps.check())

    def _grads(self, _):
        trace, lines = self.steps.trace, []
        for node in self.steps.order:
            leaf = trace.leaf_of(node) if node.op is None else None
            if leaf is None:
                continue
            grad = leaf.grad
            shown = "None" if grad is None else number(grad.data)
            if grad is not None and grad.size > INLINE:
                shown = f"{shown}  {statistics(grad.numpy())}"
            lines.append(f"  {trace.name_of(leaf)}.grad = {shown}")
        lines.reverse()
        hidden = len(lines) - LEAVES
        return "\n".join(lines[:LEAVES] + ([f"  and {hidden} more"] if hidden > 0 else []))

    # -- twins --------------------------------------------------------------------------------------------
    def _open(self, _):
        self.stack.append(self.steps.open())
        twin = self.steps
        given = ", ".join(describe(x) for x in twin.event.xs if type(x) is Tensor)
        head = f"Inside {twin.event.op.name}({given}): its readable twin in primitive ops. `close` leaves it."
        return f"{head}\nLargest difference from the kernel: {self._differences()}\n\n{twin}"

    def _close(self, _):
        if len(self.stack) == 1:
            raise ValueError("close: no twin is open")
        self.stack.pop()
        return str(self.steps)

    # -- breakpoints --------------------------------------------------------------------------------------
    def _break(self, argument):
        points = self.steps.breakpoints
        if argument:
            point = self.steps.stop_at(argument)
            nowhere = "" if point.is_somewhere(self.steps) else ": nothing that ran forward is so named or stands there"
            return f"Breakpoint {len(points)}: {point}{nowhere}"
        return "\n".join(f"{i}  {point}" for i, point in enumerate(points, 1)) or "There are no breakpoints."

    def _delete(self, argument):
        i, points = _count("delete", argument), self.steps.breakpoints
        if not 1 <= i <= len(points):
            raise ValueError(f"delete: there are {len(points)} breakpoints, and no number {i}")
        return f"Taken away: {points.pop(i - 1)}"

    # -- the shell itself ---------------------------------------------------------------------------------
    def _help(self, _):
        lines = []
        for words, argument, text in COMMANDS:
            left = f"{', '.join(words)} {argument}".rstrip()
            lines.append(f"  {left:<22} {text}")
        return "\n".join([*lines, "  An empty line repeats the last move."])

    def _quit(self, _):
        self.running = False
        return ""


def listing(steps: Steps, start: int = 0) -> list[str]:
    """A line for each op of forward and each step of backward taken, from number `start`; `>` marks the place."""
    lines = []
    for at in range(start, len(steps)):
        moment = steps.moment(at)
        event = moment.event
        what = "leaf" if moment.op is None else moment.op.name
        made = event.out if event is not None else moment.step.node
        path = f"  ({event.path})" if event is not None and event.path else ""
        arrow = "<- " if moment.is_backward else "   "
        lines.append(f"{'>' if at == steps.at else ' '} {at + 1:>4}  {arrow}{what:<12} {steps.label(made)}{path}")
    return lines


def interact(steps: Steps, read=None, write=None) -> bool:
    """Read commands until quit or the end of the input, and print what they answer. Whether all were understood.

    read: gives the next line, or raises EOFError; by default from the terminal or the pipe. write: takes a text.
    """
    shell, understood, write = Shell(steps), True, write or print
    prompts = read is None and sys.stdin.isatty()
    if prompts:
        try:
            importlib.import_module("readline")  # arrow keys and the history of lines, where the system has it
        except ImportError:
            pass
    read = read or (lambda: input("(step) " if prompts else ""))
    write(str(steps))
    while shell.running:
        try:
            line = read()
            with waiting(line) if prompts and shell.may_take_long(line) else nullcontext():
                text, refused = shell.answer(line)
        except EOFError:
            if prompts:
                write("")  # the shell's prompt on a line of its own
            break
        except KeyboardInterrupt:
            write("\nInterrupted. `quit` ends.")
            if not prompts:
                raise
            continue
        if refused:
            understood, text = False, f"step: {text}"
        if text:
            write(text + "\n" if not prompts else text)
    return understood


def waiting(text: str):
    """A `with` that shows on a terminal that something is being computed; nothing of it stays."""
    from rich.console import Console

    console = Console(stderr=True)
    return console.status(f"{text or 'next'} ...") if console.is_terminal else nullcontext()


def _count(command, argument):
    if not argument and command in ("next", "back"):
        return 1
    if not argument.isdigit() or not int(argument):
        raise ValueError(f"{command}: expected a number from 1, got {argument or 'nothing'!r}")
    return int(argument)
