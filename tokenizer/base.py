"""What every tokenizer here can do, and the parts that are the same for all of them."""

from __future__ import annotations

import codecs
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np

from . import serialize
from .added import AddedToken
from .errors import FormatError, TokenIdError, UnknownCharacterError
from .offsets import joined_text, token_offsets
from .shares import in_shares
from .special import Segment, SpecialRules, TextOrSpans, Trusted, Untrusted, as_integer, split_segments
from .streaming import stream_segments

_DECODE_BATCH = 1 << 16  # keeps the pieces that are being joined in the processor's cache

_MANY = 1 << 16  # ids
_VERY_MANY = 1 << 22  # ids: their integers take 117 MB, worth the 0.2 s in which Numba is loaded


class Tokenizer(ABC):
    """Text to token ids and back.

    A tokenizer does not change once built. Ids run from 0 to vocab_size - 1; a subclass fills ``_token_table`` with
    the bytes of each (None for an id that no token holds), and says how plain text becomes ids.

    Special tokens are safe by default: in text they are ordinary characters, unless ``allowed_special`` names them or
    the input marks them as Trusted.
    """

    kind: ClassVar[str]  # the name of the subclass in saved files
    _version: int = serialize.VERSION  # of saved files

    def __init__(self, token_table: list[bytes | None], special_tokens: dict[str, int]) -> None:
        size = max([len(token_table), *(token_id + 1 for token_id in special_tokens.values())])
        self._token_table: list[bytes | None] = token_table + [None] * (size - len(token_table))
        for name, token_id in special_tokens.items():
            self._token_table[token_id] = name.encode("utf-8")
        self._special_tokens = special_tokens
        self._holes = np.array([n for n, token in enumerate(self._token_table) if token is None], dtype=np.int64)

    # What a subclass adds

    def _segments(
        self, text: TextOrSpans, allowed_special: str | Collection[str], disallowed_special: str | Collection[str]
    ) -> list[Segment]:
        """The input in the form that _encode_segments takes."""
        return split_segments(text, self._special_tokens, allowed_special, disallowed_special)

    @abstractmethod
    def _encode_segments(self, segments: list[Segment]) -> np.ndarray:
        """Ids of plain texts and of special tokens already resolved, as an array of integers."""

    def _encode_many(self, texts: list[list[Segment]]) -> list[np.ndarray]:
        """_encode_segments of each text. Several threads may call it at the same time."""
        return [self._encode_segments(segments) for segments in texts]

    def _stream_encoder(self) -> Callable[[list[Segment]], np.ndarray]:
        """_encode_segments for one long text in pieces, in little memory."""
        return self._encode_segments

    @abstractmethod
    def _safe_cut(self, text: str) -> int:
        """The last place where text can be cut without a change of ids, whatever follows it (streaming.SafeCut)."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """The fields that rebuild this tokenizer, as JSON values."""

    @classmethod
    @abstractmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild from what _state gave; may raise anything on bad fields: from_dict names the error."""

    def _rules(self, allowed_special: str | Collection[str], disallowed_special: str | Collection[str]) -> SpecialRules:
        """What is looked for in the text before it is plain."""
        return SpecialRules(self._special_tokens, allowed_special, disallowed_special)

    # Vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included: the size an embedding table needs."""
        return len(self._token_table)

    @property
    def special_tokens(self) -> dict[str, int]:
        """Name to id of each special token (a copy)."""
        return dict(self._special_tokens)

    @property
    def added_tokens(self) -> tuple[AddedToken, ...]:
        """The texts that are one token wherever they stand (BPETokenizer has such), in the order of their ids."""
        return ()

    @property
    def _dtype(self) -> type[np.unsignedinteger]:
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that one id stands for; for a special token, its name in UTF-8.

        Raises:
            TokenIdError: no token has this id.
        """
        index = as_integer(token_id)
        if index is None:
            raise TokenIdError(f"expected a token id as an integer, got {token_id!r}")
        token = self._token_table[index] if 0 <= index < self.vocab_size else None
        if token is None:
            raise self._no_such_id(index)
        return token

    # Text to ids

    def encode(
        self,
        text: TextOrSpans,
        *,
        allowed_special: str | Collection[str] = frozenset(),
        disallowed_special: str | Collection[str] = (),
    ) -> list[int]:
        """Turn text into ids.

        Args:
            text: a str; bytes (UTF-8; invalid bytes survive a round trip where the tokenizer has byte tokens); or a
                list of Trusted and Untrusted spans. Lone surrogates in a str become U+FFFD, as in tiktoken.
            allowed_special: names of special tokens to recognise in the text, or "all". For spans use Trusted instead.
                Added tokens are found whatever it says.
            disallowed_special: strings that must not stand in the text, or "all" for every special token that
                allowed_special does not name. The default forbids nothing and encodes them as plain text.

        Raises:
            SpecialTokenError: an unknown special token was named, or a disallowed one found.
            UnknownCharacterError: the tokenizer has no token for a character.
        """
        # Segments have no name here: their bytes, as many as the text's, are given up before the list is made.
        ids = self._encode_segments(self._segments(text, allowed_special, disallowed_special))
        return self._as_lists([ids])[0]

    def encode_to_array(
        self,
        text: TextOrSpans,
        *,
        allowed_special: str | Collection[str] = frozenset(),
        disallowed_special: str | Collection[str] = (),
    ) -> np.ndarray:
        """Like encode, for large texts: a one-dimensional uint16 array, or uint32 if vocab_size exceeds 65536."""
        ids = self._encode_segments(self._segments(text, allowed_special, disallowed_special))
        return ids.astype(self._dtype, copy=False)

    def encode_batch(
        self,
        texts: Iterable[TextOrSpans],
        *,
        allowed_special: str | Collection[str] = frozenset(),
        disallowed_special: str | Collection[str] = (),
        threads: int | None = None,
    ) -> list[list[int]]:
        """Encode several texts, each by itself; the other arguments and the errors are those of encode.

        threads: how many share the work, by default as many as this process has cores; a BPETokenizer's kernels run
        at the same time. Raises ValueError if it is below 1.
        """
        if isinstance(texts, str | bytes | bytearray | Trusted | Untrusted):
            raise TypeError(
                f"expected an iterable of texts, got one {type(texts).__name__}; encode takes a single text"
            )
        if isinstance(allowed_special, Iterator):
            allowed_special = list(allowed_special)  # read for each text
        if isinstance(disallowed_special, Iterator):
            disallowed_special = list(disallowed_special)

        def encode_share(share: list[TextOrSpans]) -> list[list[int]]:
            return self._as_lists(
                self._encode_many([self._segments(text, allowed_special, disallowed_special) for text in share])
            )

        return in_shares(encode_share, list(texts), threads)

    def _as_lists(self, arrays: list[np.ndarray]) -> list[list[int]]:
        """ids.tolist() of each; of very many ids equal ones are one object."""
        many = _MANY if "numba" in sys.modules else _VERY_MANY
        if sum(map(len, arrays)) < max(many, self.vocab_size):
            return [ids.tolist() for ids in arrays]
        from .lists import shared_lists  # here: it loads Numba

        return shared_lists(arrays, self.vocab_size)

    def encode_iterable(
        self,
        chunks: Iterable[str | bytes],
        *,
        allowed_special: str | Collection[str] = frozenset(),
        disallowed_special: str | Collection[str] = (),
    ) -> Iterator[int]:
        """Encode one text that arrives in chunks, such as an open file, and give its ids one by one.

        The ids are those of the joined chunks, wherever these are cut. The memory does not grow with the text, but
        where no place is known that is safe to cut, so that the text is joined first: for a BPETokenizer with None or
        an expression as its pattern, a UnigramTokenizer with the split "none", and some normalisers, such as Strip.

        Raises:
            SpecialTokenError, UnknownCharacterError: as encode does, when the iteration gets there.
            TypeError: a chunk is neither str nor bytes, or not of the type of the first one.
        """
        if isinstance(chunks, str | bytes | bytearray):
            raise TypeError(
                f"expected an iterable of chunks, got one {type(chunks).__name__}; encode takes a whole text"
            )
        return self._iterate(chunks, self._rules(allowed_special, disallowed_special))

    def _stream_segments(
        self, chunks: Iterable[str | bytes], rules: SpecialRules
    ) -> Iterator[tuple[int, list[Segment]]]:
        return stream_segments(chunks, rules, self._safe_cut)

    def _iterate(self, chunks: Iterable[str | bytes], rules: SpecialRules) -> Iterator[int]:
        encode = self._stream_encoder()
        for position, segments in self._stream_segments(chunks, rules):
            try:
                ids = encode(segments).tolist()
            except UnknownCharacterError as error:
                raise UnknownCharacterError(error.character, position + error.position) from None
            yield from ids

    def encode_with_offsets(
        self,
        text: TextOrSpans,
        *,
        allowed_special: str | Collection[str] = frozenset(),
        disallowed_special: str | Collection[str] = (),
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Like encode, and beside the ids the (start, stop) of each token in the text.

        Offsets count characters of a str, bytes of a bytes object, and for spans characters of their texts joined.
        A token that is only a part of a character's bytes gets the whole character.
        """
        if not isinstance(text, str | bytes) and isinstance(text, Iterable):
            text = list(text)  # read twice
        ids = self.encode_to_array(text, allowed_special=allowed_special, disallowed_special=disallowed_special)
        return ids.tolist(), token_offsets(joined_text(text), self._byte_lengths[ids])

    @cached_property
    def _byte_lengths(self) -> np.ndarray:
        return np.array([len(token or b"") for token in self._token_table], dtype=np.int64)

    # Ids to text

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Turn ids into text.

        Args:
            ids: integers, as a list, an array or any iterable.
            errors: what to do where the bytes are not UTF-8, as in bytes.decode. Ids cut at an arbitrary place can
                end within a character, so the default puts U+FFFD there.

        Raises:
            TokenIdError: an id is out of range.
            UnicodeDecodeError: the bytes are not UTF-8 and errors is "strict".
            LookupError: errors is no known policy.
        """
        codecs.lookup_error(errors)  # bytes.decode looks at the name only where it meets bytes that are not UTF-8
        return self.decode_bytes(ids).decode("utf-8", errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Turn ids into the exact bytes they stand for. Raises TokenIdError as decode does."""
        array = self._checked(ids)
        table = self._token_table
        batches = (array[start : start + _DECODE_BATCH] for start in range(0, len(array), _DECODE_BATCH))
        return b"".join([b"".join([table[token_id] for token_id in batch.tolist()]) for batch in batches])

    def stream_decoder(self, errors: str = "replace") -> StreamDecoder:
        """A decoder for ids that arrive one at a time, as in generation."""
        return StreamDecoder(self, errors)

    def _checked(self, ids: Iterable[int]) -> np.ndarray:
        """The ids as an array, each one the id of a token."""
        if not isinstance(ids, Iterable):
            raise TokenIdError(f"expected token ids as a sequence of integers, got {ids!r}; write [{ids!r}] for one id")
        sequence = ids if isinstance(ids, Sequence | np.ndarray) else list(ids)
        try:
            array = np.asarray(sequence)
        except (ValueError, OverflowError):  # rows of different lengths, integers beyond 64 bits
            array = np.asarray(sequence, dtype=object)
        if array.ndim == 1 and array.size == 0:
            return np.empty(0, dtype=np.int64)
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise TokenIdError(
                f"expected token ids as a one-dimensional sequence of integers, got {array.ndim} dimension(s) of "
                f"{array.dtype}; convert with int() or decode one row at a time"
            )
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= self.vocab_size:
            raise self._no_such_id(low if low < 0 else high)
        unassigned = self._holes[np.isin(self._holes, array)]
        if unassigned.size:
            raise self._no_such_id(int(unassigned[0]))
        return array

    def _no_such_id(self, token_id: int) -> TokenIdError:
        if 0 <= token_id < self.vocab_size:
            return TokenIdError(f"token id {token_id} is not assigned to any token of this tokenizer")
        return TokenIdError(
            f"token id {token_id} is out of range: this tokenizer has ids 0 to {self.vocab_size - 1}; "
            "decode with the tokenizer that made the ids"
        )

    # Saving

    def to_dict(self) -> dict[str, Any]:
        """The whole tokenizer as JSON values, to embed in a checkpoint."""
        return {"format": serialize.FORMAT, "version": self._version, "kind": self.kind, **self._state()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a tokenizer from what to_dict gave. On the base class, any kind; on a subclass, only its own.

        Raises:
            FormatError: not such a dictionary, another version, an unknown kind, or damaged fields.
        """
        kind = serialize.check_header(data)
        known = {subclass.kind: subclass for subclass in _subclasses(Tokenizer) if "kind" in vars(subclass)}
        target = cls if getattr(cls, "kind", None) == kind else known.get(kind)
        if target is None:
            raise FormatError(f"expected a tokenizer kind among {sorted(known)}, found {kind!r}; is it a newer file?")
        if not issubclass(target, cls):
            raise FormatError(f"expected a {cls.__name__}, found kind {kind!r}; load it with tokenizer.load")
        try:
            return target._from_state(data)
        except KeyError as error:
            raise FormatError(f"the {kind!r} tokenizer data lacks the field {error}; it is incomplete") from error
        except (TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise FormatError(f"the {kind!r} tokenizer data is damaged: {error}") from error

    def save(self, path: str | PathLike[str]) -> None:
        """Write one JSON file. The file appears complete or not at all: it is written aside and moved into place.

        Raises:
            OSError: the folder is missing or cannot be written.
        """
        serialize.write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what save wrote.

        Raises:
            FormatError: the file is not such a file (see from_dict).
            OSError: the file cannot be read.
        """
        data = serialize.read_json(path)
        try:
            return cls.from_dict(data)
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled, as when a data loader starts worker processes, a tokenizer travels as its data, without its caches.
        return type(self).from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, special_tokens={self._special_tokens})"


class StreamDecoder:
    """Decodes ids one at a time and holds back the bytes of an unfinished UTF-8 character.

    The pieces, joined, are what decode gives for all the ids at once.
    """

    def __init__(self, tokenizer: Tokenizer, errors: str = "replace") -> None:
        codecs.lookup_error(errors)
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)

    def feed(self, token_id: int) -> str:
        """The text that this id completes; "" while a character is unfinished.

        Raises:
            TokenIdError: no token has this id.
            UnicodeDecodeError: errors is "strict" and the bytes are not UTF-8; start anew with another decoder.
        """
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """The text of the bytes still held back, as decode would show them; the decoder is then as new."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def load(path: str | PathLike[str]) -> Tokenizer:
    """Read a tokenizer of any kind that ``save`` wrote. Raises as Tokenizer.load does."""
    return Tokenizer.load(path)


def _subclasses(cls: type) -> Iterable[type]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
