"""Corpora, batches and windows."""

import numpy as np
import pytest

from transformer.data import DataError, Loader, load_corpus, read_text


def test_the_standard_library_is_a_corpus_without_a_network():
    corpus = load_corpus()
    assert len(corpus.train) > 5e6 and 0.01 < len(corpus.val) / len(corpus.train) < 0.2


def test_a_single_file_holds_out_its_end(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 900 + "y" * 100)
    corpus = load_corpus([tmp_path / "a.txt"])
    assert corpus.train == "x" * 900 and corpus.val == "y" * 100


def test_a_directory_is_read_whole_and_in_a_fixed_order(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text(str(i) * 100)
    corpus = load_corpus([tmp_path])
    assert sorted(set(corpus.train + corpus.val) - {"\n"}) == list("01234")
    assert load_corpus([tmp_path]).train == corpus.train


def test_files_of_a_directory_that_are_no_text_are_left_out_and_listed(tmp_path):
    (tmp_path / "a.txt").write_text("text " * 100)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\xff")
    corpus = load_corpus([tmp_path])
    assert corpus.skipped == [tmp_path / "b.png"] and set(corpus.train + corpus.val) == set("text ")
    with pytest.raises(DataError, match="not UTF-8 at byte 0"):
        load_corpus([tmp_path / "a.txt", tmp_path / "b.png"])


def test_a_directory_without_text_says_so(tmp_path):
    with pytest.raises(DataError, match="no UTF-8 text"):
        load_corpus([tmp_path])


def test_the_same_files_are_held_out_wherever_the_directory_lies(tmp_path):
    for place in ("here", "there/deep"):
        (tmp_path / place).mkdir(parents=True)
        for i in range(100):
            (tmp_path / place / f"{i}.txt").write_text(f"{i} " * 300)
    assert load_corpus([tmp_path / "here"]).val == load_corpus([tmp_path / "there" / "deep"]).val


@pytest.mark.parametrize("make, match", [
    (lambda p: None, "no file or directory"),
    (lambda p: p.write_bytes(b"ab\xff"), "not UTF-8 at byte 2"),
    (lambda p: p.write_bytes(b""), "is empty"),
])  # fmt: skip
def test_unusable_text_is_named(tmp_path, make, match):
    path = tmp_path / "text.txt"
    make(path)
    with pytest.raises(DataError, match=match):
        load_corpus([path])


def test_line_ends_are_kept_so_that_bytes_count_as_in_the_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\r\nb\n")
    assert read_text(tmp_path / "a.txt") == "a\r\nb\n"


def test_a_byte_order_mark_is_no_text_and_taken_once_from_each_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfab")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf\xef\xbb\xbfcd\xef\xbb\xbf")
    assert read_text(tmp_path / "a.txt") == "ab" and read_text(tmp_path / "b.txt") == "\ufeffcd\ufeff"
    corpus = load_corpus([tmp_path])
    assert corpus.train + corpus.val == "ab\n\ufeffcd\ufeff"
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(DataError, match="is empty"):
        read_text(tmp_path / "mark.txt")


def test_a_stripped_python_is_told_to_give_a_text(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(DataError, match="--data FILE"):
        load_corpus()


def test_a_batch_is_a_function_of_seed_and_step_only():
    data = np.arange(1000, dtype=np.uint16)
    a, b = (Loader(data, 4, 16, seed=3) for _ in range(2))
    b.batch(0)
    for x, y in zip(a.batch(7), b.batch(7)):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(a.batch(7)[0], a.batch(8)[0])
    assert not np.array_equal(a.batch(7)[0], Loader(data, 4, 16, seed=4).batch(7)[0])


def test_targets_are_the_next_tokens():
    x, y = Loader(np.arange(1000), 8, 16, seed=0).batch(0)
    np.testing.assert_array_equal(y, x + 1)


def test_micro_batches_cut_one_large_batch():
    data = np.arange(1000)
    whole = Loader(data, 8, 16, seed=5).batch(3)[0]
    small = Loader(data, 4, 16, seed=5)
    np.testing.assert_array_equal(np.concatenate([small.batch(3, i, 2)[0] for i in range(2)]), whole)


def test_every_window_start_is_possible_and_none_runs_over():
    x, _ = Loader(np.arange(20), 4000, 16, seed=0).batch(0)
    assert sorted(set(x[:, 0].tolist())) == [0, 1, 2, 3]


def test_too_little_text_says_what_is_needed():
    with pytest.raises(DataError, match="10 tokens.*context of 16"):
        Loader(np.arange(10), 1, 16, seed=0)
