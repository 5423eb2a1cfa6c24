"""Tokens as a person can see them: blanks marked, what is not text escaped, nothing that a terminal would obey.

A token may begin within a character, hold a line break, or be text that somebody sent: escape sequences, marks that
join the sign before them, signs that turn the direction of writing. What is shown here is one line, and says exactly
which bytes there are: a sign that stands for another one, such as the dot for a space, is escaped where it is meant.
"""

from __future__ import annotations

import unicodedata

MARKS = {" ": "·", "\n": "↵", "\t": "→"}
_WITHOUT_MARKS = {" ": " ", "\n": "\\n", "\t": "\\t"}  # each where the terminal lacks its mark
# Unassigned, private, control and format characters, surrogates, separators other than the space; marks that would
# join what stands before them are shown only after a character of their own token.
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})


def visible(token: bytes | str, encoding: str = "utf-8", borders: str = "") -> str:
    """One line that shows a token.

    Args:
        token: bytes, in UTF-8 as far as they are; or text, whose surrogate escapes stand for bytes.
        encoding: of the terminal; what it lacks is escaped.
        borders: signs that the caller puts between tokens; escaped where they are meant.
    """
    text = token.decode("utf-8", "surrogateescape") if isinstance(token, bytes) else token
    marks = {sign: mark if _can_show(mark, encoding) else _WITHOUT_MARKS[sign] for sign, mark in MARKS.items()}
    taken = set(MARKS.values()) | set(borders)
    shown = []
    for position, character in enumerate(text):
        if character in marks:
            shown.append(marks[character])
        elif character == "\\":
            shown.append("\\\\")
        elif "\udc80" <= character <= "\udcff":
            shown.append(f"\\x{ord(character) - 0xDC00:02X}")
        elif character in taken or not _is_sign(character, position) or not _can_show(character, encoding):
            shown.append(_escape(character))
        else:
            shown.append(character)
    return "".join(shown)


def _is_sign(character: str, position: int) -> bool:
    if character.isascii():
        return character.isprintable()
    category = unicodedata.category(character)
    return category not in _HIDDEN and (position > 0 or category[0] != "M")


def _can_show(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
