"""Byte-pair encoding over characters with byte fallback, as SentencePiece has it: the tokenizer of Llama 2.

Kudo & Richardson 2018, arXiv:1808.06226. A space is written "\u2581" and belongs to the word after it; a character
without a token is spelt by the tokens of its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .byte_tokens import BYTE_TOKENS, byte_token_ids, decoded_piece, refuse_special_bytes
from .corpus import Corpus
from .errors import TokenizerError
from .normalizers import METASPACE, Normalizer, Prepend, Replace
from .sentencepiece_readable import spell_readable
from .symbol_train import Progress, frequent_characters, known_runs, learn_tokens, names_and_size
from .words import Spelling, WordTokenizer, encoded

if TYPE_CHECKING:
    from .bpe_merge import PairTable
    from .trie import Trie

LLAMA_NORMALIZERS = (Prepend(METASPACE), Replace(" ", METASPACE))


class SentencePieceTokenizer(WordTokenizer):
    """Merges over characters.

    Lossless with byte_fallback and the default normalisers, but that "\u2581" in a text comes back as a space.

    Args:
        tokens: the token of each id; None for an id that no token has.
        merges: pairs of tokens in the order of rank; each pair joined is a token.
        special_tokens: names in the vocabulary, or new ones, which get the ids after it; or a mapping of name to id.
        unknown_token: the token for a character that has none, where byte_fallback is off; else None is fine.
        byte_fallback: spell such characters by the tokens "<0x00>" to "<0xFF>", which the vocabulary must have.
        fuse_unknown: neighbouring unknown characters share one unknown token.
        normalizers: what is done to the text first; by default Llama 2's.
        split: "none": merges go anywhere; "metaspace": words begin at each "\u2581".

    Raises:
        TokenizerError: the tokens, the merges or the normalisers are not valid.
        SpecialTokenError: the special tokens are not valid.
    """

    kind = "sentencepiece-bpe"

    def __init__(
        self,
        tokens: Sequence[str | None],
        merges: Sequence[Sequence[str]],
        *,
        special_tokens: Iterable[str] | Mapping[str, int] = (),
        unknown_token: str | None = "<unk>",
        byte_fallback: bool = True,
        fuse_unknown: bool = True,
        normalizers: Sequence[Normalizer] = LLAMA_NORMALIZERS,
        split: str = "none",
    ) -> None:
        if not isinstance(fuse_unknown, bool):
            raise TokenizerError(f"expected fuse_unknown as true or false, got {fuse_unknown!r}")
        if split == "bert":
            raise TokenizerError('expected split as "none" or "metaspace", got "bert"')
        self._byte_ids = byte_token_ids(tokens, byte_fallback)
        if unknown_token is None and not byte_fallback:
            raise TokenizerError("some characters may have no token: name an unknown token, or use byte_fallback=True")
        self._fuse_unknown = fuse_unknown
        super().__init__(
            tokens,
            [decoded_piece(token, byte_fallback) for token in tokens],
            special_tokens=special_tokens,
            unknown=unknown_token,
            normalizers=normalizers,
            split=split,
        )
        refuse_special_bytes(self._special_tokens, self._byte_ids)
        self._merges = _checked_merges(merges, self._id_of, dict(self._ordinary()), set(self._byte_ids.tolist()))

    @classmethod
    def train(
        cls,
        texts: Corpus,
        vocab_size: int,
        *,
        special_tokens: Iterable[str] = ("<unk>", "<s>", "</s>"),
        byte_fallback: bool = True,
        character_coverage: float = 0.9995,
        normalizers: Sequence[Normalizer] = LLAMA_NORMALIZERS,
        progress: Progress | None = None,
    ) -> Self:
        """Learn merges within words, each with the spaces before it. The same texts give the same tokenizer.

        Ids: the special tokens, the bytes, the characters in the order of code points, then what the merges make.

        Args:
            texts: as for BPETokenizer.train.
            vocab_size: number of ids wanted; a small text may give fewer.
            special_tokens: names for the first ids, "<unk>" among them. Where one stands in a text, the text is cut.
            byte_fallback: have tokens for the bytes; without, a rare character becomes "<unk>".
            character_coverage: the most frequent characters get tokens until they make up this part of the text.
            normalizers: as in the constructor.
            progress: called after each merge with the number of tokens and the number wanted.

        Raises:
            TrainingError: there is no text, or vocab_size has no room for the characters.
            SpecialTokenError, TypeError, OSError: as for BPETokenizer.train.
        """
        names, wanted = names_and_size(special_tokens, vocab_size, "<unk>")
        first = [*names, *(BYTE_TOKENS if byte_fallback else ())]
        words = cls._count_words(texts, normalizers, "none", names)
        kept = frequent_characters(words, character_coverage)
        runs = {tuple(run): count for run, count in known_runs(words, kept).items()}
        join = lambda left, right: left + right
        tokens, merges = learn_tokens(
            runs, wanted - len(first), join, alphabet=[METASPACE], reserved=first, progress=progress
        )
        return cls(
            [*first, *tokens],
            merges,
            special_tokens=names,
            byte_fallback=byte_fallback,
            normalizers=normalizers,
        )

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs of tokens in the order of rank (a copy)."""
        return list(self._merges)

    @property
    def byte_fallback(self) -> bool:
        """Whether characters without a token are spelt by their bytes."""
        return bool(len(self._byte_ids))

    @property
    def fuse_unknown(self) -> bool:
        """Whether neighbouring unknown characters share one token."""
        return self._fuse_unknown

    @cached_property
    def _tables(self) -> tuple[Trie, PairTable, np.ndarray]:
        """The tokens of one character, the merges, and the length in bytes of each token that is text, 0 of others."""
        from .bpe_merge import PairTable
        from .trie import Trie

        byte_ids = set(self._byte_ids.tolist())
        ordinary = {n: token for n, token in self._ordinary() if n not in byte_ids}
        characters = Trie((0, token.encode(), n) for n, token in ordinary.items() if len(token) == 1)
        rows = [(self._id_of[left], self._id_of[right], self._id_of[left + right]) for left, right in self._merges]
        pairs = PairTable(np.array(rows, np.int32).reshape(-1, 3), np.arange(len(rows), dtype=np.int32))
        lengths = np.zeros(len(self._tokens), dtype=np.int32)
        for token_id, token in ordinary.items():
            lengths[token_id] = len(token.encode())
        return characters, pairs, lengths

    @cached_property
    def _plain(self) -> tuple[dict[str, int], dict[tuple[int, int], tuple[int, int]], set[str]]:
        """The id of each token, (rank, id made) by pair of ids, and the tokens that no text is spelt with."""
        ranks = {
            (self._id_of[left], self._id_of[right]): (rank, self._id_of[left + right])
            for rank, (left, right) in enumerate(self._merges)
        }
        return self._id_of, ranks, set(self._id_of) - {token for _, token in self._ordinary()}

    def _spell_plainly(self, word: str) -> list[int]:
        ids, ranks, barred = self._plain
        return spell_readable(word, ids, ranks, self.byte_fallback, self._unknown_id, self._fuse_unknown, barred)

    def _spell(self, words: Sequence[str]) -> Spelling:
        from .sentencepiece_merge import first_tokens

        characters, pairs, lengths = self._tables
        text, stops = encoded(words)
        ids, ends = np.empty(len(text), np.int32), np.empty(len(text), np.int32)
        counts = np.empty(len(words), np.int64)
        trie = (characters.keys, characters.children, characters.values)
        unknown = (self._unknown_id, int(self._fuse_unknown), self._byte_ids)
        first_tokens(text, stops, *trie, *unknown, ids, ends, counts)
        rows, row_ends = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
        start = 0
        for number, count in enumerate(counts.tolist()):
            row = slice(start, start + count)
            merged = pairs.merge(ids[row])
            # Bytes and unknown characters take part in no merge, so they are still there, in their order.
            length = lengths[merged]
            length[length == 0] = np.diff(ends[row], prepend=0)[lengths[ids[row]] == 0]
            rows.append(merged)
            row_ends.append(np.cumsum(length, dtype=np.int32))
            counts[number] = len(merged)
            start += count
        return Spelling(np.concatenate(rows), np.concatenate(row_ends), counts)

    def _words_part_at_spaces(self) -> bool:
        return super()._words_part_at_spaces() and METASPACE not in self._special_tokens

    def _state(self) -> dict[str, Any]:
        return {
            "tokens": list(self._tokens),
            "merges": [list(merge) for merge in self._merges],
            "byte_fallback": self.byte_fallback,
            "fuse_unknown": self._fuse_unknown,
            **self._common_state(),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        common = cls._common_arguments(state)
        own = {name: state[name] for name in ("byte_fallback", "fuse_unknown")}
        return cls(state["tokens"], state["merges"], **own, **common)


def _checked_merges(
    merges: Iterable[Sequence[str]], id_of: Mapping[str, int], ordinary: Mapping[int, str], byte_ids: set[int]
) -> list[tuple[str, str]]:
    result: dict[tuple[str, str], None] = {}
    for number, merge in enumerate(merges):
        if not isinstance(merge, Sequence) or isinstance(merge, str) or len(merge) != 2:
            raise TokenizerError(f"merge {number} is {merge!r}; expected a pair of tokens")
        left, right = merge
        for token in (left, right, left + right):
            token_id = id_of.get(token)
            if token_id is None:
                raise TokenizerError(f"merge {number}, {left!r} with {right!r}: {token!r} is not in the vocabulary")
            if token_id not in ordinary or token_id in byte_ids:
                raise TokenizerError(
                    f"merge {number}, {left!r} with {right!r}: {token!r} is no ordinary token, so text must not make it"
                )
        if (left, right) in result:
            raise TokenizerError(f"merge {number}: the pair {merge!r} occurs twice; expected each pair once")
        result[left, right] = None
    return list(result)
