"""The Unigram language model: the tokenizer of T5, ALBERT and XLM-R (Kudo 2018, arXiv:1804.10959)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from .byte_tokens import BYTE_TOKENS, byte_token_ids, decoded_piece, refuse_special_bytes
from .corpus import Corpus
from .errors import TokenizerError, TrainingError
from .normalizers import Metaspace, Normalizer, Unicode
from .special import TextOrSpans, split_segments
from .symbol_train import Progress, frequent_characters, known_runs, names_and_size
from .unigram_readable import UNKNOWN_PENALTY, spell_readable
from .words import Spelling, WordTokenizer, encoded


class UnigramTokenizer(WordTokenizer):
    """Each word is spelt by the tokens whose probabilities have the greatest product.

    Lossless with byte_fallback, but for what the normalisers change: with Metaspace a "\u2581" comes back as a space,
    and so does one space at the beginning of a text not.

    Args:
        pieces: (token, log-probability) by id.
        special_tokens: names in the vocabulary, or new ones, which get the ids after it; or a mapping of name to id.
            No text is spelt with them.
        unknown_token: the token for characters that no token holds; neighbours share one. None with byte_fallback.
        byte_fallback: spell such characters by the tokens "<0x00>" to "<0xFF>", which the vocabulary must have.
        normalizers: what is done to the text first.
        split: "metaspace": words begin at each "\u2581", or "none".

    Raises:
        TokenizerError: the pieces or the normalisers are not valid.
        SpecialTokenError: the special tokens are not valid.
    """

    kind = "unigram"

    def __init__(
        self,
        pieces: Sequence[tuple[str, float]],
        *,
        special_tokens: Iterable[str] | Mapping[str, int] = (),
        unknown_token: str | None = "<unk>",
        byte_fallback: bool = False,
        normalizers: Sequence[Normalizer] = (Metaspace(),),
        split: str = "metaspace",
    ) -> None:
        if split == "bert":
            raise TokenizerError('expected split as "metaspace" or "none", got "bert"')
        tokens, scores = _checked_pieces(pieces)
        self._scores = np.array(scores, dtype=np.float64)
        self._byte_ids = byte_token_ids(tokens, byte_fallback)
        if unknown_token is None and not byte_fallback:
            raise TokenizerError("some characters may have no token: name an unknown token, or use byte_fallback=True")
        super().__init__(
            tokens,
            [decoded_piece(token, byte_fallback) for token in tokens],
            special_tokens=special_tokens,
            unknown=unknown_token,
            normalizers=normalizers,
            split=split,
        )
        refuse_special_bytes(self._special_tokens, self._byte_ids)

    @classmethod
    def train(
        cls,
        texts: Corpus,
        vocab_size: int,
        *,
        special_tokens: Iterable[str] = ("<unk>", "<s>", "</s>"),
        byte_fallback: bool = False,
        character_coverage: float = 0.9995,
        normalizers: Sequence[Normalizer] = (Unicode("NFKC"), Metaspace()),
        progress: Progress | None = None,
    ) -> Self:
        """Learn tokens and their probabilities. The same texts give the same tokenizer.

        Ids: the special tokens, the bytes, then the tokens, the most probable first.

        Args:
            texts: as for BPETokenizer.train.
            vocab_size: number of ids wanted; a small text may give fewer.
            special_tokens: names for the first ids, "<unk>" among them. Where one stands in a text, the text is cut.
            byte_fallback: have tokens for the bytes; without, a rare character becomes "<unk>".
            character_coverage: the most frequent characters get tokens until they make up this part of the text.
            normalizers: as in the constructor.
            progress: called after each round with the number of tokens left and the number wanted.

        Raises:
            TrainingError: there is no text, or vocab_size has no room for the characters.
            SpecialTokenError, TypeError, OSError: as for BPETokenizer.train.
        """
        from .unigram_train import train

        names, wanted = names_and_size(special_tokens, vocab_size, "<unk>")
        first = [*names, *(BYTE_TOKENS if byte_fallback else ())]
        words = cls._count_words(texts, normalizers, "metaspace", names)
        alphabet = frequent_characters(words, character_coverage) - set(first)
        runs = known_runs(words, alphabet)
        if not runs:
            raise TrainingError("expected some training text, got none; check that the corpus was read")
        barred = set(first)
        tokens = [piece for piece in train(runs, wanted - len(first), alphabet, progress) if piece[0] not in barred]
        return cls(
            [*((name, 0.0) for name in first), *tokens],
            special_tokens=names,
            byte_fallback=byte_fallback,
            normalizers=normalizers,
        )

    def sample(
        self,
        text: TextOrSpans,
        *,
        seed: int,
        alpha: float = 0.1,
        allowed_special: str | Collection[str] = frozenset(),
        disallowed_special: str | Collection[str] = (),
    ) -> list[int]:
        """Like encode, but each word gets a spelling drawn at random: subword regularisation (Kudo 2018, section 3.3).

        Args:
            seed: the same seed gives the same ids.
            alpha: a spelling's probability to this power is its weight: 0 makes all alike, 1 leaves them as learnt, and
                a large one gives the ids of encode.

        Raises:
            ValueError: alpha is negative or not finite. Otherwise as encode.
        """
        from .unigram_lattice import work_arrays
        from .unigram_weigh import sample_words

        if not 0 <= alpha < math.inf:
            raise ValueError(f"expected alpha as a finite number of at least 0, got {alpha!r}")
        random = np.random.default_rng(seed)
        ids: list[int] = []
        segments = split_segments(text, self._special_tokens, allowed_special, disallowed_special)
        for place, segment in enumerate(segments):
            if isinstance(segment, int):
                ids.append(segment)
                continue
            for normalizer in self._chain(segment, place, False, True):
                segment = normalizer.apply(segment)
            words = self._cut(segment)
            data, stops = encoded(words)
            found, ends, counts = self._empty_spelling(len(data), len(words))
            unknown = (self._unknown_score, float(alpha), self._unknown_id, self._byte_ids)
            work = work_arrays(stops)
            size = sample_words(
                data, stops, *self._tables, *unknown, random.random(len(data)), *work, found, ends, counts
            )
            ids += found[:size].tolist()
        return ids

    @property
    def pieces(self) -> list[tuple[str, float]]:
        """(token, log-probability) by id (a copy)."""
        return list(zip(self._tokens, self._scores.tolist(), strict=True))

    @property
    def byte_fallback(self) -> bool:
        """Whether characters without a token are spelt by their bytes."""
        return bool(len(self._byte_ids))

    def _words_part_at_spaces(self) -> bool:
        return False  # sums over a part round otherwise, and rounding decides between equally good spellings

    @cached_property
    def _trie(self):
        from .trie import Trie

        bytes_apart = set(self._byte_ids.tolist())
        return Trie((0, token.encode(), n) for n, token in self._ordinary() if n not in bytes_apart)

    @property
    def _unknown_score(self) -> float:
        return float(self._scores.min()) - UNKNOWN_PENALTY

    @property
    def _tables(self) -> tuple[np.ndarray, ...]:
        return self._trie.keys, self._trie.children, self._trie.values, self._scores

    @cached_property
    def _scores_of_text(self) -> tuple[dict[str, float], int]:
        """The scores of the tokens that text is spelt with, and the characters of the longest one."""
        bytes_apart = set(self._byte_ids.tolist())
        scores = {token: float(self._scores[n]) for n, token in self._ordinary() if n not in bytes_apart}
        return scores, max(map(len, scores), default=0)

    def _spell_plainly(self, word: str) -> list[int]:
        scores, longest = self._scores_of_text
        ids: list[int] = []
        for piece, known in spell_readable(word, scores, self._unknown_score, longest):
            if known:
                ids.append(self._id_of[piece])
            elif self.byte_fallback:
                ids += self._byte_ids[list(piece.encode("utf-8", "surrogateescape"))].tolist()
            else:
                ids.append(self._unknown_id)
        return ids

    def _spell(self, words: Sequence[str]) -> Spelling:
        from .unigram_lattice import spell_words, work_arrays

        text, stops = encoded(words)
        spelling = self._empty_spelling(len(text), len(words))
        unknown = (self._unknown_score, self._unknown_id, self._byte_ids, 0)
        size = spell_words(text, stops, *self._tables, *unknown, *work_arrays(stops), *spelling)
        return Spelling(spelling.ids[:size], spelling.ends[:size], spelling.counts)

    @staticmethod
    def _empty_spelling(length: int, words: int) -> Spelling:
        return Spelling(np.empty(length, np.int32), np.empty(length, np.int32), np.empty(words, np.int64))

    def _state(self) -> dict[str, Any]:
        return {
            "pieces": [list(piece) for piece in self.pieces],
            "byte_fallback": self.byte_fallback,
            **self._common_state(),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        common = cls._common_arguments(state)
        return cls(state["pieces"], byte_fallback=state["byte_fallback"], **common)


def _checked_pieces(pieces: Sequence[tuple[str, float]]) -> tuple[list[str], list[float]]:
    tokens, scores = [], []
    for number, piece in enumerate(pieces):
        if not isinstance(piece, Sequence) or isinstance(piece, str) or len(piece) != 2:
            raise TokenizerError(f"piece {number} is {piece!r}; expected a token and its log-probability")
        token, score = piece
        if not isinstance(token, str):
            raise TokenizerError(f"piece {number} is {piece!r}; expected a token and its log-probability")
        if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
            raise TokenizerError(f"piece {number}, {token!r}, has the score {score!r}; expected a finite number")
        tokens.append(token)
        scores.append(float(score))
    return tokens, scores
