"""BPETokenizer: training, encoding, round trips, limits."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer import BPETokenizer, SpecialTokenError, TokenizerError, TrainingError
from tokenizer.bpe_encode import Encoder

SPACE = 220  # GPT-2's order of the bytes: the visible ones first, so "!" is 0
A, B, C, D = (ord(character) - ord("!") for character in "abcd")
TEXT = "the cat sat on the mat; the rat ate the cat's hat. " * 20


@pytest.fixture(scope="module")
def trained():
    return BPETokenizer.train(TEXT, 270, special_tokens=["<|end|>"])


def test_first_ids_are_the_bytes_and_special_tokens_come_last(trained):
    assert sorted(trained.token_bytes(value) for value in range(256)) == [bytes([value]) for value in range(256)]
    assert [trained.token_bytes(value) for value in (0, A, 93, 94, SPACE, 255)] == [
        b"!",
        b"a",
        b"~",
        b"\xa1",
        b" ",
        b"\xad",
    ]
    assert trained.vocab_size == 270
    assert trained.special_tokens == {"<|end|>": 269}
    assert trained.token_bytes(269) == b"<|end|>"


def test_what_it_was_made_from_can_be_read_back(trained):
    assert trained.pattern == "gpt2"
    assert repr(trained) == "BPETokenizer(vocab_size=270, special_tokens={'<|end|>': 269})"
    trained.merges.clear()
    trained.special_tokens.clear()
    assert len(trained.merges) == 13 and trained.special_tokens


def test_most_frequent_pair_is_merged_first_and_ties_go_to_the_lowest_ids():
    tokenizer = BPETokenizer.train("ab cd ab cd ab", 258, pattern=None)
    assert tokenizer.merges == [(A, B), (C, D)]


def test_tie_break_by_greatest_bytes_compares_the_left_bytes_first():
    assert BPETokenizer.train(["ab", "ba"], 257, tie_break="greatest-bytes").merges == [(B, A)]
    assert BPETokenizer.train(["ab", "ba"], 257, tie_break="lowest-id").merges == [(A, B)]
    # After "ab" is made, "ab"+"c" and "b"+"d" tie twice each: bytes put "b" above "ab", ids put "b" below "ab".
    texts = ["ab"] * 9 + ["abc", "abc", "bd", "bd"]
    assert BPETokenizer.train(texts, 258, tie_break="greatest-bytes").merges == [(A, B), (B, D)]
    texts = ["ba"] * 9 + ["bac", "bac", "ad", "ad"]
    assert BPETokenizer.train(texts, 258, tie_break="greatest-bytes").merges == [(B, A), (256, C)]
    assert BPETokenizer.train(texts, 258, tie_break="lowest-id").merges == [(B, A), (A, D)]


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
    assert tokenizer.merges == [(A, A), (256, A)]
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


@pytest.mark.parametrize("room", [4, 16])
def test_memory_of_pieces_stays_bounded_and_does_not_change_ids(trained, room, monkeypatch):
    monkeypatch.setattr("tokenizer.bpe._REMEMBERED", room)
    monkeypatch.setattr("tokenizer.bpe_encode._FIRST_WORDS", 2)
    tokenizer = BPETokenizer(trained.merges)
    for _ in range(3):
        for text in (TEXT, "cat rat", "hat " * 7, "z" * 200, "the cats that sat on that mat at a hat rate"):
            assert tokenizer.encode(text) == trained.encode(text)
    (encoder,) = tokenizer._encoders
    assert encoder._words.capacity == room


def test_an_encoding_that_was_stopped_leaves_nothing_behind(trained, monkeypatch):
    letters = "abcdefghijklmnopqrst"
    first, second = (" ".join(word + a + b for a in letters for b in letters) for word in ("cat", "m"))
    tokenizer = BPETokenizer(trained.merges)
    tokenizer.encode(TEXT)
    run = Encoder._call

    def stop(*arguments):
        run(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, "_call", stop)
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode(first)
    monkeypatch.undo()
    assert tokenizer.encode(second + first) == trained.encode(second + first)


def test_threads_may_share_a_tokenizer(trained):
    texts = [f"{TEXT[n:]} {n}" * 30 for n in range(40)]
    expected = [trained.encode(text) for text in texts]
    tokenizer = BPETokenizer(trained.merges)
    assert tokenizer.encode_batch(texts, threads=4) == expected
    assert 1 <= len(tokenizer._encoders) <= 4


def test_an_encoder_that_another_thread_takes_first_is_made_anew(trained):
    class TakenMeanwhile(list):
        def __bool__(self):
            return True

    tokenizer = BPETokenizer(trained.merges)
    tokenizer._encoders = TakenMeanwhile()
    assert tokenizer.encode(TEXT) == trained.encode(TEXT)


def test_array_type_is_the_smallest_that_holds_every_id():
    assert BPETokenizer([]).encode_to_array("hé").dtype == np.uint16
    assert BPETokenizer([], special_tokens={"<s>": 65_535}).encode_to_array("").dtype == np.uint16
    wide = BPETokenizer([], special_tokens={"<s>": 65_536})
    assert wide.encode_to_array("a<s>", allowed_special="all").tolist() == [A, 65_536]
    assert wide.encode_to_array("a").dtype == np.uint32


@pytest.mark.parametrize("vocab_size", [0, 255, 256, 1 << 25, True, 3.5, "300", None])
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
    for wrong in ([1], 1, None, bytearray(b"text")):
        with pytest.raises(TypeError, match="pathlib.Path"):
            BPETokenizer.train(wrong, 300)


@pytest.mark.parametrize(
    "merges",
    [
        [(97, 256)],
        [(-1, 97)],
        [(97, 98), (97, 98)],
        [("a", "b")],
        ["ab"],
        [(97,)],
        [(1, 2, 3)],
        [5],
        [(True, 2)],
        [(1.0, 2)],
    ],
)
def test_merges_that_no_training_makes_are_refused(merges):
    with pytest.raises(TokenizerError, match="merge"):
        BPETokenizer(merges)


def test_numpy_integers_are_integers():
    tokenizer = BPETokenizer(np.array([[A, B], [256, C]]), special_tokens={"<s>": np.int64(258)})
    assert tokenizer.merges == [(A, B), (256, C)]
    assert tokenizer.to_dict() == BPETokenizer([(A, B), (256, C)], special_tokens=["<s>"]).to_dict()
    assert BPETokenizer.train(TEXT, np.int64(270)).merges == BPETokenizer.train(TEXT, 270).merges


def test_merges_that_would_fill_the_memory_are_refused():
    doubling = [(A, A), *((256 + n, 256 + n) for n in range(60))]
    with pytest.raises(TokenizerError, match="bytes"):
        BPETokenizer(doubling)


def test_special_tokens_in_training_text_cut_it_and_are_not_learnt():
    names = ["<|end|>", "<|end|>="]
    cut = BPETokenizer.train("ab<|end|>=ab<|end|>cd" * 9, 300, special_tokens=names, pattern=None)
    assert cut.merges == BPETokenizer.train(["ab", "ab", *["cdab", "ab"] * 8, "cd"], 298, pattern=None).merges
    assert cut.merges == [(A, B), (C, D), (257, 256)]


def test_special_tokens_by_mapping_keep_their_ids_and_are_checked_before_training():
    tokenizer = BPETokenizer.train(TEXT, 270, special_tokens={"<s>": 269, "<e>": 300})
    assert tokenizer.special_tokens == {"<s>": 269, "<e>": 300}
    assert len(tokenizer.merges) == 270 - 256 - 2
    with pytest.raises(SpecialTokenError, match="id 260"):
        BPETokenizer.train(TEXT, 270, special_tokens={"<s>": 260}, progress=lambda *_: pytest.fail("trained first"))
    assert BPETokenizer.train(TEXT, 270, special_tokens=iter(["<s>"])).special_tokens == {"<s>": 269}


def test_files_and_folders_are_texts(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_bytes(b"the cat sat\r\n")
    (tmp_path / "sub" / "a.txt").write_bytes(b"the caf\xc3\xa9 \xff\xff\xff")
    texts = [b"the cat sat\r\n", b"the caf\xc3\xa9 \xff\xff\xff"]
    merges = BPETokenizer.train(texts, 300).merges
    assert BPETokenizer.train(tmp_path, 300).merges == merges
    assert BPETokenizer.train([tmp_path / "b.txt", texts[1]], 300).merges == merges
    with pytest.raises(FileNotFoundError):
        BPETokenizer.train(tmp_path / "none", 300)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="got none"):
        BPETokenizer.train(tmp_path / "empty", 300)


@pytest.mark.parametrize(
    "specials",
    [
        "<s>",
        [""],
        ["a", "a"],
        [1],
        {"a": 255},
        {"a": 300, "b": 300},
        ["\ud800"],
        {"a": 1 << 40},
        {"a", "b"},
        {"a": "300"},
        {"a": True},
    ],
)
def test_badly_declared_special_tokens_are_refused(specials):
    with pytest.raises(SpecialTokenError):
        BPETokenizer([], special_tokens=specials)
