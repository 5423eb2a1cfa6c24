"""Byte-level byte-pair encoding: the tokenizer of the GPT-2 family.

Sennrich, Haddow and Birch 2016, arXiv:1508.07909; on bytes and with pre-tokenisation as in GPT-2 (Radford et al. 2019).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Self

import numpy as np

from .base import Tokenizer
from .bpe_train import Progress, count_words, train
from .bpe_vocabulary import BPEVocabulary, Pair
from .corpus import Corpus
from .errors import TrainingError
from .gather import RowTable
from .pretokenize import make_splitter, safe_cut_gpt2
from .special import MAX_IDS, Segment, as_integer, check_special_tokens

TIE_BREAKS = ("lowest-id", "greatest-bytes")
_CACHED_PIECES = 1 << 18  # at most this many pieces, none longer than the next: some 50 MB
_CACHED_PIECE_LENGTH = 64
_FEW_CHARACTERS = 4000  # segments shorter than this on average are encoded piece by piece


class BPETokenizer(Tokenizer):
    """Byte-pair encoding over bytes. From pairs, ids 0 to 255 are the bytes, in GPT-2's order; pair n makes id 256 + n.

    Every text and every byte string has a spelling, and decoding gives it back exactly (lone surrogates in a str, which
    are not text in UTF-8, become U+FFFD first).

    Args:
        merges: pairs of ids, in order of learning; each uses only ids made before it, and none occurs twice.
            The order is the rank: of the merges that can be applied to a piece of text, the first one is.
            Or a BPEVocabulary, whose ids may be in any order.
        pattern: the pre-tokenisation: "gpt2", None (merges may go anywhere), or a regular expression in the syntax of
            the ``regex`` package. Text that the expression does not match forms pieces of its own. A bare word is
            taken as a name, and only "gpt2" is known.
        special_tokens: names, which get the ids after the ordinary tokens; or a mapping of name to id.

    Raises:
        TokenizerError: the merges or the pattern are not valid.
        SpecialTokenError: the special tokens are not valid.
    """

    kind = "bpe"

    def __init__(
        self,
        merges: BPEVocabulary | Sequence[Pair],
        *,
        pattern: str | None = "gpt2",
        special_tokens: Iterable[str] | Mapping[str, int] = (),
    ) -> None:
        self._vocabulary = merges if isinstance(merges, BPEVocabulary) else BPEVocabulary.from_pairs(merges)
        self._pattern = pattern
        self._split = make_splitter(pattern)
        tokens = self._vocabulary.tokens
        free = {token_id for token_id, token in enumerate(tokens) if token is None}
        super().__init__(tokens, check_special_tokens(special_tokens, len(tokens), free))
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        texts: Corpus,
        vocab_size: int,
        *,
        pattern: str | None = "gpt2",
        special_tokens: Iterable[str] | Mapping[str, int] = (),
        tie_break: str = "lowest-id",
        progress: Progress | None = None,
    ) -> Self:
        """Learn the merges from text. The same texts and arguments give the same tokenizer, everywhere.

        Args:
            texts: one text, or an iterable of texts, read once; no merge goes across the border of two texts. A str
                or bytes is text itself; a pathlib.Path is a file, or a folder with all the files below it. Bytes are
                read as UTF-8, and bytes that are not valid UTF-8 are kept as they are.
            vocab_size: number of ids wanted: 256 bytes + merges + special tokens. A text too small to give that many
                merges gives a smaller vocabulary.
            pattern: as in the constructor.
            special_tokens: names for the ids after the merges, or a mapping of name to id. Where one of them stands in
                the training text, the text is cut, so no merge learns from it.
            tie_break: which of several most frequent pairs is merged: "lowest-id", the pair with the smaller left id,
                then the smaller right id, which learns the merges of Hugging Face's tokenizers; or "greatest-bytes",
                the pair of byte strings that sorts last.
            progress: called after each merge with the number of merges done and the number wanted.

        Raises:
            TrainingError: the texts are empty, vocab_size is below 256 + special tokens or absurd, or tie_break is unknown.
            SpecialTokenError: the special tokens are not valid.
            TypeError: a text is neither str nor bytes nor a path.
            OSError: a path cannot be read.
        """
        if tie_break not in TIE_BREAKS:
            raise TrainingError(f"expected tie_break as one of {TIE_BREAKS}, got {tie_break!r}")
        if isinstance(special_tokens, Iterator):
            special_tokens = list(special_tokens)  # read twice
        names = list(check_special_tokens(special_tokens, 256))
        smallest = 256 + len(names)
        wanted = as_integer(vocab_size)
        if wanted is None or not smallest <= wanted <= MAX_IDS:
            raise TrainingError(
                f"expected vocab_size of at least {smallest} (256 bytes + {len(names)} special tokens) and at most "
                f"{MAX_IDS}, got {vocab_size!r}"
            )
        check_special_tokens(special_tokens, wanted - len(names))  # before the work, not after it
        words = count_words(texts, make_splitter(pattern), names)
        if not words:
            raise TrainingError("expected some training text, got none; check that the corpus was read")
        merges = train(words, wanted - smallest, tie_break, progress)
        return cls(merges, pattern=pattern, special_tokens=special_tokens)

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

    def _encode_segments(self, segments: list[Segment]) -> np.ndarray:
        if sum(len(segment) for segment in segments if isinstance(segment, str)) < _FEW_CHARACTERS * len(segments):
            return np.array(self._encode_piecewise(segments), dtype=self._dtype)
        # Each distinct piece gets a number, and the text becomes the array of these numbers; the merges then run once
        # per distinct piece. A special token takes part as its own id: an int among the pieces, which are str.
        numbers: defaultdict[Segment, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        batches: list[np.ndarray] = []
        for segment in segments:
            for pieces in [[segment]] if isinstance(segment, int) else self._split(segment):
                batches.append(np.fromiter(map(numbers.__getitem__, pieces), dtype=np.int32, count=len(pieces)))

        numbers.default_factory = None  # it refers back to the dict, and would keep it alive until a collection
        rows = RowTable(self._rows(list(numbers)), self._dtype)
        return np.concatenate([rows.gather(batch) for batch in batches] or [np.empty(0, self._dtype)])

    def _encode_piecewise(self, segments: list[Segment]) -> list[int]:
        """For short segments, where setting up the arrays would take longer than the rest."""
        ids: list[int] = []
        for segment in segments:
            for pieces in [[segment]] if isinstance(segment, int) else self._split(segment):
                ids.extend(chain.from_iterable(self._rows(pieces)))
        return ids

    def _rows(self, pieces: list[Segment]) -> list[list[int]]:
        """The ids of each piece, from the cache where it has them."""
        cache = self._cache
        rows = [[piece] if isinstance(piece, int) else cache.get(piece) for piece in pieces]
        missing = [number for number, row in enumerate(rows) if row is None]
        if not missing:
            return rows
        merged = [self._spell(pieces[n].encode("utf-8", "surrogateescape")) for n in missing]
        if len(cache) + len(missing) > _CACHED_PIECES:
            cache.clear()
        room = _CACHED_PIECES - len(cache)
        for number, row in zip(missing, merged, strict=True):
            rows[number] = row
            if room > 0 and len(pieces[number]) <= _CACHED_PIECE_LENGTH:
                cache[pieces[number]] = row
                room -= 1
        return rows

    def _spell(self, word: bytes) -> list[int]:
        if self._vocabulary.take_whole and word in self._whole:
            return [self._whole[word]]
        ids = self._vocabulary.byte_ids[np.frombuffer(word, dtype=np.uint8)]
        return self._pair_table.merge(ids).tolist()

    @cached_property
    def _whole(self) -> dict[bytes, int]:
        return {token: token_id for token_id, token in enumerate(self._vocabulary.tokens) if token is not None}

    @cached_property
    def _pair_table(self):
        from .bpe_merge import PairTable  # here: it loads Numba

        return PairTable(self._vocabulary.merges, self._vocabulary.ranks)

    def _safe_cut(self, text: str) -> int:
        return safe_cut_gpt2(text) if self._pattern == "gpt2" else 0

    def _state(self) -> dict[str, Any]:
        return {
            "pattern": self._pattern,
            **self._vocabulary.state(),
            "special_tokens": dict(self._special_tokens),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        vocabulary = BPEVocabulary.from_state(state)
        return cls(vocabulary, pattern=state["pattern"], special_tokens=state["special_tokens"])
