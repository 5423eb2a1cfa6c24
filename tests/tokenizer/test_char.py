"""CharTokenizer: vocabulary, unknown characters, byte fallback, parity with nanoGPT's data set."""

import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import CharTokenizer, TokenizerError, TrainingError, UnknownCharacterError

SHAKESPEARE = pathlib.Path(__file__).parents[2].parent / "shared/data/tinyshakespeare.txt"


def test_ids_follow_the_sorted_characters():
    tokenizer = CharTokenizer.train("hello")
    assert tokenizer.characters == "ehlo"
    assert tokenizer.vocab_size == 4
    assert tokenizer.encode("hello") == [1, 0, 2, 2, 3]
    assert tokenizer.encode_to_array("hello").dtype == np.uint16


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="needs tinyshakespeare.txt in ../shared/data")
def test_tinyshakespeare_has_the_65_characters_of_nanogpt():
    text = SHAKESPEARE.read_text(encoding="utf-8")
    tokenizer = CharTokenizer.train(text)
    assert tokenizer.vocab_size == 65
    reference = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = tokenizer.encode_to_array(text)
    assert ids.tolist() == [reference[character] for character in text]
    assert tokenizer.decode(ids) == text


def test_training_takes_several_texts_and_bytes():
    assert CharTokenizer.train(["ba", b"c", "\u00e9".encode()]).characters == "abc\u00e9"


@pytest.mark.parametrize("text", ["ab\u20acb", "ab\U0001f600", "abz"])
def test_unknown_character_is_named_with_code_point_and_position(text):
    tokenizer = CharTokenizer("ab")
    with pytest.raises(UnknownCharacterError) as caught:
        tokenizer.encode(text)
    assert (caught.value.character, caught.value.code_point, caught.value.position) == (text[2], ord(text[2]), 2)
    for part in (f"U+{ord(text[2]):04X}", "position 2", "byte_fallback=True"):
        assert part in str(caught.value)


def test_position_counts_the_special_tokens_before_it():
    tokenizer = CharTokenizer("ab", special_tokens=["<s>"])
    with pytest.raises(UnknownCharacterError, match="position 4 "):
        tokenizer.encode("<s>a?", allowed_special="all")


def test_byte_fallback_spells_unknown_characters_by_their_bytes():
    tokenizer = CharTokenizer("ab\u0142", byte_fallback=True, special_tokens=["<s>"])
    assert tokenizer.vocab_size == 3 + 256 + 1
    assert tokenizer.encode("b\u20ac\u0142") == [1, 3 + 0xE2, 3 + 0x82, 3 + 0xAC, 2]
    assert tokenizer.special_tokens == {"<s>": 259}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(text=st.text())
def test_decoding_gives_back_any_text_with_byte_fallback(text):
    for characters in ("ab ", "\u4e2d\U0001f600a", ""):
        tokenizer = CharTokenizer(characters, byte_fallback=True)
        assert tokenizer.decode(tokenizer.encode(text), errors="strict") == text


@settings(derandomize=True, max_examples=100, deadline=None)
@given(text=st.text(min_size=1))
def test_decoding_gives_back_the_training_text(text):
    tokenizer = CharTokenizer.train(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text))


@settings(derandomize=True, max_examples=100, deadline=None)
@given(data=st.binary())
def test_decoding_gives_back_any_bytes_with_byte_fallback(data):
    tokenizer = CharTokenizer("ab", byte_fallback=True)
    assert tokenizer.decode_bytes(tokenizer.encode(data)) == data


def test_invalid_bytes_without_fallback_are_named_as_bytes():
    with pytest.raises(UnknownCharacterError, match="byte 0xFF"):
        CharTokenizer("ab").encode(b"a\xff")
    with pytest.raises(TrainingError, match="UTF-8"):
        CharTokenizer.train(b"a\xff")


@pytest.mark.parametrize("characters", ["aa", ["ab"], [1], "\ud800", "", 5, {"a", "b"}])
def test_invalid_vocabularies_are_refused(characters):
    with pytest.raises(TokenizerError):
        CharTokenizer(characters)


def test_byte_fallback_is_a_truth_value():
    assert CharTokenizer("a", byte_fallback=True).byte_fallback
    with pytest.raises(TypeError, match="byte_fallback"):
        CharTokenizer("a", byte_fallback="no")


def test_files_and_folders_are_texts(tmp_path):
    (tmp_path / "a.txt").write_text("ba", encoding="utf-8")
    (tmp_path / "b.txt").write_text("\u00e9", encoding="utf-8")
    assert CharTokenizer.train(tmp_path).characters == "ab\u00e9"
    assert CharTokenizer.train([tmp_path / "a.txt", "c"]).characters == "abc"


@pytest.mark.parametrize("text", ["", [], b""])
def test_empty_corpus_is_refused(text):
    with pytest.raises(TrainingError, match="got none"):
        CharTokenizer.train(text)
