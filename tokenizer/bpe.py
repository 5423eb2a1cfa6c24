"""Byte-level byte-pair encoding: the tokenizer of the GPT-2 family.

Sennrich, Haddow and Birch 2016, arXiv:1508.07909; on bytes and with pre-tokenisation as in GPT-2 (Radford et al. 2019).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Self

import numpy as np

from .added import AddedToken, check_added_tokens
from .base import Tokenizer
from .bpe_readable import ReadableEncoder
from .bpe_record import MergeRecord
from .bpe_train import COUNT_MEMORY, TIE_BREAKS, Progress, count_words, train
from .bpe_vocabulary import BPEVocabulary, Pair
from .corpus import Corpus
from .errors import TokenizerError, TrainingError
from .normalizers import Normalizer
from .offsets import aligned_offsets, joined_text
from .patterns import PATTERNS, split_readable
from .preparation import Preparation
from .pretokenize import as_array, make_pretokenizer
from .serialize import VERSION_OF_PREPARED
from .special import (
    MAX_IDS,
    ByteSegment,
    SpecialRules,
    TextOrSpans,
    as_integer,
    as_text,
    check_special_tokens,
    split_byte_segments,
)

_FEW_CHARACTERS = 2000  # or bytes, in all; plain Python takes less time for so many than Numba takes to load
_LONG_PIECE = 200  # bytes; the readable twin's time grows with the square: 2,000 emoji took it 6 s
_REMEMBERED = 1 << 18  # pieces that an encoder keeps the ids of: some 15 MB, for each thread that encodes
_REMEMBERED_IN_STREAM = 1 << 11  # encode_iterable promises to stay small: below 1 MB in all


class BPETokenizer(Tokenizer):
    """Byte-pair encoding over bytes. From pairs, ids 0 to 255 are the bytes, in GPT-2's order; pair n makes id 256 + n.

    Every text and every byte string has a spelling, and decoding gives it back exactly, but for normalisers (lone
    surrogates in a str, which are not text in UTF-8, become U+FFFD first).

    Args:
        merges: pairs of ids, in order of learning; each uses only ids made before it, and none occurs twice.
            The order is the rank: of the merges that can be applied to a piece of text, the first one is.
            Or a BPEVocabulary, whose ids may be in any order.
        pattern: the pre-tokenisation: "gpt2", "cl100k" or "o200k", None (merges may go anywhere), or a regular
            expression in the syntax of the ``regex`` package. Text that the expression does not match forms pieces of
            its own. A bare word is taken as a name.
        special_tokens: names, which get the ids after all others; or a mapping of name to id.
        added_tokens: texts that are one token wherever they stand (added.py). One may have the id of an ordinary token
            of the same bytes.
        normalizers: what is done to the text, in this order, before it is cut, but for special and added tokens
            (preparation.py); of tokenizer.normalizers, other than Metaspace and WhitespaceSplit. Decoding gives the
            normalised text. Bytes that are no UTF-8 stay as they are after normal forms and Lowercase; other
            normalisers get U+FFFD for each.

    Raises:
        TokenizerError: the merges, the pattern, the added tokens or the normalisers are not valid.
        SpecialTokenError: the special tokens are not valid.
    """

    kind = "bpe"

    def __init__(
        self,
        merges: BPEVocabulary | Sequence[Pair],
        *,
        pattern: str | None = "gpt2",
        special_tokens: Iterable[str] | Mapping[str, int] = (),
        added_tokens: Iterable[AddedToken] = (),
        normalizers: Iterable[Normalizer] = (),
    ) -> None:
        self._vocabulary = merges if isinstance(merges, BPEVocabulary) else BPEVocabulary.from_pairs(merges)
        self._pattern = pattern
        self._pretokenizer = make_pretokenizer(pattern)
        self._encoders: list = []  # one for each thread that has encoded at the same time as others
        self._spelt_plainly = 0  # characters or bytes
        tokens = list(self._vocabulary.tokens)  # with the added tokens from here on
        added = check_added_tokens(added_tokens)
        tokens += [None] * (max([len(tokens), *(token.token_id + 1 for token in added)]) - len(tokens))
        free = {token_id for token_id, token in enumerate(tokens) if token is None}
        specials = check_special_tokens(special_tokens, len(tokens), free)
        self._preparation = Preparation(normalizers, added, specials)
        for token in added:
            name = self._preparation.names[token.token_id].encode("utf-8")
            if tokens[token.token_id] not in (None, name):
                raise TokenizerError(
                    f"the added token {token.text!r} has id {token.token_id}, which belongs to the ordinary token "
                    f"{tokens[token.token_id]!r}; give it an id that is free"
                )
            tokens[token.token_id] = name
        super().__init__(tokens, specials)
        if not self._preparation.does_nothing:
            self._version = VERSION_OF_PREPARED

    @classmethod
    def train(
        cls,
        texts: Corpus,
        vocab_size: int,
        *,
        pattern: str | None = "gpt2",
        special_tokens: Iterable[str] | Mapping[str, int] = (),
        tie_break: str = "lowest-id",
        continue_from: BPETokenizer | None = None,
        invalid_utf8: str = "keep",
        threads: int | None = None,
        count_memory: int = COUNT_MEMORY,
        progress: Progress | None = None,
        count_progress: Callable[[int], None] | None = None,
        record: list[MergeRecord] | None = None,
    ) -> Self:
        """Learn the merges from text. The same texts and arguments give the same tokenizer, on any number of threads.

        Args:
            texts: one text, or an iterable of texts, read once; no merge goes across the border of two texts. A str
                or bytes is text itself; a pathlib.Path is a file, or a folder with all the files below it.
            vocab_size: number of ids wanted: 256 bytes + merges + special tokens. A text too small to give that many
                merges gives a smaller vocabulary.
            pattern: as in the constructor.
            special_tokens: names for the ids after the merges, or a mapping of name to id. Where one of them stands in
                the training text, the text is cut, so no merge learns from it.
            tie_break: which of several most frequent pairs is merged: "lowest-id", the pair with the smaller left id,
                then the smaller right id, which learns the merges of Hugging Face's tokenizers; or "greatest-bytes",
                the pair of byte strings that sorts last.
            continue_from: a tokenizer whose ids, merges, special tokens and pattern are kept as they are; what is
                learnt comes after. Its merges must be a list, not ranks (BPEVocabulary.from_ranks).
            invalid_utf8: bytes that are not UTF-8 are kept as bytes ("keep"), become U+FFFD ("replace"), are left out
                ("ignore"), or raise TrainingError ("strict").
            threads: how many count, by default as many as this process has cores.
            count_memory: bytes of counted pieces to hold before some go to temporary files.
            progress: called with the number of merges done and the number wanted, at most a thousand times.
            count_progress: called with the number of bytes counted so far, before that.
            record: gets a MergeRecord for each merge.

        Raises:
            TrainingError: the texts are empty, vocab_size is below 256 + special tokens or absurd, an argument is
                unknown, continue_from cannot be gone on from, or bytes are not UTF-8 and invalid_utf8 is "strict".
            SpecialTokenError: the special tokens are not valid.
            TypeError: a text is neither str nor bytes nor a path.
            OSError: a path cannot be read.
        """
        if tie_break not in TIE_BREAKS:
            raise TrainingError(f"expected tie_break as one of {TIE_BREAKS}, got {tie_break!r}")
        if threads is not None and (as_integer(threads) is None or threads < 1):
            raise TrainingError(f"expected threads as 1 or more, got {threads!r}")
        if isinstance(special_tokens, Iterator):
            special_tokens = list(special_tokens)  # read twice
        base, kept, first_id = BPEVocabulary.from_pairs([]), {}, 256
        if continue_from is not None:
            base, kept, first_id = continue_from._vocabulary, continue_from._special_tokens, continue_from.vocab_size
            if not continue_from._preparation.does_nothing:
                raise TrainingError("continue_from has added tokens or normalisers, and training knows neither")
            if base.take_whole or base.any_split:
                raise TrainingError("continue_from has ranks, not a list of merges, so none can be added to it")
            if pattern not in ("gpt2", continue_from._pattern):
                raise TrainingError(f"continue_from has the pattern {continue_from._pattern!r}; leave pattern out")
            pattern = continue_from._pattern
        names = list(check_special_tokens(special_tokens, first_id))
        if again := kept.keys() & set(names):
            raise TrainingError(f"continue_from has the special token {min(again)!r} already; name only new ones")
        smallest = first_id + len(names)
        wanted = as_integer(vocab_size)
        if wanted is None or not smallest <= wanted <= MAX_IDS:
            there = "256 bytes" if continue_from is None else f"the {first_id} ids of continue_from"
            raise TrainingError(
                f"expected vocab_size of at least {smallest} ({there} + {len(names)} special tokens) and at most "
                f"{MAX_IDS}, got {vocab_size!r}"
            )
        check_special_tokens(special_tokens, wanted - len(names))  # before the work, not after it
        count = partial(
            count_words,
            texts,
            make_pretokenizer(pattern),
            [*kept, *names],
            threads=threads,
            memory=count_memory,
            invalid_utf8=invalid_utf8,
            progress=count_progress,
        )
        pairs = train(_some(count()), wanted - smallest, tie_break, progress, record, base=base, first_id=first_id)
        if continue_from is None:
            return cls(pairs, pattern=pattern, special_tokens=special_tokens)
        vocabulary = base.extended(pairs, first_id)
        added = check_special_tokens(special_tokens, first_id + len(pairs))
        return cls(vocabulary, pattern=pattern, special_tokens={**kept, **added})

    @property
    def merges(self) -> list[Pair]:
        """The pairs of ids in order of learning (a copy)."""
        return self._vocabulary.pairs

    @property
    def vocabulary(self) -> BPEVocabulary:
        """The ordinary tokens and the merges."""
        return self._vocabulary

    @property
    def pattern(self) -> str | None:
        """The pre-tokenisation, as given to the constructor."""
        return self._pattern

    @property
    def added_tokens(self) -> tuple[AddedToken, ...]:
        """The texts that are one token wherever they stand, in the order of their ids."""
        return self._preparation.added_tokens

    @property
    def normalizers(self) -> tuple[Normalizer, ...]:
        """What is done to the text before it is cut."""
        return self._preparation.normalizers

    def _segments(self, text, allowed_special, disallowed_special) -> list[ByteSegment]:
        if not self._preparation.does_nothing:
            split = self._preparation.split(text, allowed_special, disallowed_special)
            return self._preparation.prepared(split)
        return split_byte_segments(text, self._special_tokens, allowed_special, disallowed_special)

    def _encode_segments(self, segments: list[ByteSegment]) -> np.ndarray:
        if not self._encoders and "numba" not in sys.modules and self._pattern in PATTERNS:
            self._spelt_plainly += sum(len(segment) for segment in segments if not isinstance(segment, int))
            if self._spelt_plainly <= _FEW_CHARACTERS and (ids := self._encode_plainly(segments)) is not None:
                return ids
        return self._encode_many([segments])[0]

    def _encode_plainly(self, segments: list[ByteSegment]) -> np.ndarray | None:
        """As the readable twins do it: sooner done with a short text than Numba is loaded. None if a piece is long."""
        ids: list[int] = []
        for segment in segments:
            if isinstance(segment, int):
                ids.append(segment)
                continue
            text = as_text(segment) if isinstance(segment, bytes) else segment
            for piece in split_readable(self._pattern, text):
                data = piece.encode("utf-8", "surrogateescape")
                if len(data) > _LONG_PIECE:
                    return None
                ids += self._readable.encode(data)
        return np.array(ids, dtype=np.int32)

    @cached_property
    def _readable(self) -> ReadableEncoder:
        return ReadableEncoder(self._vocabulary)

    def _encode_many(self, texts: list[list[ByteSegment]]) -> list[np.ndarray]:
        # Taken out while at work, so that no two threads fill one table; pop and append are atomic.
        try:  # and not a look first: without the interpreter's lock another thread may take the last one after it
            encoder = self._encoders.pop()
        except IndexError:
            encoder = self._new_encoder(_REMEMBERED)
        found = self._run(encoder, texts)
        self._encoders.append(encoder)  # not after an exception: Ctrl-C may have come between a piece and its count
        return found

    def _stream_encoder(self) -> Callable[[list[ByteSegment]], np.ndarray]:
        encoder = self._new_encoder(_REMEMBERED_IN_STREAM)
        return lambda segments: self._run(encoder, [segments])[0]

    def _new_encoder(self, most_words: int):
        from .bpe_encode import Encoder  # here: it loads Numba

        return Encoder(self._tables, most_words)

    def _run(self, encoder, texts: list[list[ByteSegment]]) -> list[np.ndarray]:
        """The ids of each text, all encoded in one go. A special token is an id that follows an empty segment."""
        parts: list[bytes] = []
        limits: list[int] = []
        specials: list[int] = []
        counts: list[int] = []
        place = 0
        for segments in texts:
            counts.append(len(segments))
            for segment in segments:
                if isinstance(segment, int):
                    specials.append(segment)
                else:
                    part = segment if isinstance(segment, bytes) else segment.encode("utf-8", "surrogateescape")
                    parts.append(part)
                    place += len(part)
                    specials.append(-1)
                limits.append(place)
        if not limits:
            return [np.empty(0, dtype=np.int32) for _ in texts]
        data = as_array(parts[0] if len(parts) == 1 else b"".join(parts))
        limits_array = np.array(limits, dtype=np.int64)
        pieces = self._pretokenizer.ends(data, limits_array)
        ids, id_limits = encoder.encode(data, limits_array, np.array(specials, dtype=np.int64), pieces)
        if len(texts) == 1:
            return [ids]
        stops = np.concatenate(([0], id_limits))[np.cumsum(counts)].tolist()
        return [ids[start:stop] for start, stop in zip([0, *stops], stops)]

    @cached_property
    def _tables(self):
        from .bpe_encode import EncodingTables

        return EncodingTables(self._vocabulary)

    def _safe_cut(self, text: str) -> int:
        return self._pretokenizer.safe_cut(text)

    def _rules(self, allowed_special, disallowed_special) -> SpecialRules:
        return self._preparation.rules(allowed_special, disallowed_special)

    def _stream_segments(self, chunks, rules):
        if self._preparation.does_nothing:
            return super()._stream_segments(chunks, rules)
        return self._preparation.stream(chunks, rules, self._safe_cut)

    def encode_with_offsets(
        self, text: TextOrSpans, *, allowed_special=frozenset(), disallowed_special=()
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """As Tokenizer.encode_with_offsets. Through normalisers, a token gets the whole characters of the original that
        its own come from; one that a normaliser put in has an empty range."""
        if not self.normalizers:
            return super().encode_with_offsets(
                text, allowed_special=allowed_special, disallowed_special=disallowed_special
            )
        if not isinstance(text, str | bytes) and isinstance(text, Iterable):
            text = list(text)  # read twice
        parts = list(self._preparation.parts(self._preparation.split(text, allowed_special, disallowed_special)))
        ids = self._encode_segments([part.text if part.token_id is None else part.token_id for part in parts])
        return ids.tolist(), aligned_offsets(joined_text(text), parts, self._byte_lengths[ids])

    def _state(self) -> dict[str, Any]:
        return {
            "pattern": self._pattern,
            **self._vocabulary.state(),
            "special_tokens": dict(self._special_tokens),
            **({} if self._preparation.does_nothing else self._preparation.state()),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        vocabulary = BPEVocabulary.from_state(state)
        return cls(
            vocabulary,
            pattern=state["pattern"],
            special_tokens=state["special_tokens"],
            **Preparation.arguments(state),
        )


def _some(words):
    """The words counted; held by nobody else, so that training can give up their memory."""
    if not len(words.ends):
        raise TrainingError("expected some training text, got none; check that the corpus was read")
    return words
