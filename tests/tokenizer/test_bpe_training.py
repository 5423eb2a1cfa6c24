"""Training: on any number of threads, past the memory, going on from a tokenizer, and what it records."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer, SpecialTokenError, Tokenizer, TrainingError, word_counts
from tokenizer.bpe_readable import train_readable
from tokenizer.bpe_train import count_words, train
from tokenizer.pretokenize import make_pretokenizer

TEXT = "the cat sat on the mat; the rat ate the cat's hat. " * 20
RANDOM = random.Random(0)
WORDS = ["".join(RANDOM.choices("abcdefg\u00e9", k=RANDOM.randint(1, 14))) for _ in range(9000)]
MANY = [" ".join(RANDOM.choices(WORDS, k=4000)) + "\n" for _ in range(20)]


@pytest.mark.parametrize(
    "pattern", ["o200k", *(pytest.param(p, marks=pytest.mark.slow) for p in ("gpt2", "cl100k", None, r"\w+"))]
)
def test_counts_are_the_same_on_any_number_of_threads_and_past_the_memory(pattern, monkeypatch):
    pretokenizer = make_pretokenizer(pattern)
    one = count_words(MANY, pretokenizer, threads=1).as_dict()
    expected = {}
    for text in MANY:
        for piece in pretokenizer.split(text):
            expected[piece.encode()] = expected.get(piece.encode(), 0) + 1
    assert one == expected
    monkeypatch.setattr(word_counts, "_BATCH", 5000)
    monkeypatch.setattr(word_counts, "_FIRST_WORDS", 256)
    assert count_words(MANY, pretokenizer, threads=3).as_dict() == one
    spilled = []
    spill = word_counts._Counter.spill
    monkeypatch.setattr(word_counts._Counter, "spill", lambda self: (spilled.append(self), spill(self)))
    assert count_words(MANY, pretokenizer, threads=2, memory=1 << 16).as_dict() == one
    assert len(spilled) > 4 or pattern is None


def test_the_same_tokenizer_comes_from_any_number_of_threads(monkeypatch):
    expected = BPETokenizer.train(MANY, 600, threads=1).merges
    monkeypatch.setattr(word_counts, "_BATCH", 5000)
    assert BPETokenizer.train(MANY, 600, threads=4).merges == expected
    assert BPETokenizer.train(MANY, 600, threads=2, count_memory=1 << 16).merges == expected


def test_a_long_text_is_counted_in_blocks_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("tokenizer.corpus._BLOCK", 100)
    monkeypatch.setattr("tokenizer.streaming._CHARACTERS", 50)
    text = MANY[0] + "<s>" + TEXT + "<s"
    (tmp_path / "text.txt").write_bytes(text.encode())
    pretokenizer = make_pretokenizer("gpt2")
    counts = count_words(tmp_path, pretokenizer, ["<s>"]).as_dict()
    expected = {}
    for part in text.split("<s>"):
        for piece in pretokenizer.split(part):
            expected[piece.encode()] = expected.get(piece.encode(), 0) + 1
    assert counts == expected


WORD = st.lists(st.sampled_from(list(b"aab\xff")), min_size=1, max_size=70).map(bytes)


@pytest.mark.parametrize("tie_break", ["lowest-id", "greatest-bytes"])
@settings(derandomize=True, max_examples=60, deadline=None)
@given(words=st.dictionaries(WORD, st.integers(1, 1 << 40), max_size=40))
def test_learning_in_little_room_is_the_same_and_the_record_too(tie_break, words):
    expected, seen = [], []
    merges = train_readable(words, 60, tie_break, expected)
    assert train(words, 60, tie_break, lambda *_: None, seen) == merges
    assert seen == expected


def test_counts_have_64_bits():
    seen = []
    train({b"ab": 1 << 61, b"cd": (1 << 61) + 1}, 2, record=seen)
    assert [choice.count for choice in seen] == [(1 << 61) + 1, 1 << 61]


@pytest.mark.slow
def test_as_many_words_as_make_every_table_grow_give_the_same_merges():
    words = {word.encode(): n % 7 + 1 for n, word in enumerate(sorted(set(WORDS)))}
    assert train(words, 40) == train_readable(words, 40)


def test_training_goes_on_where_it_ended():
    whole = BPETokenizer.train(MANY, 700)
    begun = BPETokenizer.train(MANY, 400)
    assert BPETokenizer.train(MANY, 700, continue_from=begun).to_dict() == whole.to_dict()


def test_going_on_keeps_ids_and_special_tokens_and_puts_new_ones_after():
    old = BPETokenizer.train(TEXT, 270, special_tokens=["<s>"], pattern="cl100k")
    new = BPETokenizer.train("a dog<e>dug<s>a dog" * 9, 280, special_tokens=["<e>"], continue_from=old)
    assert [new.token_bytes(n) for n in range(270)] == [old.token_bytes(n) for n in range(270)]
    assert new.special_tokens == {"<s>": 269, "<e>": new.vocab_size - 1}
    assert new.pattern == "cl100k"
    assert new.merges[: len(old.merges)] == old.merges
    assert new.token_bytes(270) in b"a dog dug"
    assert new.decode(new.encode("a dog <s>", allowed_special="all")) == "a dog <s>"
    assert Tokenizer.from_dict(new.to_dict()).encode("a dog dug a hole") == new.encode("a dog dug a hole")


def test_what_cannot_be_gone_on_from_is_named():
    old = BPETokenizer.train(TEXT, 270, special_tokens=["<s>"], pattern="cl100k")
    for arguments, message in [
        ({"pattern": "o200k"}, "pattern"),
        ({"special_tokens": ["<s>"]}, "<s>"),
    ]:
        with pytest.raises(TrainingError, match=message):
            BPETokenizer.train(TEXT, 300, continue_from=old, **arguments)
    with pytest.raises(TrainingError, match="at least 270"):
        BPETokenizer.train(TEXT, 269, continue_from=old)
    with pytest.raises(SpecialTokenError, match="id 269"):
        BPETokenizer.train(TEXT, 300, continue_from=old, special_tokens={"<e>": 269})
    ranks = BPETokenizer.train(TEXT, 270)
    from_ranks = BPETokenizer(
        type(old.vocabulary).from_ranks({ranks.token_bytes(n): n for n in range(ranks.vocab_size)})
    )
    with pytest.raises(TrainingError, match="ranks"):
        BPETokenizer.train(TEXT, 300, continue_from=from_ranks)


def test_bytes_that_are_not_utf8_follow_the_policy(tmp_path, monkeypatch):
    monkeypatch.setattr("tokenizer.corpus._BLOCK", 3)
    data = "caf\u00e9 ".encode() + b"\xff\xfe ok"
    (tmp_path / "text.txt").write_bytes(data)
    pretokenizer = make_pretokenizer("gpt2")
    for policy, text in {
        "keep": data.decode("utf-8", "surrogateescape"),
        "replace": "caf\u00e9 \ufffd\ufffd ok",
        "ignore": "caf\u00e9  ok",
    }.items():
        expected = {piece.encode("utf-8", "surrogateescape"): 1 for piece in pretokenizer.split(text)}
        for source in (data, tmp_path):
            assert count_words(source, pretokenizer, invalid_utf8=policy).as_dict() == expected
    with pytest.raises(TrainingError, match=r"text\.txt is not UTF-8 at byte 6 "):
        BPETokenizer.train(tmp_path, 300, invalid_utf8="strict")
    with pytest.raises(TrainingError, match="invalid_utf8"):
        BPETokenizer.train(data, 300, invalid_utf8="guess")


def test_progress_of_counting_ends_with_all_bytes(monkeypatch):
    monkeypatch.setattr(word_counts, "_BATCH", 5000)
    calls = []
    BPETokenizer.train(MANY, 260, count_progress=calls.append)
    assert calls == sorted(calls) and calls[-1] == sum(len(text.encode()) for text in MANY)
    assert len(calls) > 5


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_a_number_of_threads_that_is_none_is_refused(threads):
    with pytest.raises(TrainingError, match="threads"):
        BPETokenizer.train(TEXT, 300, threads=threads)
