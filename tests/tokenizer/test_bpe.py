"""BPETokenizer: training, encoding, round trips, limits."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer, SpecialTokenError, TokenizerError, TrainingError

TEXT = "the cat sat on the mat; the rat ate the cat's hat. " * 20


@pytest.fixture(scope="module")
def trained():
    return BPETokenizer.train(TEXT, 270, special_tokens=["<|end|>"])


def test_first_ids_are_the_bytes_and_special_tokens_come_last(trained):
    assert [trained.token_bytes(value) for value in range(256)] == [bytes([value]) for value in range(256)]
    assert trained.vocab_size == 270
    assert trained.special_tokens == {"<|end|>": 269}
    assert trained.token_bytes(269) == b"<|end|>"


def test_most_frequent_pair_is_merged_first_and_ties_go_to_the_lowest_ids():
    tokenizer = BPETokenizer.train("ab cd ab cd ab", 258, pattern=None)
    assert tokenizer.merges == [(97, 98), (32, 99)]


def test_tie_break_by_greatest_bytes_compares_the_left_bytes_first():
    assert BPETokenizer.train(["ab", "ba"], 257, tie_break="greatest-bytes").merges == [(98, 97)]
    assert BPETokenizer.train(["ab", "ba"], 257, tie_break="lowest-id").merges == [(97, 98)]
    # After "ab" is made, "ab"+"c" and "b"+"d" tie twice each: bytes put "b" above "ab", ids put 98 below 256.
    texts = ["ab"] * 9 + ["abc", "abc", "bd", "bd"]
    assert BPETokenizer.train(texts, 258, tie_break="greatest-bytes").merges == [(97, 98), (98, 100)]
    texts = ["ba"] * 9 + ["bac", "bac", "ad", "ad"]
    assert BPETokenizer.train(texts, 258, tie_break="greatest-bytes").merges == [(98, 97), (256, 99)]
    assert BPETokenizer.train(texts, 258, tie_break="lowest-id").merges == [(98, 97), (97, 100)]


def test_training_is_the_same_every_time_and_for_text_bytes_and_iterables():
    merges = BPETokenizer.train(TEXT, 290).merges
    assert BPETokenizer.train(TEXT.encode(), 290).merges == merges
    assert BPETokenizer.train(iter([TEXT]), 290).merges == merges


def test_no_merge_crosses_the_border_of_two_texts():
    assert BPETokenizer.train(["a", "b"], 300, pattern=None).merges == []


def test_no_merge_crosses_a_piece():
    tokenizer = BPETokenizer.train("x y x y x y", 400, pattern=r"\S")
    assert all(len(tokenizer.token_bytes(n)) == 1 for n in range(tokenizer.vocab_size))


def test_text_too_small_for_the_vocabulary_gives_a_smaller_one():
    tokenizer = BPETokenizer.train("aaa", 1000, special_tokens=["<s>"])
    assert tokenizer.merges == [(97, 97), (256, 97)]
    assert tokenizer.vocab_size == 259


def test_progress_is_called_after_each_merge():
    calls = []
    BPETokenizer.train(TEXT, 261, progress=lambda done, wanted: calls.append((done, wanted)))
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text())
def test_decoding_gives_back_any_text(trained, text):
    ids = trained.encode(text)
    assert trained.decode(ids, errors="strict") == text
    assert trained.encode_to_array(text).tolist() == ids


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary())
def test_decoding_gives_back_any_bytes(trained, data):
    assert trained.decode_bytes(trained.encode(data)) == data


@pytest.mark.parametrize(
    ("text", "shown"), [("a\ud800b", "a\ufffdb"), ("\udc80", "\ufffd"), ("\ud83d\ude00", "\U0001f600")]
)
def test_surrogates_are_joined_or_replaced(trained, text, shown):
    assert trained.decode(trained.encode(text)) == shown


@pytest.mark.parametrize("pattern", ["gpt2", None])
def test_a_long_run_of_one_byte_takes_linear_time(pattern):
    tokenizer = BPETokenizer.train("a" * 5000, 280, pattern=pattern)
    started = time.perf_counter()
    ids = tokenizer.encode("a" * 100_000)
    assert time.perf_counter() - started < 2
    assert tokenizer.decode(ids) == "a" * 100_000
    assert len(ids) < 1000


def test_cache_stays_bounded_and_does_not_change_ids(trained, monkeypatch):
    monkeypatch.setattr("tokenizer.bpe._CACHED_PIECES", 5)
    tokenizer = BPETokenizer(trained.merges)
    for _ in range(3):
        for text in (TEXT, "cat rat", "hat " * 7, "z" * 200):
            assert tokenizer.encode(text) == trained.encode(text)
            assert len(tokenizer._cache) <= 5


def test_array_type_is_the_smallest_that_holds_every_id():
    assert BPETokenizer([]).encode_to_array("hé").dtype == np.uint16
    assert BPETokenizer([], special_tokens={"<s>": 65_535}).encode_to_array("").dtype == np.uint16
    wide = BPETokenizer([], special_tokens={"<s>": 65_536})
    assert wide.encode_to_array("a<s>", allowed_special="all").tolist() == [97, 65_536]
    assert wide.encode_to_array("a").dtype == np.uint32


@pytest.mark.parametrize("vocab_size", [0, 255, 256, 3.5, "300", None])
def test_vocabulary_size_without_room_for_bytes_and_special_tokens_is_refused(vocab_size):
    with pytest.raises(TrainingError, match="at least 257"):
        BPETokenizer.train(TEXT, vocab_size, special_tokens=["<s>"])


@pytest.mark.parametrize("texts", ["", b"", [], ["", ""]])
def test_empty_corpus_is_refused(texts):
    with pytest.raises(TrainingError, match="got none"):
        BPETokenizer.train(texts, 300)


def test_unknown_tie_break_and_wrong_text_type_are_refused():
    with pytest.raises(TrainingError, match="lowest-id"):
        BPETokenizer.train(TEXT, 300, tie_break="random")
    with pytest.raises(TypeError, match="int"):
        BPETokenizer.train([1], 300)


@pytest.mark.parametrize("merges", [[(97, 256)], [(-1, 97)], [(97, 98), (97, 98)], [("a", "b")], [(97,)]])
def test_merges_that_no_training_makes_are_refused(merges):
    with pytest.raises((TokenizerError, ValueError)):
        BPETokenizer(merges)


@pytest.mark.parametrize(
    "specials", ["<s>", [""], ["a", "a"], [1], {"a": 255}, {"a": 300, "b": 300}, ["\ud800"], {"a": 1 << 40}]
)
def test_badly_declared_special_tokens_are_refused(specials):
    with pytest.raises(SpecialTokenError):
        BPETokenizer([], special_tokens=specials)
