"""Training of byte-pair encoding: texts are counted by pieces (word_counts.py), then merges are learnt (bpe_learn.py).

bpe_readable.train_readable is the same in its plainest form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from .bpe_record import MergeRecord
from .bpe_vocabulary import BPEVocabulary, Pair
from .corpus import Corpus, read_blocks
from .pretokenize import Pretokenizer
from .shares import available_threads
from .special import SpecialRules
from .streaming import stream_segments

Progress = Callable[[int, int], None]

TIE_BREAKS = ("lowest-id", "greatest-bytes")
COUNT_MEMORY = 1 << 28  # bytes of counted pieces before some go to the disk
_REPORTS = 1000  # so many calls of progress at most


def count_words(
    texts: Corpus,
    pretokenizer: Pretokenizer,
    cut_out: Iterable[str] = (),
    *,
    threads: int | None = None,
    memory: int = COUNT_MEMORY,
    invalid_utf8: str = "keep",
    progress: Callable[[int], None] | None = None,
):
    """How often each distinct piece occurs, as WordCounts; the strings in cut_out part the texts.

    The other arguments are those of word_counts.count_pieces and corpus.read_blocks.
    """
    from .word_counts import count_pieces  # here: it loads Numba

    rules = SpecialRules(dict.fromkeys(cut_out, 0), "all", ())

    def plain() -> Iterator[list[str]]:
        for blocks in read_blocks(texts, invalid_utf8):
            for _, segments in stream_segments(blocks, rules, pretokenizer.safe_cut):
                yield [segment for segment in segments if isinstance(segment, str)]

    return count_pieces(plain(), pretokenizer, threads or available_threads(), memory, progress)


def train(
    words,
    merge_count: int,
    tie_break: str = "lowest-id",
    progress: Progress | None = None,
    record: list[MergeRecord] | None = None,
    *,
    base: BPEVocabulary | None = None,
    first_id: int = 256,
) -> list[Pair]:
    """Learn merges; the same result as bpe_readable.train_readable, by visiting the words that hold the pair.

    Such a word is gone through as a whole, which is fastest for those that a pattern cuts. One long word, as a text
    without a pattern is, takes time that grows with its length times merge_count: a megabyte of it took 20 s for 1,744
    merges on a busy machine.

    Args:
        words: WordCounts, or distinct words and their counts.
        merge_count: how many merges to learn; fewer come back if every word has become one token.
        tie_break: "lowest-id" or "greatest-bytes".
        progress: called with the number of merges done and merge_count, at most a thousand times.
        record: gets what each choice was made from.
        base: the merges to go on from; by default none.
        first_id: the id that the first new merge makes.
    """
    from .bpe_learn import Learner  # here: they load Numba
    from .word_counts import WordCounts

    if isinstance(words, Mapping):
        words = WordCounts.of(words)
    base = BPEVocabulary.from_pairs([]) if base is None else base
    symbols, ends = _spelled(words.data, words.ends, base)
    tokens = [token or b"" for token in base.tokens]
    tokens += [b""] * (first_id - len(tokens))
    counts = words.counts
    del words  # the bytes are not needed any more: with millions of words they are much
    learner = Learner(symbols, ends, counts, tokens, tie_break == "greatest-bytes")
    del symbols, ends, counts
    merges: list[Pair] = []
    at_once = max(1, merge_count // _REPORTS) if progress is not None else merge_count
    while len(merges) < merge_count:
        wanted = min(at_once, merge_count - len(merges))
        rows = learner.learn(wanted).tolist()
        merges += [(left, right) for left, right, *_ in rows]
        if record is not None:
            for left, right, count, *runner_up, other in rows:
                record.append(MergeRecord((left, right), count, tuple(runner_up) if other else None, other))
        if progress is not None and rows:
            progress(len(merges), merge_count)
        if len(rows) < wanted:
            break
    return merges


def _spelled(data: np.ndarray, ends: np.ndarray, base: BPEVocabulary) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the words, end to end, and where each word ends among them."""
    if not len(base.merges) or not len(ends):
        return base.byte_ids[data], ends
    from .bpe_encode import Encoder, EncodingTables

    encoder = Encoder(EncodingTables(base), 1)  # each word comes once, so there is nothing to remember
    return encoder.encode(data, ends, np.full(len(ends), -1, dtype=np.int64), [ends])
