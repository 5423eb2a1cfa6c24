"""Each way to split is the GPT-2 expression, and no splitter loses text."""

import re

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import TokenizerError, pretokenize
from tokenizer.pretokenize import GPT2_PATTERN, make_splitter, split_gpt2

# Dense in what the expression treats specially: all kinds of space, apostrophes with their letters, non-ASCII classes.
TRICKY = st.text(
    alphabet=" \n\t\r\x0b\x0c\x1c\x1f\x85\xa0\u2003'sdmtlvreSLa01_.-\u00e9\u00df\u4e2d\u0663\u00bd\u0301\U0001f600",
    max_size=60,
)


def split(splitter, text):
    return [piece for batch in splitter(text) for piece in batch]


@settings(derandomize=True, max_examples=600, deadline=None)
@given(st.one_of(TRICKY, st.text(max_size=40)))
def test_every_way_to_split_agrees_with_the_gpt2_expression(text):
    expected = regex.findall(GPT2_PATTERN, text)
    assert split(split_gpt2, text) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokenize, "_FEW_CHARACTERS", 0)  # NumPy, unless the text is ASCII
        assert split(split_gpt2, text) == expected


@settings(derandomize=True, max_examples=600, deadline=None)
@given(TRICKY, TRICKY)
def test_a_safe_cut_changes_nothing_whatever_follows(text, following):
    cut = pretokenize.safe_cut_gpt2(text)
    whole = split(split_gpt2, text + following)
    assert split(split_gpt2, text[:cut]) + split(split_gpt2, text[cut:] + following) == whole


def test_a_safe_cut_is_before_the_last_spaces():
    assert pretokenize.safe_cut_gpt2("one two  three") == 7
    assert pretokenize.safe_cut_gpt2("one\u2003two\x1cthree") == 3
    assert [pretokenize.safe_cut_gpt2(text) for text in ("", "one", "  one")] == [0, 0, 0]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(TRICKY, st.integers(1, 9))
def test_batches_do_not_change_the_pieces(text, batch_characters):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokenize, "_BATCH_CHARACTERS", batch_characters)
        patch.setattr(pretokenize, "_FEW_CHARACTERS", 0)
        assert split(split_gpt2, text) == regex.findall(GPT2_PATTERN, text)


def test_every_code_point_has_the_class_that_the_regex_package_gives_it():
    characters = "".join(map(chr, range(0x110000)))
    classes = pretokenize._classes().take(np.arange(0x110000), mode="clip")
    for number, expression in enumerate([r"[^\s\p{L}\p{N}]", r"\p{L}", r"\p{N}", r"\s"]):
        expected = [ord(character) for character in regex.findall(expression, characters)]
        assert np.array_equal(np.flatnonzero(classes == number), expected)
    assert regex.findall(r"\s", characters) == re.findall(f"[{pretokenize._WHITE_SPACE}]", characters)


@pytest.mark.parametrize("pattern", [r"[a-z]+", r"(a)(b)?", r"x*", r"(?r)[a-z]+", r"\p{L}+|\d", "gpt2", None])
@settings(derandomize=True, max_examples=60, deadline=None)
@given(text=TRICKY)
def test_pieces_joined_are_the_text_for_any_pattern(pattern, text):
    pieces = split(make_splitter(pattern), text)
    assert "".join(pieces) == text
    assert "" not in pieces


def test_pieces_of_a_long_text_come_in_batches_for_any_pattern(monkeypatch):
    monkeypatch.setattr(pretokenize, "_BATCH_CHARACTERS", 8)
    batches = list(make_splitter(r"\w+")("a b c d e"))
    assert [len(batch) for batch in batches] == [3, 2, 2, 2]
    assert "".join(piece for batch in batches for piece in batch) == "a b c d e"


def test_long_text_without_any_space_is_one_piece():
    assert split(split_gpt2, "a" * 2_000_000) == ["a" * 2_000_000]


@pytest.mark.parametrize("pattern", ["(", 7, "", "cl100k", "GPT2"])
def test_invalid_pattern_is_named(pattern):
    with pytest.raises(TokenizerError, match="pattern"):
        make_splitter(pattern)
