"""The Unigram language model: the tokenizer of T5, ALBERT and XLM-R (Kudo 2018, arXiv:1804.10959)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from .byte_tokens import byte_token_ids, decoded_piece
from .errors import TokenizerError
from .normalizers import Metaspace, Normalizer
from .unigram_readable import UNKNOWN_PENALTY
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

    @property
    def pieces(self) -> list[tuple[str, float]]:
        """(token, log-probability) by id (a copy)."""
        return list(zip(self._tokens, self._scores.tolist(), strict=True))

    @property
    def byte_fallback(self) -> bool:
        """Whether characters without a token are spelt by their bytes."""
        return bool(len(self._byte_ids))

    @cached_property
    def _trie(self):
        from .trie import Trie

        bytes_apart = set(self._byte_ids.tolist())
        return Trie((0, token.encode(), n) for n, token in self._ordinary() if n not in bytes_apart)

    @property
    def _unknown_score(self) -> float:
        return float(self._scores.min()) - UNKNOWN_PENALTY

    def _spell(self, words: Sequence[str]) -> Spelling:
        from .unigram_lattice import spell_words, work_arrays

        text, stops = encoded(words)
        ids, ends = np.empty(len(text), np.int32), np.empty(len(text), np.int32)
        counts = np.empty(len(words), np.int64)
        trie = (self._trie.keys, self._trie.children, self._trie.values, self._scores)
        unknown = (self._unknown_score, self._unknown_id, self._byte_ids)
        size = spell_words(text, stops, *trie, *unknown, *work_arrays(stops), ids, ends, counts)
        return Spelling(ids[:size], ends[:size], counts)

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
        if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
            raise TokenizerError(f"piece {number}, {token!r}, has the score {score!r}; expected a finite number")
        tokens.append(token)
        scores.append(float(score))
    return tokens, scores
