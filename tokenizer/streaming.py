"""Encoding a text that arrives in pieces, in memory that does not grow with it.

The ids must be those of the whole text, wherever the pieces happen to be cut. So text is held back until a place is
known where a cut changes nothing: the splitter of the tokenizer names such places, and no special token may lie across.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator

from .special import Segment, SpecialRules, as_text

SafeCut = Callable[[str], int]
"""The last place in a text where it can be cut so that both parts, encoded apart, give the ids of the whole, whatever
text follows; 0 if no such place is known."""

_CHARACTERS = 1 << 14  # held back before a cut is looked for; larger is hardly faster and takes more memory


def stream_segments(
    chunks: Iterable[str | bytes], rules: SpecialRules, safe_cut: SafeCut
) -> Iterator[tuple[int, list[Segment]]]:
    """Segments to encode, each list with its position in the whole text.

    Raises:
        SpecialTokenError: a disallowed string occurs.
        TypeError: a chunk is neither str nor bytes, or not of the type of the first one.
    """
    return cut_stream(_normal_texts(chunks), rules, safe_cut)


def cut_stream(texts: Iterable[Segment], rules: SpecialRules, safe_cut: SafeCut) -> Iterator[tuple[int, list[Segment]]]:
    """stream_segments for text as as_text gives it. Ids among the texts end what goes on otherwise from one to the next;
    they take no place."""
    held = ""
    position = 0
    ready: list[Segment] = []  # what stands before the held text, if that begins after an id
    ready_length = 0
    enough = _CHARACTERS
    # A name that starts before the limit lies in the held text as a whole, and can no longer turn out to be longer.
    reach = max(rules.longest - 1, 0)
    for text in texts:
        if isinstance(text, int):
            rules.reject_disallowed(held, position + ready_length)
            ready += [*rules.split(held), text]
            ready_length += len(held)
            held = ""
        else:
            held += text
        if len(ready) + ready_length + len(held) < enough:
            continue
        rules.reject_disallowed(held, position + ready_length)
        limit = len(held) - reach
        cut = rules.end_of_last_name(held, limit)
        if cut < limit:
            cut += safe_cut(held[cut:limit])
        if cut or ready:
            yield position, [*ready, *rules.split(held[:cut])]
            position += ready_length + cut
            ready, ready_length = [], 0
            held = held[cut:]
        enough = max(_CHARACTERS, 2 * len(held))  # without a safe cut, look again only when much has been added
    rules.reject_disallowed(held, position + ready_length)
    yield position, [*ready, *rules.split(held)]


def _normal_texts(chunks: Iterable[str | bytes]) -> Iterator[str]:
    """What as_text gives for the joined chunks, in pieces: a character cut in two waits for its other half."""
    first: type | None = None
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    high_surrogate = ""
    for chunk in chunks:
        kind = str if isinstance(chunk, str) else bytes
        if not isinstance(chunk, str | bytes) or kind is not (first or kind):
            raise TypeError(f"expected chunks that are all str or all bytes, got {type(chunk).__name__}")
        first = kind
        if isinstance(chunk, bytes):
            yield decoder.decode(chunk)
            continue
        chunk = high_surrogate + chunk
        high_surrogate = chunk[-1:] if "\ud800" <= chunk[-1:] <= "\udbff" else ""
        yield as_text(chunk[: len(chunk) - len(high_surrogate)])
    yield decoder.decode(b"", final=True) + as_text(high_surrogate)
