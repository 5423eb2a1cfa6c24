"""What a person is shown of a token is one line, harmless, and says exactly which bytes there are."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer.visible import visible


@pytest.mark.parametrize("token, shown", [
    (b" the", "·the"), (b"\n\t", "↵→"), ("漢é🙂".encode(), "漢é🙂"), (b"\xf0\x9f", "\\xF0\\x9F"), (b"a\\n", "a\\\\n"),
    ("·".encode(), "\\u00B7"), (b"\x1b[31m", "\\x1B[31m"), ("\u0301a".encode(), "\\u0301a"), ("e\u0301".encode(), "e\u0301"),
    ("\u202e\u200b\u00a0".encode(), "\\u202E\\u200B\\u00A0"), ("\U000e0041".encode(), "\\U000E0041"), ("\udcff", "\\xFF"),
])  # fmt: skip
def test_blanks_are_marked_and_what_would_mislead_is_escaped(token, shown):
    assert visible(token) == shown


@pytest.mark.parametrize("encoding, shown", [
    ("ascii", " a\\n\\u00E9\\u6F22"), ("cp1252", "·a\\né\\u6F22"),
])  # fmt: skip
def test_what_the_terminal_lacks_is_escaped(encoding, shown):
    assert visible(" a\né漢".encode(), encoding) == shown


def test_borders_are_escaped_where_they_are_meant():
    assert visible("a│|", borders="│") == "a\\u2502|" and visible("a|", "ascii", "|") == "a\\x7C"


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.binary(max_size=12) | st.text(max_size=12).map(str.encode))
def test_different_tokens_look_different_and_no_control_character_is_left(token):
    shown = visible(token)
    assert not any(unicodedata.category(character)[0] == "C" or character in " \n" for character in shown)
    back = bytearray()
    place = 0
    while place < len(shown):  # the notation read back
        kind = shown[place : place + 2]
        width = {"\\x": 2, "\\u": 4, "\\U": 8}.get(kind)
        if kind == "\\\\":
            back += b"\\"
            place += 2
        elif width:
            value = int(shown[place + 2 : place + 2 + width], 16)
            back += bytes([value]) if kind == "\\x" else chr(value).encode()
            place += 2 + width
        else:
            back += {"·": " ", "↵": "\n", "→": "\t"}.get(shown[place], shown[place]).encode()
            place += 1
    assert bytes(back) == token
