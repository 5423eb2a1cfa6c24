"""What byte-level BPE does to a text before it cuts it into pieces: added tokens are taken out, the rest is normalised.

    text -> special tokens that are allowed, and added tokens -> what they leave, normalised -> the added tokens that are
    looked for in normalised text -> what these leave, to be cut and merged

That is the order of Hugging Face's tokenizers. At each place the longest token is found, the leftmost first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np

from .added import AddedToken, check_added_tokens
from .alignment import align
from .errors import TokenizerError
from .normalizer_chain import chain_cut, chain_from_state, chain_state, check_chain
from .normalizers import Lowercase, Metaspace, Normalizer, Unicode, WhitespaceSplit
from .special import Segment, SpecialRules, TextOrSpans, is_none, split_by
from .streaming import SafeCut, cut_stream, stream_segments

_ESCAPES = dict.fromkeys(range(56448, 56576), "�")


class Part(NamedTuple):
    """A part of a prepared text: a special or added token, or plain text that is cut and merged.

    text: as normalised; of a token its name. token_id: None for plain text. starts, stops: int64, one for each character
    of text: where it comes from in the text before the preparation, in characters.
    """

    text: str
    token_id: int | None
    starts: np.ndarray
    stops: np.ndarray


class Preparation:
    """The added tokens and normalisers of a tokenizer, made ready for use. It does not change once built.

    Args:
        normalizers: what is done to the text between special and added tokens.
        added_tokens: at most one for each text and id.
        special_tokens: name to id.

    Attributes:
        added_tokens, normalizers: as given, in the order of the ids and of application.
        names: by id, the special tokens, and the added ones as they are where they are found: their text, or what the
            normalisers make of it.
        does_nothing: whether there are neither added tokens nor normalisers.

    Raises:
        TokenizerError: an added token has the text or id of another or of a special token, or normalisers that make
            nothing of its text, or what they make of another's.
    """

    def __init__(
        self, normalizers: Iterable[Normalizer], added_tokens: Iterable[AddedToken], special_tokens: Mapping[str, int]
    ) -> None:
        self.normalizers = check_chain(normalizers)
        for step in self.normalizers:
            if isinstance(step, Metaspace | WhitespaceSplit):
                raise TokenizerError(f"the normaliser {type(step).__name__} is for tokenizers that work by words")
        self.added_tokens = check_added_tokens(added_tokens)
        self._special_tokens = special_tokens
        self.does_nothing = not self.normalizers and not self.added_tokens
        self._ascii_stays = all(step.keeps_ascii for step in self.normalizers)
        self._bytes_stay = all(isinstance(step, Unicode | Lowercase) for step in self.normalizers)
        self._first = {token.text: token.token_id for token in self.added_tokens if not token.normalized}
        self._later = self._normal_names()
        taken = set(special_tokens.values())
        for token in self.added_tokens:
            if token.text in special_tokens or token.token_id in taken:
                raise TokenizerError(
                    f"the added token {token.text!r} has the name or the id of a special token; give it others of its own"
                )
        self.names = {
            token_id: name for names in (special_tokens, self._first, self._later) for name, token_id in names.items()
        }
        self._in_text = SpecialRules({}, (), (), self._first)
        self._in_normal_form = SpecialRules({}, (), (), self._later)

    def state(self) -> dict[str, Any]:
        """The normalisers and added tokens as JSON values."""
        added = [list(astuple(token)) for token in self.added_tokens]
        return {"added_tokens": added, "normalizers": chain_state(self.normalizers)}

    @staticmethod
    def arguments(state: Mapping[str, Any]) -> dict[str, Any]:
        """normalizers and added_tokens from what state gave; none where the fields are absent.

        Raises FormatError, TokenizerError, KeyError or TypeError on damaged fields.
        """
        return {
            "added_tokens": [AddedToken(*fields) for fields in state.get("added_tokens", ())],
            "normalizers": chain_from_state(state.get("normalizers", ())),
        }

    def _normal_names(self) -> dict[str, int]:
        """By what is looked for in normalised text, the id of the token."""
        names: dict[str, int] = {}
        for token in self.added_tokens:
            if token.normalized:
                name = self._normal_form(token.text)
                if not name or name in names:
                    made = f"{name!r}, as of another" if name else "nothing"
                    raise TokenizerError(f"the normalisers make of the added token {token.text!r} {made}; leave it out")
                names[name] = token.token_id
        return names

    def rules(self, allowed_special: str | Collection[str], disallowed_special: str | Collection[str]) -> SpecialRules:
        """What is looked for in the text as it comes. Raises SpecialTokenError for names that are not special."""
        return SpecialRules(self._special_tokens, allowed_special, disallowed_special, self._first)

    def split(
        self, text: TextOrSpans, allowed_special: str | Collection[str], disallowed_special: str | Collection[str]
    ) -> list[Segment]:
        """The text as it comes, and the ids of the tokens found in it (special.split_segments)."""
        by_default = is_none(allowed_special) and is_none(disallowed_special)
        rules = self._in_text if by_default else self.rules(allowed_special, disallowed_special)
        return split_by(rules, text, self._special_tokens)

    def prepared(self, segments: Iterable[Segment]) -> list[Segment]:
        """What is cut and merged, of what split gives."""
        result: list[Segment] = []
        for segment in segments:
            if isinstance(segment, int):
                result.append(segment)
            else:
                result += self._in_normal_form.split(self._normal_form(segment))
        return result

    def _normal_form(self, text: str) -> str:
        if self._ascii_stays and text.isascii():
            return text
        text = self._without_bytes(text)
        for step in self.normalizers:
            text = step.apply(text)
        return text

    def _without_bytes(self, text: str) -> str:
        """Bytes that were no UTF-8 could make a character where what stood between them is removed."""
        return text if self._bytes_stay else text.translate(_ESCAPES)

    def stream(
        self, chunks: Iterable[str | bytes], rules: SpecialRules, safe_cut: SafeCut
    ) -> Iterator[tuple[int, list[Segment]]]:
        """streaming.stream_segments of the prepared text. The positions count nothing useful."""
        pieces = stream_segments(chunks, rules, lambda text: chain_cut(self.normalizers, text))
        texts = (
            segment if isinstance(segment, int) else self._normal_form(segment)
            for _, segments in pieces
            for segment in segments
        )
        return cut_stream(texts, self._in_normal_form, safe_cut)

    def parts(self, segments: Iterable[Segment]) -> Iterator[Part]:
        """prepared, with the way back."""
        start = 0
        for segment in segments:
            if isinstance(segment, int):
                name = self.names[segment]
                yield Part(name, segment, *_same(start, len(name)))
                start += len(name)
                continue
            text, starts, stops = self._aligned(segment)
            place = 0
            for found in self._in_normal_form.split(text):
                name = found if isinstance(found, str) else self.names[found]
                stop = place + len(name)
                token_id = found if isinstance(found, int) else None
                yield Part(name, token_id, start + starts[place:stop], start + stops[place:stop])
                place = stop
            start += len(segment)

    def _aligned(self, text: str) -> tuple[str, np.ndarray, np.ndarray]:
        if self._ascii_stays and text.isascii():
            return text, *_same(0, len(text))
        return align(self.normalizers, self._without_bytes(text))


def _same(start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    starts = np.arange(start, start + length)
    return starts, starts + 1
