"""Offsets say where each token lies; a batch is its texts encoded one by one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenizer.base
from tokenizer import BPETokenizer, CharTokenizer, SpecialTokenError, Trusted, Untrusted

TOKENIZERS = [
    BPETokenizer.train("na\u00efve caf\u00e9 \U0001f600\U0001f600 the cat", 280, special_tokens=["<s>"]),
    CharTokenizer("abc \u00e9", byte_fallback=True, special_tokens=["<s>"]),
]


def test_offsets_count_characters_and_a_split_character_is_given_whole():
    tokenizer = BPETokenizer([(64, 65)], special_tokens=["<s>"])
    ids, offsets = tokenizer.encode_with_offsets("ab\u20acc<s>", allowed_special="all")
    assert ids == tokenizer.encode("ab\u20acc<s>", allowed_special="all")
    assert offsets == [(0, 2), (2, 3), (2, 3), (2, 3), (3, 4), (4, 7)]
    assert tokenizer.encode_with_offsets("") == ([], [])


def test_offsets_count_bytes_of_bytes():
    tokenizer = BPETokenizer([(64, 65)])
    assert tokenizer.encode_with_offsets(b"ab\xff\xc3\xa9")[1] == [(0, 2), (2, 3), (3, 4), (4, 5)]


def test_offsets_of_spans_are_those_in_the_joined_text():
    tokenizer = BPETokenizer([(64, 65)], special_tokens=["<s>"])
    spans = [Trusted("<s>"), Untrusted("\u00e9a"), Untrusted("b<s>")]
    offsets = tokenizer.encode_with_offsets(iter(spans))[1]
    assert offsets == [(0, 3), (3, 4), (3, 4), (4, 6), (6, 7), (7, 8), (8, 9)]
    with pytest.raises(TypeError, match="bytes"):
        tokenizer.encode_with_offsets([Untrusted(b"a")])


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bpe", "char"])
@settings(derandomize=True, max_examples=200, deadline=None)
@given(text=st.text(st.one_of(st.characters(), st.sampled_from("ab \u00e9\U0001f600\ud83d\ude00\udc00")), max_size=20))
def test_tokens_cover_the_text_in_order_and_decode_to_their_part_of_it(tokenizer, text):
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert len(ids) == len(offsets)
    end = 0
    for token_id, (start, stop) in zip(ids, offsets, strict=True):
        assert start < stop and start <= end <= stop and (start == end or end == stop or start == end - 1)
        part = text[start:stop].encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        if not any("\ud800" <= character <= "\udfff" for character in text):
            assert tokenizer.token_bytes(token_id) in part
        end = stop
    assert end == len(text)


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=["bpe", "char"])
def test_a_batch_is_its_texts_encoded_one_by_one(tokenizer):
    texts = ["the caf\u00e9", b"\xff", "", [Trusted("<s>"), Untrusted("a")]]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(iter(["<s>"]), allowed_special="all") == [[tokenizer.special_tokens["<s>"]]]
    assert tokenizer.encode_batch([]) == []
    with pytest.raises(SpecialTokenError, match="forbids"):
        tokenizer.encode_batch(["a", "<s>"], disallowed_special="all")


@pytest.mark.parametrize("texts", ["text", b"text", Untrusted("a")])
def test_one_text_in_place_of_a_batch_is_refused(texts):
    with pytest.raises(TypeError, match="encode"):
        TOKENIZERS[0].encode_batch(texts)


@pytest.mark.parametrize("made", TOKENIZERS, ids=["bpe", "char"])
def test_equal_ids_of_a_long_text_are_one_integer(made, monkeypatch):
    text = "the caf\u00e9 \u00e9<s>" * 150
    few, few_batch = made.encode(text, allowed_special="all"), made.encode_batch([text, "abc"], allowed_special="all")
    monkeypatch.setattr(tokenizer.base, "_MANY", 1)
    monkeypatch.setattr(tokenizer.base, "_VERY_MANY", 1)
    many, batch = made.encode(text, allowed_special="all"), made.encode_batch([text, "abc"], allowed_special="all")
    assert many == few and batch == few_batch and {type(token_id) for token_id in many} == {int}
    largest = [token_id for token_id in many if token_id == max(many)]
    assert max(many) > 256 and len(largest) == 150 and all(token_id is largest[0] for token_id in largest)
