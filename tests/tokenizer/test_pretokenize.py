"""The scanners cut as the expressions do, at cuts that are safe nothing changes, and no way to cut loses text."""

from itertools import product

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import TokenizerError, pretokenize, unicode_classes
from tokenizer.patterns import PATTERNS, split_readable
from tokenizer.pretokenize import as_array, make_pretokenizer
from tokenizer.scan import class_table

# Dense in what the expressions treat specially: all kinds of space, apostrophes with their letters, the long s and other
# letters whose case is uncommon, marks, slashes, the escapes that stand for bytes that are not UTF-8.
TRICKY = st.text(
    alphabet=" \n\t\r\x0b\x0c\x1c\x1f\x85\xa0\u2003'sdmtlvreSLTVE\u017fa01_./-\u00e9\u00df\u01c5\u02b0\u00aa\u4e2d\u0663\u00bd"
    "\u0301\U0001f600\udc80\udcff",
    max_size=60,
)
TEXT = st.one_of(TRICKY, st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
ASCII = [
    "'s",
    "'ll",
    "'v",
    "'re",
    "'S",
    "ab",
    "Ab",
    "LL",
    "17",
    "12345",
    "a" * 70,
    "\n \t ",
    " \n",
    "\x1c",
    *" '.(/\n\r\t\x0b\x7f",
]
FRAGMENTS = st.one_of(
    st.lists(st.sampled_from(ASCII), min_size=40, max_size=150),
    st.lists(st.sampled_from([*ASCII, "\u00e9", "\xa0 ", "'\u017f", "\u0301"]), min_size=40, max_size=150),
)
named = pytest.mark.parametrize("name", PATTERNS)


@named
@settings(derandomize=True, max_examples=300, deadline=None)
@given(TEXT)
def test_a_scanner_cuts_as_the_expression_does(name, text):
    assert make_pretokenizer(name).split(text) == split_readable(name, text)


@named
@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_a_scanner_cuts_any_bytes_as_the_expression_cuts_their_escapes(name, data):
    text = data.decode("utf-8", "surrogateescape")
    assert make_pretokenizer(name).split(text) == split_readable(name, text)


@named
@settings(derandomize=True, max_examples=300, deadline=None)
@given(FRAGMENTS)
def test_blocks_of_64_bytes_are_cut_as_the_expression_cuts(name, fragments):
    text = "".join(fragments)
    assert make_pretokenizer(name).split(text) == split_readable(name, text)


@named
@pytest.mark.parametrize("before", [0, 58, 60])
@pytest.mark.parametrize("alphabet", [" \n'sL1/\u00e9", "\t\r\n (a2'"])
def test_every_short_text_is_cut_well_at_the_start_and_at_the_end_of_a_block(name, alphabet, before):
    parts = ["x" * before + "".join(part) + " x" * 40 for part in product(alphabet, repeat=4)]
    data = [part.encode() for part in parts]
    limits = np.cumsum([len(part) for part in data], dtype=np.int64)
    found = np.concatenate([ends.copy() for ends in make_pretokenizer(name).ends(as_array(b"".join(data)), limits)])
    lengths = [len(piece.encode()) for part in parts for piece in split_readable(name, part)]
    assert np.array_equal(found, np.cumsum(lengths))


@named
def test_every_ascii_character_is_of_its_class_in_blocks(name):
    # Between neighbours of each class, so that a character taken for one of another class moves a cut.
    pairs = list(product(["a", "A", "1", "!", "!\n", " ", "\n", "\t", "1234"], repeat=2))
    for code in range(0x80):
        text = "".join(f"x{left}{chr(code)}{right}x" for left, right in pairs) + " x" * 40
        assert make_pretokenizer(name).split(text) == split_readable(name, text)


@named
@settings(derandomize=True, max_examples=200, deadline=None)
@given(TEXT, TEXT)
def test_a_safe_cut_changes_nothing_whatever_follows(name, text, following):
    pretokenizer = make_pretokenizer(name)
    cut = pretokenizer.safe_cut(text)
    whole = pretokenizer.split(text + following)
    assert pretokenizer.split(text[:cut]) + pretokenizer.split(text[cut:] + following) == whole


@named
def test_a_safe_cut_is_found_between_words_numbers_and_symbols(name):
    cut = make_pretokenizer(name).safe_cut
    assert cut("one two  three") == 7
    assert cut("one\u2003two\x1cthree") == 7
    assert cut("\u4e2d\u6587\uff0c\u6587") == 2
    assert cut("no12") == 2
    assert [cut(text) for text in ("", "one", "  one", "one's", "!\u0301")] == [0] * 5


def test_newlines_after_symbols_belong_to_them_in_the_later_patterns():
    assert [make_pretokenizer(name).safe_cut("!\n") for name in ("gpt2", "cl100k", "o200k")] == [1, 0, 0]


@pytest.mark.parametrize("pattern", [*PATTERNS, None, r"\w+"])
@settings(derandomize=True, max_examples=60, deadline=None)
@given(texts=st.lists(TRICKY, max_size=6), batch=st.integers(1, 9))
def test_no_piece_goes_across_the_border_of_two_texts(pattern, texts, batch):
    pretokenizer = make_pretokenizer(pattern)
    parts = [text.encode("utf-8", "surrogateescape") for text in texts]
    limits = np.cumsum([len(part) for part in parts], dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokenize, "_BATCH", batch)
        ends = [end for ends in pretokenizer.ends(as_array(b"".join(parts)), limits) for end in ends.tolist()]
    pieces = [piece.encode("utf-8", "surrogateescape") for text in texts for piece in pretokenizer.split(text)]
    assert ends == np.cumsum([len(piece) for piece in pieces], dtype=np.int64).tolist()


def test_every_code_point_has_the_class_of_its_category():
    table = class_table()
    names = ("OTHER", "SPACE", "NEWLINE", "NUMBER", "UPPER", "LOWER", "CASELESS", "MARK")
    counts = dict(zip(names, (int(np.count_nonzero(table == 1 << n)) for n in range(8)), strict=True))
    letters = counts["UPPER"] + counts["LOWER"] + counts["CASELESS"]
    assert (unicode_classes.VERSION, letters, counts["SPACE"] + counts["NEWLINE"]) == ("16.0.0", 141_028, 25)
    # The regex package follows a later version of Unicode, which has only added to these.
    for bits, expression in ((0b1110000, r"\p{L}"), (0b1000, r"\p{N}"), (0b10000000, r"\p{M}"), (0b110, r"\s")):
        codes = np.flatnonzero(table & bits)
        assert not regex.search(rf"(?!{expression})(?s:.)", "".join(map(chr, codes)))


@pytest.mark.parametrize("pattern", [r"[a-z]+", r"(a)(b)?", r"x*", r"(?r)[a-z]+", r"\p{L}+|\d", *PATTERNS, None])
@settings(derandomize=True, max_examples=60, deadline=None)
@given(text=TRICKY)
def test_pieces_joined_are_the_text_for_any_pattern(pattern, text):
    pieces = make_pretokenizer(pattern).split(text)
    assert "".join(pieces) == text
    assert "" not in pieces


@named
def test_long_text_of_one_kind_is_few_pieces(name):
    assert make_pretokenizer(name).split("a" * 2_000_000) == ["a" * 2_000_000]
    assert make_pretokenizer(name).split(" " * 2_000_000 + "!") == [" " * 1_999_999, " !"]


@pytest.mark.parametrize("pattern", ["(", 7, "", "p50k", "GPT2"])
def test_invalid_pattern_is_named(pattern):
    with pytest.raises(TokenizerError, match="pattern"):
        make_pretokenizer(pattern)


@pytest.mark.parametrize("name", ["gpt2", "o200k"])
def test_an_expression_of_the_user_cuts_every_character_as_the_named_pattern_does(name):
    text = "".join(f"{chr(code)} " for code in range(0x34000) if not 0xD800 <= code < 0xE000)
    assert make_pretokenizer(f"(?:{PATTERNS[name]})").split(text) == make_pretokenizer(name).split(text)
