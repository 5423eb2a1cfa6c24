"""BPEVocabulary: ids in any order, merges from a list or from ranks, and what is refused."""

import pytest

from tokenizer import BPETokenizer, BPEVocabulary, SpecialTokenError, Tokenizer, TokenizerError

BYTES = [bytes([value]) for value in range(255, -1, -1)]  # id n is byte 255 - n


def id_of(letter):
    return 255 - ord(letter)


RANKS = {b"".join(BYTES[n : n + 1]): n for n in range(256)} | {b"ab": 300, b"bc": 299, b"abc": 301, b"xyz": 302}


def test_bytes_and_merged_ids_may_stand_anywhere():
    tokens = [None, *BYTES, b"ab", None, b"abc"]
    a, b, c = (1 + id_of(letter) for letter in "abc")
    tokenizer = BPETokenizer(BPEVocabulary(tokens, [(a, b, 257), (257, c, 259)]), special_tokens={"<s>": 0, "<e>": 258})
    assert tokenizer.encode("abcab<s>", allowed_special="all") == [259, 257, 0]
    assert tokenizer.decode([0, 259, 258]) == "<s>abc<e>"
    assert Tokenizer.from_dict(tokenizer.to_dict()).to_dict() == tokenizer.to_dict()
    assert tokenizer.merges == [(a, b), (257, c)]
    with pytest.raises(SpecialTokenError, match="id 257"):
        BPETokenizer(tokenizer.vocabulary, special_tokens={"<s>": 257})


def test_ranks_merge_any_two_tokens_that_make_one_the_lowest_first_and_take_whole_pieces():
    tokenizer = BPETokenizer(BPEVocabulary.from_ranks(RANKS), pattern=r"\w+")
    assert tokenizer.encode("abc") == [301]
    assert tokenizer.encode("abcd") == [301, id_of("d")]
    assert tokenizer.encode("abd") == [300, id_of("d")]
    assert tokenizer.encode("xyz") == [302]  # no merge makes it
    assert tokenizer.encode("xyza") == [*map(id_of, "xyza")]
    assert tokenizer.vocab_size == 303
    assert Tokenizer.from_dict(tokenizer.to_dict()).to_dict() == tokenizer.to_dict()


def test_several_merges_may_make_one_token():
    a, b, c = map(id_of, "abc")
    tokens = [*BYTES, b"ab", b"bc", b"abc"]
    tokenizer = BPETokenizer(BPEVocabulary(tokens, [(b, c, 257), (a, b, 256), (256, c, 258), (a, 257, 258)]))
    assert tokenizer.encode("abc") == [258]
    assert tokenizer.encode("ab") == [256]


@pytest.mark.parametrize(
    ("tokens", "merges", "message"),
    [
        (BYTES[:-1], [], "1 of the 256 bytes have no token"),
        ([*BYTES, b""], [], "token 256"),
        ([*BYTES, "ab"], [], "token 256"),
        ([*BYTES, b"ab", b"ab"], None, "tokens 256 and 257 are both"),
        ([*BYTES, b"ab"], [(0, 1, 256)], "merge 0"),
        ([*BYTES, b"ab", None], [(id_of("a"), id_of("b"), 257)], "merge 0"),
        ([*BYTES, b"ab"], [(id_of("a"), id_of("b"), 256)] * 2, "merge 1.*twice"),
        ([*BYTES, b"ab"], [(id_of("a"), id_of("b"))], "merge 0"),
        ([*BYTES, b"ab"], [(id_of("a"), id_of("b"), 300)], "merge 0"),
        ([*BYTES, b"ab"], [(id_of("a"), id_of("b"), 256 - (1 << 32))], "merge 0"),
    ],
)
def test_what_no_vocabulary_has_is_named(tokens, merges, message):
    with pytest.raises(TokenizerError, match=message):
        BPEVocabulary(tokens, merges)


@pytest.mark.parametrize("rank", [-1, 5, None, "7", 1 << 40])
def test_ranks_that_are_no_ids_are_refused(rank):
    with pytest.raises(TokenizerError, match="rank"):
        BPEVocabulary.from_ranks({**RANKS, b"new": rank})
