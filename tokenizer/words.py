"""What the tokenizers have in common whose text is normalised first and then cut into words: WordPiece, Unigram, and
byte-pair encoding as SentencePiece does it.

    text -> normalisers -> words -> ids of each distinct word, once

A subclass spells words. Ids need not begin with bytes, and the special tokens may stand anywhere among them.
"""

from __future__ import annotations

import re
import sys
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np

from .alignment import align
from .base import StreamDecoder, Tokenizer
from .character_classes import character_class
from .corpus import Corpus, read_texts
from .errors import TokenizerError
from .gather import RowTable
from .normalizer_chain import chain_from_state, chain_state, check_chain
from .normalizers import METASPACE, Metaspace, Normalizer, Prepend
from .offsets import byte_bounds, in_text, joined_text
from .special import Segment, SpecialRules, TextOrSpans, name_expression, split_segments
from .streaming import stream_segments
from .word_vocabulary import ids_of, place_special_tokens

_FEW_CHARACTERS = 2000  # up to here plain Python takes less time than Numba takes to load
_LONG_WORD = 200  # the readable twins' time grows with its square
SPLITS = ("bert", "metaspace", "none")
# A space after one of these can be cut off with what follows it: no normaliser makes a space or nothing of them.
_CUT = re.compile(r".*(?:[^\W_]|[!-~])(?= )", re.DOTALL)


class Spelling(NamedTuple):
    """The tokens of several words, end to end.

    ids int32; ends int32, where each token ends in its word, in bytes as `encoded` gives them; counts int64, the tokens
    of each word.
    """

    ids: np.ndarray
    ends: np.ndarray
    counts: np.ndarray


def encoded(words: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """The words in UTF-8 end to end, and where each ends. The escape of a byte takes three bytes, as any surrogate
    would: what a kernel sees is regular, and what was not UTF-8 cannot become a character by losing its neighbours."""
    parts = [word.encode("utf-8", "surrogatepass") for word in words]
    stops = np.cumsum(np.array([len(part) for part in parts], dtype=np.int64))
    return np.frombuffer(b"".join(parts), dtype=np.uint8), stops


class WordTokenizer(Tokenizer):
    """The base class; see the module.

    Args:
        tokens: the token of each id as it stands in the vocabulary; None for an id that no token has.
        decoded: the bytes of each id in decoded text.
        special_tokens: names of tokens in the vocabulary, or new ones, which get the ids after it; or a mapping.
        unknown: the token for what cannot be spelt, or None. It alone of the special tokens can come out of text.
        normalizers: what is done to the text, in this order.
        split: "bert": words and punctuation, without the white space between; "metaspace": before each "\u2581"; "none".
    """

    def __init__(
        self,
        tokens: Sequence[str | None],
        decoded: Sequence[bytes | None],
        *,
        special_tokens: Iterable[str] | Mapping[str, int],
        unknown: str | None,
        normalizers: Sequence[Normalizer],
        split: str,
    ) -> None:
        self._tokens = tuple(tokens)
        self._id_of = ids_of(self._tokens)
        specials = place_special_tokens(special_tokens, self._tokens, self._id_of)
        if unknown is not None and unknown not in self._id_of:
            raise TokenizerError(f"the unknown token {unknown!r} is not in the vocabulary; add it, or name another")
        self._unknown = unknown
        self._unknown_id = -1 if unknown is None else self._id_of[unknown]
        self._normalizers = check_chain(normalizers)
        if split not in SPLITS:
            raise TokenizerError(f"expected split as one of {SPLITS}, got {split!r}")
        self._split = split
        taken = set(specials.values())
        super().__init__([None if n in taken else token for n, token in enumerate(decoded)], specials)
        # The text after a cut, or after a special token, is not at the beginning.
        self._not_first = tuple(
            Metaspace("never") if isinstance(step, Metaspace) and step.scheme == "first" else step
            for step in self._normalizers
        )
        self._continuing = tuple(
            Metaspace("never") if isinstance(step, Metaspace) else step
            for step in self._normalizers
            if not isinstance(step, Prepend)
        )
        self._cut_words = _word_expression(split, self._words_part_at_spaces())

    @property
    def normalizers(self) -> tuple[Normalizer, ...]:
        """What is done to the text before it is cut into words."""
        return self._normalizers

    @property
    def split(self) -> str:
        """How the normalised text is cut into words."""
        return self._split

    @property
    def unknown_token(self) -> str | None:
        """The token for what cannot be spelt, if there is one."""
        return self._unknown

    @property
    def vocabulary(self) -> list[str | None]:
        """The token of each id, as a vocabulary file holds it: special tokens included, None for a free id."""
        names = list(self._tokens) + [None] * (self.vocab_size - len(self._tokens))
        for name, token_id in self._special_tokens.items():
            names[token_id] = name
        return names

    # What a subclass adds

    @abstractmethod
    def _spell(self, words: Sequence[str]) -> Spelling:
        """The tokens of each word; no word is empty."""

    @abstractmethod
    def _spell_plainly(self, word: str) -> list[int]:
        """The same ids for one word, by the readable twin: sooner done with a short text than Numba is loaded."""

    def _ordinary(self) -> Iterator[tuple[int, str]]:
        """(id, token) of the tokens that text can be spelt with: no special ones, nor the unknown one."""
        for token_id, token in enumerate(self._tokens):
            if token is not None and token not in self._special_tokens and token != self._unknown:
                yield token_id, token

    def _words_part_at_spaces(self) -> bool:
        """Whether no token reaches across the place before a run of "\u2581": a text that is one word can be cut there."""
        inside = re.compile(f"[^{METASPACE}]{METASPACE}")
        return METASPACE in self._id_of and not any(inside.search(token) for _, token in self._ordinary())

    # Encoding

    def _encode_segments(self, segments: list[Segment], continued: bool = False, first: bool = True) -> np.ndarray:
        """continued: the first segment goes on from text encoded before; first: the whole input begins here."""
        if not segments:
            return np.empty(0, self._dtype)
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        batches: list[np.ndarray | int] = []
        for place, segment in enumerate(segments):
            if isinstance(segment, int):
                batches.append(segment)
                continue
            text = segment
            for normalizer in self._chain(segment, place, continued, first):
                text = normalizer.apply(text)
            batches.append(np.fromiter(map(numbers.__getitem__, self._cut(text)), dtype=np.int64))
        numbers.default_factory = None  # it refers back to the dict, and would keep it alive until a collection
        rows = self._rows(list(numbers))
        return np.concatenate(
            [np.array([batch], self._dtype) if isinstance(batch, int) else rows.gather(batch) for batch in batches]
        )

    def _rows(self, words: list[str]) -> RowTable:
        if "numba" not in sys.modules and sum(map(len, words)) <= _FEW_CHARACTERS:
            if max(map(len, words), default=0) <= _LONG_WORD:
                return RowTable([self._spell_plainly(word) for word in words], self._dtype)
        spelling = self._spell(words)
        return RowTable.laid_out(spelling.ids.astype(self._dtype), spelling.counts)

    def _chain(self, text: str, place: int, continued: bool, first: bool) -> tuple[Normalizer, ...]:
        if continued and not place:
            return self._continuing
        return self._normalizers if first and not place and not self._loses_its_beginning(text) else self._not_first

    def _loses_its_beginning(self, text: str) -> bool:
        """Whether the text's first character vanishes, an accent say: what follows is not at the beginning, as in HF."""
        if self._not_first == self._normalizers:
            return False
        before = list(takewhile(lambda step: not isinstance(step, Metaspace), self._normalizers))
        needs_text = any(step.beginning_needs_text for step in before)
        head = text[:1]  # what the first character has become
        for step in before:
            if needs_text:
                text, head = step.apply(text), step.beginning(text, head)
            else:
                head = step.apply(head)
        return not head

    def _cut(self, text: str) -> list[str]:
        if self._cut_words is None:
            return [text] if text else []
        return self._cut_words.findall(text)

    def _safe_cut(self, text: str) -> int:
        if self._cut_words is None or not all(step.local for step in self._normalizers):
            return 0
        space = " "
        for step in self._continuing:
            space = step.apply(space)
        if space[:1] != (" " if self._split == "bert" else METASPACE):
            return 0
        match = _CUT.match(text)
        return match.end() if match else 0

    def _iterate(self, chunks: Iterable[str | bytes], rules: SpecialRules) -> Iterator[int]:
        continued = False
        for position, segments in stream_segments(chunks, rules, self._safe_cut):
            yield from self._encode_segments(segments, continued, position == 0).tolist()
            continued = isinstance(segments[-1], str) if segments else continued

    def encode_with_offsets(
        self, text: TextOrSpans, *, allowed_special=frozenset(), disallowed_special=()
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """As Tokenizer.encode_with_offsets. A token gets the characters of the original that its own come from: for
        one that a normaliser put in, such as the "\u2581" before a text, an empty range."""
        if not isinstance(text, str | bytes) and isinstance(text, Iterable):
            text = list(text)
        segments = split_segments(text, self._special_tokens, allowed_special, disallowed_special)
        ids: list[int] = []
        ranges: list[np.ndarray] = []
        base = 0  # bytes of the segments before
        for place, segment in enumerate(segments):
            if isinstance(segment, int):
                ids.append(segment)
                length = len(next(name for name, n in self._special_tokens.items() if n == segment).encode())
                ranges.append(np.array([[base, base + length]]))
                base += length
                continue
            bounds = byte_bounds(segment)
            found, spans = self._with_spans(segment, self._chain(segment, place, False, True))
            ids += found.tolist()
            ranges.append(bounds[spans] + base)
            base += int(bounds[-1])
        starts, stops = np.concatenate([np.empty((0, 2), np.int64), *ranges]).T
        return ids, in_text(joined_text(text), starts, stops)

    def _with_spans(self, segment: str, chain: Sequence[Normalizer]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of one plain text, and the (start, stop) of each in characters of it."""
        text, starts, stops = align(chain, segment)
        places = [(0, len(text))] if self._cut_words is None else [m.span() for m in self._cut_words.finditer(text)]
        places = [(start, stop) for start, stop in places if start < stop]
        words = dict.fromkeys(text[start:stop] for start, stop in places)
        distinct = {word: number for number, word in enumerate(words)}
        spelling = self._spell(list(distinct))
        first = np.cumsum(spelling.counts) - spelling.counts
        ids, spans = [np.empty(0, np.int32)], [np.empty((0, 2), np.int64)]
        for start, stop in places:
            word = text[start:stop]
            row = slice(first[distinct[word]], first[distinct[word]] + spelling.counts[distinct[word]])
            ends = spelling.ends[row]
            bounds = byte_bounds(word, escape_width=3)
            from_character = np.searchsorted(bounds, np.concatenate([[0], ends[:-1]]), side="right") - 1
            to_character = np.searchsorted(bounds, ends, side="left") - 1
            ids.append(spelling.ids[row])
            spans.append(np.stack([starts[start + from_character], stops[start + to_character]], axis=1))
        return np.concatenate(ids), np.concatenate(spans)

    # Decoding

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that the ids stand for, without the space that encoding puts before a text.

        Raises TokenIdError as decode does.
        """
        text = super().decode_bytes(ids)
        return text[1:] if self.first_space_is_added and text[:1] == b" " else text

    def stream_decoder(self, errors: str = "replace") -> StreamDecoder:
        """A decoder for ids that arrive one at a time, as in generation."""
        return _WordStreamDecoder(self, errors) if self.first_space_is_added else StreamDecoder(self, errors)

    @property
    def first_space_is_added(self) -> bool:
        """Whether encoding puts a space before a text, which decoding leaves out."""
        return self._split == "bert" or any(
            isinstance(step, Prepend) or (isinstance(step, Metaspace) and step.scheme != "never")
            for step in self._normalizers
        )

    # Training and saving

    @classmethod
    def _count_words(
        cls, texts: Corpus, normalizers: Sequence[Normalizer], split: str, cut_out: Iterable[str]
    ) -> Counter[str]:
        """How often each word occurs, in the order of first occurrence; the strings in cut_out part the texts."""
        counts: Counter[str] = Counter()
        names = name_expression(cut_out)
        expression = _word_expression(split, True)
        for text in read_texts(texts):
            for part in [text] if names is None else names.split(text)[::2]:
                for normalizer in normalizers:
                    part = normalizer.apply(part)
                counts.update([part] if expression is None else expression.findall(part))
        del counts[""]
        return counts

    def _common_state(self) -> dict[str, Any]:
        return {
            "special_tokens": dict(self._special_tokens),
            "unknown_token": self._unknown,
            "normalizers": chain_state(self._normalizers),
            "split": self._split,
        }

    @staticmethod
    def _common_arguments(state: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "special_tokens": state["special_tokens"],
            "unknown_token": state["unknown_token"],
            "normalizers": chain_from_state(state["normalizers"]),
            "split": state["split"],
        }


class _WordStreamDecoder(StreamDecoder):
    """Leaves out the space before the first token."""

    _begun = False

    def feed(self, token_id: int) -> str:
        text = super().feed(token_id)
        if self._begun or not text:
            return text
        self._begun = True
        return text.removeprefix(" ")

    def flush(self) -> str:
        self._begun = False
        return super().flush()


@cache
def _word_expression(split: str, parts_at_spaces: bool) -> re.Pattern[str] | None:
    if split == "bert":
        space, punctuation = character_class("WHITE_SPACE"), character_class("BERT_PUNCTUATION")
        return re.compile(f"[^{space}{punctuation}]+|[{punctuation}]")
    if split == "metaspace":
        return re.compile(f"{METASPACE}[^{METASPACE}]*|[^{METASPACE}]+")
    return re.compile(f"{METASPACE}+[^{METASPACE}]*|[^{METASPACE}]+") if parts_at_spaces else None
