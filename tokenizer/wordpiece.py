"""WordPiece: the tokenizer of BERT (Devlin et al. 2019, arXiv:1810.04805)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from .corpus import Corpus
from .errors import TokenizerError
from .normalizers import Bert, Normalizer
from .special import as_integer
from .wordpiece_readable import spell_readable
from .words import Spelling, WordTokenizer, encoded

PREFIX = "##"
BERT_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_UNMARKED = (".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re")  # decoded without the space before


class WordPieceTokenizer(WordTokenizer):
    """Words and punctuation marks, each spelt by the longest tokens that fit, from left to right.

    Not lossless: the normalisation forgets case and accents, as far as it is asked to, and how much white space there
    was; and a word without a spelling becomes the unknown token. Decoding puts a space before each token that does not
    continue a word.

    Args:
        tokens: the token of each id; those that continue a word begin with "##". None for an id that no token has.
        special_tokens: names in the vocabulary, or new ones, which get the ids after it; or a mapping of name to id.
        unknown_token: the token for a word that cannot be spelt. Though it may be listed among the special tokens, it
            comes out of any text that has such a word.
        normalizers: what is done to the text first; BERT's own by default (uncased; Bert(lowercase=False) for cased).
        longest_word: words of more characters become the unknown token.
        cleanup: decode "." and some other marks without the space before them.

    Raises:
        TokenizerError: the tokens or the normalisers are not valid.
        SpecialTokenError: the special tokens are not valid.
    """

    kind = "wordpiece"

    def __init__(
        self,
        tokens: Sequence[str | None],
        *,
        special_tokens: Iterable[str] | Mapping[str, int] | None = None,
        unknown_token: str = "[UNK]",
        normalizers: Sequence[Normalizer] = (Bert(),),
        split: str = "bert",
        longest_word: int = 100,
        cleanup: bool = True,
    ) -> None:
        if split != "bert":
            raise TokenizerError(f'WordPiece works on words as BERT cuts them: expected split "bert", got {split!r}')
        if not isinstance(cleanup, bool) or (as_integer(longest_word) or 0) < 1:
            raise TokenizerError(
                f"expected cleanup as true or false and longest_word above 0, got {cleanup!r} and {longest_word!r}"
            )
        if unknown_token is None:
            raise TokenizerError("WordPiece needs an unknown token for the words that it cannot spell")
        if special_tokens is None:
            present = set(tokens)
            special_tokens = [name for name in BERT_SPECIAL_TOKENS if name in present]
        self._longest_word = int(longest_word)
        self._cleanup = cleanup
        super().__init__(
            tokens,
            [None if token is None else self._shown(token) for token in tokens],
            special_tokens=special_tokens,
            unknown=unknown_token,
            normalizers=normalizers,
            split=split,
        )
        for name, token_id in self._special_tokens.items():
            self._token_table[token_id] = f" {name}".encode()

    def _shown(self, token: str) -> bytes:
        if not isinstance(token, str):
            raise TokenizerError(f"expected tokens as str or None, got {token!r}")
        if token.startswith(PREFIX):
            return token.removeprefix(PREFIX).encode("utf-8", "surrogatepass")
        spaced = not (self._cleanup and token.startswith(_UNMARKED))
        return (" " * spaced + token).encode("utf-8", "surrogatepass")

    @classmethod
    def train(
        cls,
        texts: Corpus,
        vocab_size: int,
        *,
        special_tokens: Iterable[str] = BERT_SPECIAL_TOKENS,
        normalizers: Sequence[Normalizer] = (Bert(),),
        longest_word: int = 100,
    ) -> Self:
        """Learn the vocabulary: special tokens, characters, then joined pairs, as Hugging Face's trainer does it.

        The pair that occurs most often is joined, as in byte-pair encoding, not the one that raises the likelihood
        most as in the paper. Of several the one of the lowest ids is; characters have ids in the order of code points.

        Args:
            texts: as for BPETokenizer.train.
            vocab_size: number of ids wanted; a small text may give fewer.
            special_tokens: names for the first ids, "[UNK]" among them. Where one stands in a text, the text is cut.
            normalizers, longest_word: as in the constructor.

        Raises:
            TrainingError: there is no text, or vocab_size has no room for the characters.
            SpecialTokenError, TypeError, OSError: as for BPETokenizer.train.
        """
        from .symbol_train import learn_tokens, names_and_size

        names, wanted = names_and_size(special_tokens, vocab_size, "[UNK]")
        words = cls._count_words(texts, normalizers, "bert", names)
        spelt = {
            (word[0], *(PREFIX + letter for letter in word[1:])): count
            for word, count in words.items()
            if len(word) <= longest_word
        }
        join = lambda left, right: left + right.removeprefix(PREFIX)
        tokens, _ = learn_tokens(spelt, wanted - len(names), join, reserved=names)
        return cls([*names, *tokens], special_tokens=names, normalizers=normalizers, longest_word=longest_word)

    @property
    def longest_word(self) -> int:
        """How many characters a word may have."""
        return self._longest_word

    @property
    def cleanup(self) -> bool:
        """Whether "." and some other marks are decoded without the space before them."""
        return self._cleanup

    @cached_property
    def _trie(self):
        from .trie import Trie

        return Trie(
            (int(token.startswith(PREFIX)), token.removeprefix(PREFIX).encode(), token_id)
            for token_id, token in self._ordinary()
            if token != PREFIX
        )

    @cached_property
    def _ordinary_ids(self) -> dict[str, int]:
        return {token: token_id for token_id, token in self._ordinary()}

    def _spell_plainly(self, word: str) -> list[int]:
        tokens = spell_readable(word, self._ordinary_ids, self._unknown_id, PREFIX, self._longest_word)
        return [token_id for token_id, _ in tokens]

    def _spell(self, words: Sequence[str]) -> Spelling:
        from .wordpiece_match import spell_words

        text, stops = encoded(words)
        ids, ends = np.empty(len(text), np.int32), np.empty(len(text), np.int32)
        counts = np.empty(len(words), np.int64)
        trie = self._trie
        size = spell_words(
            text, stops, trie.keys, trie.children, trie.values, self._unknown_id, self._longest_word, ids, ends, counts
        )
        return Spelling(ids[:size], ends[:size], counts)

    def _state(self) -> dict[str, Any]:
        return {
            "tokens": list(self._tokens),
            "longest_word": self._longest_word,
            "cleanup": self._cleanup,
            **self._common_state(),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        common = cls._common_arguments(state)
        return cls(state["tokens"], longest_word=state["longest_word"], cleanup=state["cleanup"], **common)
