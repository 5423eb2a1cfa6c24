"""A text that arrives in chunks gets the ids of the whole text, wherever it is cut."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer, CharTokenizer, SpecialTokenError, UnknownCharacterError, special, streaming

NAMES = ["<s>", "<s>!", "!<s", " x"]
TOKENIZERS = {
    "gpt2": BPETokenizer.train("the cat's  \n\n x<s>! 12 12 the cat's", 290, special_tokens=NAMES),
    "whole": BPETokenizer.train("the cat's  \n\n x<s>! 12 12", 290, pattern=None, special_tokens=NAMES),
    "char": CharTokenizer("abc", byte_fallback=True, special_tokens=NAMES),
}
PIECES = st.lists(
    st.sampled_from(["<s", ">", "<s>", "!", " ", "  ", "\n", "x", "the", "'", "s", "12", "\u00e9", "\ud83d", "\ude00"]),
    max_size=25,
)
ALLOWED = st.sampled_from([(), "all", ["<s>"], ["<s>!", " x"]])


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(derandomize=True, max_examples=150, deadline=None)
@given(chunks=PIECES, allowed=ALLOWED)
def test_chunks_of_str_give_the_ids_of_the_text(kind, chunks, allowed):
    tokenizer = TOKENIZERS[kind]
    expected = tokenizer.encode("".join(chunks), allowed_special=allowed)
    for characters in (1, 4, 1 << 14):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streaming, "_CHARACTERS", characters)
            assert list(tokenizer.encode_iterable(chunks, allowed_special=allowed)) == expected


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    chunks=st.lists(st.one_of(st.binary(max_size=4), st.sampled_from([b"<s", b">! ", b"\xf0\x9f", b"\x98", b"\x80"])))
)
def test_chunks_of_bytes_give_the_ids_of_the_text(kind, chunks):
    tokenizer = TOKENIZERS[kind]
    expected = tokenizer.encode(b"".join(chunks), allowed_special="all")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_CHARACTERS", 3)
        assert list(tokenizer.encode_iterable(chunks, allowed_special="all")) == expected


@settings(derandomize=True, max_examples=150, deadline=None)
@given(chunks=PIECES)
def test_a_disallowed_name_is_found_across_chunks_with_its_position(chunks):
    text = "".join(chunks).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "_CHARACTERS", 2)
        ids = TOKENIZERS["gpt2"].encode_iterable(chunks, disallowed_special=["<s>"])
        if "<s>" in text:
            with pytest.raises(SpecialTokenError, match=f"position {text.index('<s>')},"):
                list(ids)
        else:
            assert list(ids) == TOKENIZERS["gpt2"].encode(text)


def test_memory_does_not_grow_with_the_text():
    tokenizer = BPETokenizer.train("some words on a line of text\n" * 9, 300, special_tokens=["<s>"])

    def peak(line_count):
        lines = ("some words on a line of text\n" + "<s>" * (n % 16 == 0) for n in range(line_count))
        tracemalloc.start()
        for _ in tokenizer.encode_iterable(lines, allowed_special="all"):
            pass
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(1)  # makes the tokenizer's tables
    assert peak(16_000) < 1.2 * peak(2_000)


@pytest.mark.parametrize("parts", [["aaaa", 5], [5]])
def test_what_stands_before_ids_is_not_held(parts, monkeypatch):
    monkeypatch.setattr(streaming, "_CHARACTERS", 8)
    read = []

    def texts():
        for _ in range(20):
            for part in parts:
                read.append(part)
                yield part

    rules = special.SpecialRules({}, (), ())
    position, segments = next(streaming.cut_stream(texts(), rules, lambda text: 0))
    assert (position, segments) == (0, read[: len(segments)]) and len("".join(map(str, read))) <= 10
    assert [segment for _, part in streaming.cut_stream(texts(), rules, len) for segment in part] == parts * 20


def test_ids_come_before_the_last_chunk_has_been_read(monkeypatch):
    monkeypatch.setattr(streaming, "_CHARACTERS", 4)

    def chunks():
        yield "the cat the cat "
        yield "the cat the cat "
        pytest.fail("read more than was needed")

    assert next(TOKENIZERS["gpt2"].encode_iterable(chunks())) == TOKENIZERS["gpt2"].encode("the cat")[0]


@pytest.mark.parametrize("characters", [1, 4, 1 << 14])
def test_position_of_an_unknown_character_counts_from_the_first_chunk(characters, monkeypatch):
    monkeypatch.setattr(streaming, "_CHARACTERS", characters)
    with pytest.raises(UnknownCharacterError) as caught:
        list(CharTokenizer("ab").encode_iterable(["aaaaa", "bbbbb", "aa?"]))
    assert (caught.value.character, caught.value.position) == ("?", 12)


@pytest.mark.parametrize("chunks", ["text", b"text", bytearray(b"text"), [5], ["a", b"b"], [b"a", "b"], None])
def test_what_is_no_iterable_of_chunks_of_one_type_is_refused(chunks):
    with pytest.raises(TypeError):
        list(TOKENIZERS["char"].encode_iterable(chunks))


def test_unknown_names_are_refused_at_the_call():
    with pytest.raises(SpecialTokenError, match="nope"):
        TOKENIZERS["char"].encode_iterable(["a"], allowed_special={"nope"})


def test_no_chunks_give_no_ids():
    for chunks in ([], [""], [b"", b""], iter(())):
        assert list(TOKENIZERS["gpt2"].encode_iterable(chunks)) == []
