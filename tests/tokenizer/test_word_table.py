"""Words are written by eights, so these tests look at the bytes behind the room that a table has."""

import numpy as np
import pytest

from tokenizer import BPETokenizer, BPEVocabulary
from tokenizer.bpe_encode import _add_all
from tokenizer.pretokenize import as_array
from tokenizer.word_table import WordTable

BEHIND = 0xA5


def guarded(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Room for so many bytes, and 16 bytes that follow it."""
    memory = np.full(size + 16, BEHIND, dtype=np.uint8)
    return memory[:size], memory[size:]


@pytest.mark.parametrize("lengths", [[1], [7], [8], [9], [63, 1], [64], [1, 2, 3], [9, 8, 7]])
def test_words_that_fill_a_table_leave_what_lies_behind_it(lengths):
    words = [bytes([65 + n]) * length for n, length in enumerate(lengths)]
    table = WordTable(len(words), sum(lengths))
    table.data, behind = guarded(len(table.data))
    _add_all(as_array(b"".join(words)), np.cumsum(lengths, dtype=np.int64), table.slots, table.ends, table.data)
    table.count = len(words)
    assert table.words() == words
    assert np.all(behind == BEHIND)


@pytest.mark.parametrize("size", range(72, 81))
def test_an_encoder_makes_room_before_a_word_would_reach_beyond_it(size):
    tokenizer = BPETokenizer(BPEVocabulary.from_pairs([]), pattern="gpt2")
    encoder = tokenizer._new_encoder(1 << 12)
    encoder._words.data, behind = guarded(size)
    encoder._ids = encoder._ids[:size]
    text = "".join(chr(65 + n % 26) + " " + chr(97 + n // 26) * (n % 12) + "." for n in range(200)).encode()
    (ids,) = tokenizer._run(encoder, [[text]])
    assert tokenizer.decode_bytes(ids.tolist()) == text
    assert len(encoder._words.data) > size  # it has grown
    assert np.all(behind == BEHIND)
