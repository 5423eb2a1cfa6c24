"""The fast training and the fast merging give what the readable twin gives."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer, BPEVocabulary
from tokenizer.bpe_merge import PairTable
from tokenizer.bpe_readable import encode_readable, merge_readable, replace_pair, train_readable
from tokenizer.bpe_train import count_words, train
from tokenizer.pretokenize import make_pretokenizer

A, B = (BPETokenizer([]).encode(letter)[0] for letter in "ab")
FEW_SYMBOLS = st.lists(st.sampled_from(list(b"aab")), max_size=40).map(bytes)
WORD = st.one_of(FEW_SYMBOLS, st.binary(max_size=30), st.text(max_size=15).map(str.encode))
WORDS = st.dictionaries(WORD.filter(bool), st.integers(1, 5), max_size=12)


@pytest.mark.parametrize("tie_break", ["lowest-id", "greatest-bytes"])
@settings(derandomize=True, max_examples=150, deadline=None)
@given(words=WORDS, merge_count=st.integers(0, 40))
def test_fast_training_learns_the_same_merges_by_the_same_counts(tie_break, words, merge_count):
    fast, readable = [], []
    merges = train(words, merge_count, tie_break, record=fast)
    assert merges == train_readable(words, merge_count, tie_break, readable)
    assert fast == readable and [record.pair for record in fast] == merges


@st.composite
def merge_lists(draw):
    """Any valid merges, with those that build on each other likely."""
    merges = []
    for _ in range(draw(st.integers(0, 25))):
        usable = [A, B, *range(256, 256 + len(merges))]
        pair = (draw(st.sampled_from(usable)), draw(st.sampled_from(usable)))
        if pair not in merges:
            merges.append(pair)
    return merges


@pytest.mark.parametrize("tie_break", ["lowest-id", "greatest-bytes"])
@settings(derandomize=True, max_examples=100, deadline=None)
@given(words=WORDS, merges=merge_lists(), free=st.integers(0, 3))
def test_fast_training_goes_on_from_merges_as_the_readable_does(tie_break, words, merges, free):
    base = {"base": BPEVocabulary.from_pairs(merges), "first_id": 256 + len(merges) + free}
    fast, readable = [], []
    assert train(words, 20, tie_break, record=fast, **base) == train_readable(words, 20, tie_break, readable, **base)
    assert fast == readable


@st.composite
def any_merges(draw):
    """Merges in any order, whose ids come in any order: several make the same id, some can never be applied."""
    symbols = st.integers(0, 5)
    pairs = draw(st.lists(st.tuples(symbols, symbols), unique=True, max_size=20))
    merges = np.array([(*pair, draw(symbols)) for pair in pairs], dtype=np.int32).reshape(-1, 3)
    ranks = np.arange(len(merges), dtype=np.int32)
    if draw(st.booleans()):  # the rank is the id made, as in tiktoken
        merges = merges[np.argsort(merges[:, 2], kind="stable")]
        ranks = merges[:, 2].copy()
    return merges, ranks


@settings(derandomize=True, max_examples=150, deadline=None)
@given(merges=merge_lists(), word=FEW_SYMBOLS)
def test_fast_merging_agrees_for_merges_that_no_training_would_give(merges, word):
    vocabulary = BPEVocabulary.from_pairs(merges)
    ids = vocabulary.byte_ids[list(word)]
    merged = PairTable(vocabulary.merges, vocabulary.ranks).merge(ids).tolist()
    assert merged == encode_readable(word, vocabulary)
    for number, pair in enumerate(merges):  # from pairs, one merge after the other gives the same
        ids = replace_pair(list(ids), pair, 256 + number)
    assert merged == list(ids)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(rule=any_merges(), ids=st.lists(st.integers(0, 5), max_size=30), repeats=st.sampled_from([1, 2, 9]))
def test_fast_merging_of_any_symbols_agrees(rule, ids, repeats):
    ids = np.array(ids * repeats, dtype=np.int32)  # short ones are searched, long ones get a heap
    assert PairTable(*rule).merge(ids).tolist() == merge_readable(ids.tolist(), *rule)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(texts=st.lists(st.one_of(st.text(max_size=30), st.binary(max_size=30)), max_size=5), probe=st.text(max_size=30))
def test_whole_tokenizer_agrees_with_the_readable_twin(texts, probe):
    split = make_pretokenizer("gpt2").split
    words = count_words(texts, make_pretokenizer("gpt2")).as_dict()
    if not words:
        return
    tokenizer = BPETokenizer.train(texts, 300)
    assert tokenizer.merges == train_readable(words, 44)
    expected = []
    for piece in split(probe):
        expected += encode_readable(piece.encode(), tokenizer.vocabulary)
    assert tokenizer.encode(probe) == expected


def test_counting_sees_each_piece_of_each_text():
    words = count_words(["a b", b"b b\xff", "a"], make_pretokenizer("gpt2"))
    assert words.as_dict() == Counter({b"a": 2, b" b": 2, b"b": 1, b"\xff": 1})
