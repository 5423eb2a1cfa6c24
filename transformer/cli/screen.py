"""The terminal: texts as they are, sentences broken between words."""

from __future__ import annotations

from textwrap import fill

from rich.console import Console


class Screen(Console):
    """A console that prints paths and texts as they are: no markup, no emoji, no break that a terminal would not make."""

    def __init__(self, **settings):
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, "soft_wrap": True, **settings})

    def divide(self, title: str = ""):
        """A line across the terminal, of characters that it has."""
        self.rule(title, align="left", characters="─" if self.encoding.startswith("utf") else "-")

    def say(self, text: str, command: str | None = None, style: str | None = None):
        """A sentence, broken between words on a terminal only; a command on a line of its own, whole, to be copied."""
        if self.is_terminal:  # not by rich, which breaks a path that is longer than a line
            lines = text.split("\n")
            text = "\n".join(fill(line, self.width, break_long_words=False, break_on_hyphens=False) for line in lines)
        self.print(text, style=style)
        if command is not None:
            self.print(f"    {command}")
