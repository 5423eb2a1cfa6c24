"""One token per character: the smallest tokenizer, as in nanoGPT's shakespeare_char data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from .base import Tokenizer
from .corpus import Corpus, read_texts
from .errors import TokenizerError, TrainingError, UnknownCharacterError
from .gather import RowTable
from .special import Segment, check_special_tokens


class CharTokenizer(Tokenizer):
    """Character number n of the vocabulary has id n.

    Args:
        characters: the vocabulary, each character once, in the order of the ids.
        byte_fallback: append 256 tokens for the single bytes, and spell a character outside the vocabulary by its
            UTF-8 bytes. Without it, such a character raises UnknownCharacterError.
        special_tokens: names, which get the ids after those; or a mapping of name to id.

    Raises:
        TokenizerError: the characters are not valid.
        SpecialTokenError: the special tokens are not valid.
    """

    kind = "char"

    def __init__(
        self,
        characters: str | Sequence[str],
        *,
        byte_fallback: bool = False,
        special_tokens: Iterable[str] | Mapping[str, int] = (),
    ) -> None:
        if not isinstance(byte_fallback, bool):
            raise TypeError(f"expected byte_fallback as true or false, got {byte_fallback!r}")
        self._characters = _check_characters(characters)
        self._byte_fallback = byte_fallback
        if not self._characters and not byte_fallback:
            raise TokenizerError("expected at least one character in the vocabulary, or byte_fallback=True")
        table: list[bytes | None] = [character.encode("utf-8") for character in self._characters]
        self._first_byte_id = len(table)
        if byte_fallback:
            table += [bytes([value]) for value in range(256)]
        super().__init__(table, check_special_tokens(special_tokens, len(table)))
        # Indexed by code point, with one more entry for everything above; -1 stands for "not in the vocabulary".
        self._id_of_code = np.full(max(map(ord, self._characters), default=-1) + 2, -1, dtype=np.int32)
        self._id_of_code[_code_points(self._characters)] = np.arange(len(self._characters), dtype=np.int32)

    @classmethod
    def train(
        cls,
        texts: Corpus,
        *,
        byte_fallback: bool = False,
        special_tokens: Iterable[str] | Mapping[str, int] = (),
    ) -> Self:
        """The vocabulary of the characters of a text, or of several, sorted by code point.

        The characters of special tokens in the texts count too: the names can then also be encoded as plain text.

        Args:
            texts: one text, or an iterable of texts. A str or bytes (UTF-8) is text itself; a pathlib.Path is a file,
                or a folder with all the files below it.
            byte_fallback, special_tokens: as in the constructor.

        Raises:
            TrainingError: there is no text, or bytes are not UTF-8.
            SpecialTokenError: the special tokens are not valid.
            TypeError: a text is neither str nor bytes nor a path.
            OSError: a path cannot be read.
        """
        characters: set[str] = set()
        for text in read_texts(texts):
            characters.update(text)
        if not characters:
            raise TrainingError("expected some training text, got none; check that the corpus was read")
        if any("\udc80" <= character <= "\udcff" for character in characters):
            raise TrainingError("expected training text in UTF-8, got bytes that are not; decode them first")
        return cls(sorted(characters), byte_fallback=byte_fallback, special_tokens=special_tokens)

    @property
    def characters(self) -> str:
        """The vocabulary, in the order of the ids."""
        return self._characters

    @property
    def byte_fallback(self) -> bool:
        """Whether characters outside the vocabulary are spelt by their bytes."""
        return self._byte_fallback

    def _encode_segments(self, segments: list[Segment]) -> np.ndarray:
        arrays = []
        position = 0  # of the segment in the whole input, for error messages
        for segment in segments:
            if isinstance(segment, int):
                arrays.append(np.array([segment], dtype=self._dtype))
                position += len(self._token_table[segment].decode("utf-8"))
            else:
                arrays.append(self._encode_text(segment, position))
                position += len(segment)
        return np.concatenate(arrays or [np.empty(0, self._dtype)])

    def _encode_text(self, text: str, position: int) -> np.ndarray:
        codes = _code_points(text)
        ids = self._id_of_code.take(codes, mode="clip")
        unknown = ids < 0
        if not unknown.any():
            return ids.astype(self._dtype)
        if not self._byte_fallback:
            first = int(np.argmax(unknown))
            raise UnknownCharacterError(text[first], position + first)
        distinct, ids[unknown] = np.unique(codes[unknown], return_inverse=True)
        ids[unknown] += len(self._characters)
        rows = [[known] for known in range(len(self._characters))]
        for code in distinct.tolist():
            spelling = chr(code).encode("utf-8", "surrogateescape")
            rows.append([self._first_byte_id + value for value in spelling])
        return RowTable(rows, self._dtype).gather(ids)

    def _safe_cut(self, text: str) -> int:
        return len(text)

    def _state(self) -> dict[str, Any]:
        return {
            "characters": self._characters,
            "byte_fallback": self._byte_fallback,
            "special_tokens": dict(self._special_tokens),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        return cls(state["characters"], byte_fallback=state["byte_fallback"], special_tokens=state["special_tokens"])


def _check_characters(characters: str | Sequence[str]) -> str:
    if not isinstance(characters, Sequence):
        raise TokenizerError(f"expected the vocabulary as a str or a list of characters, got {characters!r}")
    for character in characters:
        if not isinstance(character, str) or len(character) != 1:
            raise TokenizerError(f"expected single characters as the vocabulary, got {character!r}")
        if "\ud800" <= character <= "\udfff":
            raise TokenizerError(f"the vocabulary holds the lone surrogate {character!r}; it has no form in UTF-8")
    joined = "".join(characters)
    if len(set(joined)) < len(joined):
        repeated = sorted({character for character in joined if joined.count(character) > 1})
        raise TokenizerError(f"expected each character once in the vocabulary, got more of {repeated!r}")
    return joined


def _code_points(text: str) -> np.ndarray:
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
