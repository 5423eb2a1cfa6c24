"""Decoding: bad ids are named, and a stream never shows half a character."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer, TokenIdError


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer([tuple(ids_of(b"\xc3\xa9")), tuple(ids_of(b"ab"))], special_tokens={"<s>": 260})


def ids_of(data):
    """The ids of single bytes."""
    return BPETokenizer([]).encode(data)


@pytest.mark.parametrize("ids", [[], (), np.array([]), iter([]), range(0)])
def test_no_ids_give_no_text(tokenizer, ids):
    assert tokenizer.decode(ids) == ""


@pytest.mark.parametrize("ids", [[257, 66], (257, 66), np.array([257, 66], dtype=np.uint16), iter([257, 66])])
def test_ids_come_in_any_sequence(tokenizer, ids):
    assert tokenizer.decode(ids) == "abc"


def test_many_ids_are_decoded_in_order(tokenizer):
    ids = [*ids_of(b"abc"), 256] * 50_000
    assert tokenizer.decode(ids) == "abc\u00e9" * 50_000


@pytest.mark.parametrize("bad", [-1, 261, 2**70, -(2**40)])
def test_ids_out_of_range_are_named(tokenizer, bad):
    with pytest.raises(TokenIdError):
        tokenizer.decode([97, bad])
    with pytest.raises(TokenIdError):
        tokenizer.token_bytes(bad)
    with pytest.raises(TokenIdError):
        tokenizer.stream_decoder().feed(bad)


def test_ids_between_the_tokens_are_not_assigned(tokenizer):
    assert tokenizer.vocab_size == 261
    with pytest.raises(TokenIdError, match="259 is not assigned"):
        tokenizer.decode([97, 259])
    with pytest.raises(TokenIdError, match="258 is not assigned"):
        tokenizer.token_bytes(258)


@pytest.mark.parametrize(
    "ids", [[1.5], [[1, 2]], [[1], [2, 3]], np.zeros((2, 2), dtype=int), ["a"], [True], np.int64(3)]
)
def test_what_is_no_sequence_of_integers_is_refused(tokenizer, ids):
    with pytest.raises((TokenIdError, TypeError)):
        tokenizer.decode(ids)


@pytest.mark.parametrize("bad", [1.0, "a", None, True])
def test_a_single_id_must_be_an_integer(tokenizer, bad):
    with pytest.raises(TokenIdError, match="integer"):
        tokenizer.token_bytes(bad)


def test_incomplete_characters_follow_the_errors_argument(tokenizer):
    assert tokenizer.decode(ids_of(b"\xc3")) == "\ufffd"
    assert tokenizer.decode(ids_of(b"\xc3a"), errors="ignore") == "a"
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode(ids_of(b"\xc3"), errors="strict")
    with pytest.raises(UnicodeDecodeError):
        stream = tokenizer.stream_decoder("strict")
        print([stream.feed(token_id) for token_id in ids_of(b"\xc3a")])


def test_unknown_error_policy_is_named_even_where_the_bytes_are_good(tokenizer):
    with pytest.raises(LookupError, match="lenient"):
        tokenizer.decode([64], errors="lenient")
    with pytest.raises(LookupError, match="lenient"):
        tokenizer.stream_decoder("lenient")


def test_one_id_in_place_of_several_is_refused(tokenizer):
    with pytest.raises(TokenIdError, match=r"write \[5\]"):
        tokenizer.decode(5)


def test_stream_holds_back_an_unfinished_character(tokenizer):
    stream = tokenizer.stream_decoder()
    assert [stream.feed(value) for value in ids_of("\u20ac!")] == ["", "", "\u20ac", "!"]
    assert stream.flush() == ""
    assert stream.feed(ids_of(b"\xe2")[0]) == ""
    assert stream.flush() == "\ufffd"
    assert stream.feed(ids_of(b"a")[0]) == "a"
    assert stream.feed(np.uint16(260)) == "<s>"


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 257), st.sampled_from([*ids_of(b"\xe2\x82\xac\xf0\x9f"), 260])), max_size=20))
def test_streamed_pieces_joined_are_the_decoded_text(tokenizer, ids):
    stream = tokenizer.stream_decoder()
    assert "".join([stream.feed(token_id) for token_id in ids] + [stream.flush()]) == tokenizer.decode(ids)
