"""The fast training and the fast merging give what the readable twin gives."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer
from tokenizer.bpe_merge import MergeTable
from tokenizer.bpe_readable import encode_readable, train_readable
from tokenizer.bpe_train import count_words, train
from tokenizer.pretokenize import make_splitter

FEW_SYMBOLS = st.lists(st.sampled_from(list(b"aab")), max_size=40).map(bytes)
WORD = st.one_of(FEW_SYMBOLS, st.binary(max_size=30), st.text(max_size=15).map(str.encode))
WORDS = st.dictionaries(WORD.filter(bool), st.integers(1, 5), max_size=12)


@pytest.mark.parametrize("tie_break", ["lowest-id", "greatest-bytes"])
@settings(derandomize=True, max_examples=150, deadline=None)
@given(words=WORDS, merge_count=st.integers(0, 40))
def test_fast_training_learns_the_same_merges(tie_break, words, merge_count):
    assert train(words, merge_count, tie_break) == train_readable(words, merge_count, tie_break)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(words=WORDS, others=st.lists(WORD, max_size=8))
def test_fast_merging_spells_words_the_same(words, others):
    merges = train_readable(words, 40)
    unseen_and_seen = [*others, *words]
    expected = [encode_readable(word, merges) for word in unseen_and_seen]
    assert MergeTable(merges).merge_words(unseen_and_seen) == expected


@st.composite
def merge_lists(draw):
    """Any valid merges, with those that build on each other likely."""
    merges = []
    for _ in range(draw(st.integers(0, 25))):
        usable = [*b"ab", *range(256, 256 + len(merges))]
        pair = (draw(st.sampled_from(usable)), draw(st.sampled_from(usable)))
        if pair not in merges:
            merges.append(pair)
    return merges


@settings(derandomize=True, max_examples=150, deadline=None)
@given(merges=merge_lists(), word=FEW_SYMBOLS)
def test_fast_merging_agrees_for_merges_that_no_training_would_give(merges, word):
    assert MergeTable(merges).merge_words([word]) == [encode_readable(word, merges)]


@settings(derandomize=True, max_examples=80, deadline=None)
@given(texts=st.lists(st.one_of(st.text(max_size=30), st.binary(max_size=30)), max_size=5), probe=st.text(max_size=30))
def test_whole_tokenizer_agrees_with_the_readable_twin(texts, probe):
    split = make_splitter("gpt2")
    words = count_words(texts, split)
    if not words:
        return
    tokenizer = BPETokenizer.train(texts, 300)
    assert tokenizer.merges == train_readable(words, 44)
    long = BPETokenizer(tokenizer.merges)
    expected = []
    for pieces in split(probe):
        for piece in pieces:
            expected += encode_readable(piece.encode(), tokenizer.merges)
    assert tokenizer.encode(probe) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenizer.bpe._FEW_CHARACTERS", 0)  # as a long text is encoded
        assert long.encode(probe) == expected


def test_counting_sees_each_piece_of_each_text():
    words = count_words(["a b", b"b b\xff", "a"], make_splitter("gpt2"))
    assert words == Counter({b"a": 2, b" b": 2, b"b": 1, b"\xff": 1})
