"""The stepper on the whole terminal, its keys shown below: needs textual, the extra `study`.

Keys and typed commands both go through `Shell`; what is shown is the same `Sheet` that a pipe is given as text.
"""

from __future__ import annotations

import linecache
import textwrap

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, ScrollableContainer, Vertical, VerticalScroll
from textual.widgets import Footer, Input, OptionList, Static

from .shell import Shell, listing
from .steps import Steps, Twin

CONTEXT = 3  # lines of source above and below the one that is marked


class StepperApp(App):
    """Steps at the left; the source and the sheet of the step at the right; answers and the command line below."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #steps { width: 34%; height: 100%; text-wrap: nowrap; text-overflow: ellipsis; border: round $primary; }
    #source { height: auto; max-height: 40%; border: round $primary; padding: 0 1; scrollbar-size: 0 0; }
    #source-text { width: auto; text-wrap: nowrap; }
    #sheet { height: 1fr; border: round $primary; padding: 0 1; }
    #answer { height: auto; max-height: 45%; border: round $accent; padding: 0 1; display: none; }
    #command { display: none; }
    """
    # The arrows, home and end scroll: letters only.
    BINDINGS = [
        Binding("n,space", "do('next')", "Next"),
        Binding("b", "do('back')", "Back"),
        Binding("c", "do('continue')", "Continue"),
        Binding("o", "do('open')", "Open"),
        Binding("x", "do('close')", "Close"),
        Binding("w", "do('why')", "Why"),
        Binding("k", "do('check')", "Check"),
        Binding("s", "command('break ')", "Stop"),
        Binding("question_mark", "do('help')", "Help"),
        Binding("q", "quit", "Quit"),
        Binding("r", "do('reverse')", "Reverse"),
        Binding("m", "do('go backward')", "To backward"),
        Binding("f", "do('go start')", "First"),
        Binding("e", "do('go end')", "End"),
        Binding("g", "do('grads')", "Gradients"),
        Binding("colon", "command('')", "Command"),
        Binding("escape", "dismiss", "Close the answer", show=False),
    ]

    def __init__(self, steps: Steps):
        super().__init__()
        self.shell, self.listed, self.busy = Shell(steps), (None, 0), False

    def compose(self) -> ComposeResult:
        """The widgets."""
        with Horizontal():
            yield OptionList(id="steps")
            with Vertical():
                yield ScrollableContainer(Static(id="source-text"), id="source")
                yield VerticalScroll(Static(id="sheet-text"), id="sheet")
        yield VerticalScroll(Static(id="answer-text"), id="answer")
        yield Input(
            id="command",
            select_on_focus=False,
            placeholder="a command: break g.norm() > 10, go 12, delete 1, list, help",
        )
        yield Footer(compact=True)

    def on_mount(self):
        """Show the first step."""
        self.query_one("#answer").border_title = "answer (Esc closes)"
        self.show()
        self.query_one("#sheet").focus()

    # -- commands -----------------------------------------------------------------------------------------
    def action_do(self, line: str):
        """Run a command; one that may take long in a thread, so that the screen stays alive."""
        if self.busy:
            return
        if not self.shell.may_take_long(line):
            self.answer(line, *self.shell.answer(line))
            return
        self.busy = True
        self.query_one("#sheet").border_title = f"{line} ..."
        self.run_worker(lambda: self.call_from_thread(self.answer, line, *self.shell.answer(line)), thread=True)

    def answer(self, line: str, text: str, refused: bool):
        """Show where it stands now, and what was answered where that is more than the step itself."""
        self.busy = False
        if not self.shell.running:
            self.exit()
            return
        self.show()
        sheet = str(self.shell.steps)
        extra = text.replace(sheet, "").strip("\n")  # moves answer with the step itself, which is on the screen already
        self.query_one("#answer").display = bool(extra)
        self.query_one("#answer-text", Static).update(Text(extra, style="bold red" if refused else ""))
        self.query_one("#answer").scroll_home(animate=False)

    def action_command(self, begun: str):
        """Open the command line."""
        command = self.query_one("#command", Input)
        command.display, command.value = True, begun
        command.cursor_position = len(begun)
        command.focus()

    def action_dismiss(self):
        """Close the answer and the command line."""
        self.query_one("#answer").display = self.query_one("#command").display = False
        self.query_one("#sheet").focus()

    def on_input_submitted(self, event: Input.Submitted):
        """Run what was typed."""
        self.action_dismiss()
        if event.value.strip():
            self.action_do(event.value.strip())

    def on_option_list_option_selected(self, event: OptionList.OptionSelected):
        """Enter or a click on a step goes there."""
        self.action_do(f"go {event.option_index + 1}")

    # -- showing ------------------------------------------------------------------------------------------
    def show(self):
        """Fill all panels from where the stepper stands."""
        steps, sheet = self.shell.steps, self.shell.steps.sheet()
        self._list(steps)
        self.query_one("#source-text", Static).update(_source(steps, sheet))
        self.query_one("#source").border_title = sheet.where + (f"  module {sheet.path}" if sheet.path else "")
        self.query_one("#source").display = bool(sheet.where)
        self.query_one("#sheet-text", Static).update(_sheet(sheet))
        self.query_one("#sheet").border_title = sheet.heading
        self.query_one("#sheet").scroll_home(animate=False)

    def _list(self, steps):
        options = self.query_one("#steps", OptionList)
        if self.listed[0] is not steps:
            options.clear_options()
            self.listed = (steps, 0)
        rows = [Text(line[2:], no_wrap=True, overflow="ellipsis") for line in listing(steps, self.listed[1])]
        options.add_options(rows)
        self.listed = (steps, self.listed[1] + len(rows))
        options.highlighted = steps.at
        self.call_after_refresh(options.scroll_to_highlight)  # new rows have no place before that
        name = " > ".join(s.event.op.name for s in self.shell.stack if isinstance(s, Twin)) or "steps"
        options.border_title = f"{name}: {steps.at + 1} of {len(steps.trace) + len(steps.order)}"


def _source(steps, sheet) -> Text:
    """The lines around the step's own, without their common indentation, the op's expression marked."""
    event = steps.now.event
    place, text = event.place if event is not None else None, Text(no_wrap=True)
    if place is None:
        return text
    lines = linecache.getlines(place.file)
    first, last = max(place.line - CONTEXT, 1), min(place.line + CONTEXT, len(lines))
    for number, line in enumerate(textwrap.dedent("".join(lines[first - 1 : last])).splitlines(), first):
        text.append(f"{number:>4} ", "dim")
        if number == place.line:
            indent = len(line) - len(line.lstrip())
            text.append(line[: indent + sheet.start])
            text.append(line[indent + sheet.start : indent + sheet.end], "bold reverse")
            text.append(line[indent + sheet.end :])
        else:
            text.append(line, "dim")
        text.append("\n")
    text.rstrip()
    return text


def _sheet(sheet) -> Text:
    text = Text()
    for section in sheet.sections:
        is_sum = section.kind == "sum"
        text.append(section.title + "\n", "bold black on yellow" if is_sum else "bold cyan")
        for line in section.lines:
            text.append("  " + line + "\n", "yellow" if is_sum else "green" if line.startswith("| ") else "")
    return text


def run(steps: Steps):
    """Step on the full screen until the user quits."""
    StepperApp(steps).run()
