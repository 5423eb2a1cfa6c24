"""Tokens and their explanations on a terminal: in colours that tell neighbours apart, or with borders where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from tokenizer import Tokenizer
from tokenizer.visible import visible

from .screen import Screen

if TYPE_CHECKING:
    from tokenizer.bpe_steps import MergeStep
    from tokenizer.explanation import Explanation

# Of the sixteen colours that every terminal has; black on them is readable with a light and a dark background.
COLOURS = ("black on cyan", "black on yellow", "black on green", "black on magenta")
SPECIAL = "bold white on red"
BORDERS = "│", "|"


def token_names(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """How a token is shown: by the bytes it stands for, or as the vocabulary writes it ("##ing", "▁the")."""
    from tokenizer.words import WordTokenizer

    if isinstance(tokenizer, WordTokenizer):
        names = tokenizer.vocabulary
        return lambda token_id: names[token_id].encode("utf-8")
    return tokenizer.token_bytes


def tokens_text(tokens: Iterable[tuple[bytes, bool]], console: Screen, breaks: bool = True) -> Text:
    """(bytes, whether special) of each token as one text, with line breaks where the tokens have them."""
    encoding, border = console.encoding, "" if has_colours(console) else border_of(console)
    text = Text()
    between = ""  # before the next token
    for number, (token, special) in enumerate(tokens):
        shown = visible(token, encoding, border)
        if special and border:
            shown = f"[{shown}]"
        text.append(between)
        text.append(shown, style="" if border else SPECIAL if special else COLOURS[number % len(COLOURS)])
        between = "\n" if breaks and b"\n" in token and not special else border
    return text


def has_colours(console: Screen) -> bool:
    """Whether colours would show."""
    return console.is_terminal and console.color_system is not None and not console.no_color


def border_of(console: Screen) -> str:
    """What stands between tokens without colours, as far as the encoding can print it."""
    try:
        BORDERS[0].encode(console.encoding)
        return BORDERS[0]
    except (UnicodeEncodeError, LookupError):
        return BORDERS[1]


def print_explanation(explanation: Explanation, console: Screen):
    """The tokens in one line, then how each came about."""
    for sentence in explanation.about:
        console.say(sentence)
    special = {id(token) for piece in explanation.pieces if piece.special for token in piece.tokens}
    console.print()
    console.print(tokens_text(((token.token, id(token) in special) for token in explanation.tokens), console))
    for line in explanation_lines(explanation, console):
        console.print(line)


def explanation_lines(explanation: Explanation, console: Screen) -> Iterator[Text]:
    """Each piece with the rule that cut it, under it its tokens, under each the steps that made it; a token once."""
    show = lambda token: visible(token, console.encoding)
    known: set[int] = set()
    for piece in explanation.pieces:
        heading = Text("\n")
        heading.append(visible(explanation.text[piece.start : piece.stop], console.encoding), style="bold")
        heading.append(f"  {piece.note}" if piece.note else "")
        if piece.rule:
            heading.append(f":  /{piece.rule}/", style="dim")
        yield heading
        for token in piece.tokens:
            line = Text(f"  {token.token_id:>6}  ")
            line.append(show(token.token), style="bold")
            if token.token_id in known and token.steps:
                line.append("  as above")
            elif token.note:
                line.append(f"  {token.note}", style="dim")
            yield line
            if token.token_id not in known:
                yield from _step_lines(token.steps, show)
            known.add(token.token_id)


def _step_lines(steps: tuple[MergeStep, ...], show) -> Iterator[Text]:
    titles = [step.title(show) for step in steps]
    shown = [[show(symbol) for symbol in step.symbols] for step in steps]
    first = max(map(cell_len, titles), default=0)
    second = max((cell_len(" ".join(symbols)) for symbols in shown), default=0)
    for step, title, symbols in zip(steps, titles, shown, strict=True):
        line = Text("          " + title + " " * (first - cell_len(title) + 3))
        for number, symbol in enumerate(symbols):
            line.append(" " if number else "")
            line.append(symbol, style="bold cyan" if number == step.new else "")
        line.append(" " * (second - cell_len(" ".join(symbols)) + 3))
        line.append(step.sentence(show), style="yellow" if step.tie_broken else "")
        yield line
