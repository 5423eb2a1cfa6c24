"""Why a text became these tokens: where it was cut and by which rule, and the steps that made each token.

What is explained is what encode gives: the ids come from there, and the steps that lead to each are worked out anew, by
the readable rule.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import accumulate

from .alternatives import IN_WORDS, matching_alternative
from .base import Tokenizer
from .bpe import BPETokenizer
from .bpe_steps import MergeBook, MergeStep
from .char import CharTokenizer
from .errors import TokenizerError
from .explain_words import explain_words
from .explanation import ExplainedToken, Explanation, Piece, made_of, names_of, token_piece
from .patterns import PATTERNS, without_younger
from .preparation import Part, Preparation
from .pretokenize import make_pretokenizer
from .special import Segment, as_text, name_expression
from .trace import TrainingTrace
from .visible import visible
from .words import WordTokenizer

Cut = Callable[[str], Iterator[tuple[str, str, str]]]
"""Plain text to (piece, the rule that cut it, the same in words)."""
Describe = Callable[[int], tuple[tuple[MergeStep, ...], str]]
"""A token's id to its steps and its note."""

_FEW = 5  # places that are named


def explain(
    tokenizer: Tokenizer,
    text: str | bytes,
    *,
    trace: TrainingTrace | None = None,
    allowed_special: str | Collection[str] = frozenset(),
) -> Explanation:
    """Explain the ids that tokenizer.encode(text, allowed_special=allowed_special) gives.

    Args:
        tokenizer: of any kind.
        text: in which special tokens are plain text unless allowed_special names them.
        trace: of the training of a BPETokenizer: how often each pair occurred, and what came second.

    Raises:
        TokenizerError: as encode; or the trace is of another tokenizer.
    """
    plain = as_text(text)
    nothing = Preparation((), (), tokenizer.special_tokens)
    preparation = tokenizer._preparation if isinstance(tokenizer, BPETokenizer) else nothing
    segments = preparation.rules(allowed_special, ()).split(plain)
    ids = tokenizer.encode(text, allowed_special=allowed_special)
    if trace is not None and not isinstance(tokenizer, BPETokenizer):
        raise TokenizerError(
            f"a trace is kept of byte-level BPE only, and this tokenizer is of kind {tokenizer.kind!r}"
        )
    if isinstance(tokenizer, WordTokenizer):
        about, pieces = explain_words(tokenizer, segments)
    elif isinstance(tokenizer, BPETokenizer | CharTokenizer):
        make = _explain_bpe if isinstance(tokenizer, BPETokenizer) else _explain_char
        about, cut, describe = make(tokenizer, trace)
        pieces = list(_walk(tokenizer, plain, preparation.parts(segments), ids, cut, describe))
    else:
        raise TokenizerError(f"there is no explanation of kind {tokenizer.kind!r} yet")
    result = Explanation(
        (*about, _size(plain, ids), *_left_plain(preparation, tokenizer.special_tokens, segments)), plain, tuple(pieces)
    )
    if [token.token_id for token in result.tokens] != ids:
        raise AssertionError(f"the explanation is of other tokens than encode's, {ids}; please report this text")
    return result


def _walk(
    tokenizer: Tokenizer, plain: str, parts: Iterable[Part], ids: list[int], cut: Cut, describe: Describe
) -> Iterator[Piece]:
    """The pieces with their tokens; the bytes of the tokens, end to end, are those of the parts."""
    used = 0
    for part in parts:
        if part.token_id is not None:
            start, stop = int(part.starts[0]), int(part.stops[-1])
            special = tokenizer.special_tokens.get(part.text) == part.token_id
            yield token_piece(part.token_id, part.text, start, stop, special)
            used += 1
            continue
        place = 0
        for text, rule, note in cut(part.text):
            starts = part.starts[place : place + len(text)].tolist()
            stops = part.stops[place : place + len(text)].tolist()
            borders = list(accumulate((len(_bytes(character)) for character in text), initial=0))
            tokens = []
            end = 0
            while end < borders[-1]:
                token = tokenizer.token_bytes(ids[used])
                first, end = end, end + len(token)
                steps, said = describe(ids[used])
                span = starts[bisect_right(borders, first) - 1], stops[bisect_left(borders, end) - 1]
                tokens.append(ExplainedToken(ids[used], token, *span, steps, said))
                used += 1
            note = "; ".join(filter(None, (made_of(text, plain, starts[0], stops[-1]), note)))
            yield Piece(starts[0], stops[-1], rule, note, tuple(tokens))
            place += len(text)


def _explain_bpe(tokenizer: BPETokenizer, trace: TrainingTrace | None) -> tuple[list[str], Cut, Describe]:
    book = MergeBook.of(tokenizer, trace)
    pattern = tokenizer.pattern
    split = make_pretokenizer(pattern).split

    def cut(text: str) -> Iterator[tuple[str, str, str]]:
        seen = text if pattern is None or pattern in PATTERNS else without_younger(text)
        start = 0
        for piece in split(text):
            stop = start + len(piece)
            rule = matching_alternative(pattern, seen, start, stop) if pattern is not None else None
            yield piece, rule or "", IN_WORDS.get(rule, "") if rule else _WITHOUT_RULE[pattern is None]
            start = stop

    def describe(token_id: int) -> tuple[tuple[MergeStep, ...], str]:
        steps = book.steps(token_id)
        if steps is None:
            return (), "taken whole: the piece is a token of the vocabulary, which no merges make"
        return steps, "" if steps else "a byte, merged with none"

    merges = len(tokenizer.vocabulary.merges)
    about = [f"Byte-level BPE: {tokenizer.vocab_size:,} tokens, {merges:,} merges."]
    if count := len(tokenizer.added_tokens):
        about.append(f"Added tokens are taken out first, wherever they stand: there are {count:,}.")
    if tokenizer.normalizers:
        about.append(f"The text is normalised ({names_of(tokenizer.normalizers)}), but for special and added tokens.")
    if pattern is None:
        about.append("No pattern cuts the text: merges may go anywhere.")
    else:
        about.append(f"The pattern {pattern} cuts the text first; no merge crosses a cut.")
    if trace is None:
        about.append("Merges have their ranks only: how often each pair occurred is in the trace of the training.")
    return about, cut, describe


_WITHOUT_RULE = {True: "the whole text", False: "what the pattern's matches leave between them"}


def _explain_char(tokenizer: CharTokenizer, trace: None) -> tuple[list[str], Cut, Describe]:
    count = len(tokenizer.characters)
    fallback = "spelt by its bytes" if tokenizer.byte_fallback else "refused"
    about = [
        f"Characters: {count:,} in the vocabulary, {tokenizer.vocab_size:,} tokens. Any other character is {fallback}."
    ]

    def describe(token_id: int) -> tuple[tuple[MergeStep, ...], str]:
        if token_id < count:
            return (), f"character {token_id:,} of the vocabulary"
        return (), "a byte of a character that is not in the vocabulary"

    return about, lambda text: iter([(text, "", "every character is a token")]), describe


def _size(text: str, ids: list[int]) -> str:
    size = len(_bytes(text))
    if not ids:
        return f"{len(text):,} characters, {size:,} bytes, no tokens."
    return f"{len(text):,} characters, {size:,} bytes, {len(ids):,} tokens: {size / len(ids):.2f} bytes a token."


def _left_plain(preparation: Preparation, special: Collection[str], segments: list[Segment]) -> Iterator[str]:
    """A sentence for each special token's name that stands in plain text."""
    names = name_expression(special)
    places: dict[str, list[str]] = {}
    start = 0
    for segment in segments if names is not None else ():
        if isinstance(segment, int):
            start += len(preparation.names[segment])
            continue
        for match in names.finditer(segment):
            found = f"{start + match.start():,} to {start + match.end():,}"
            places.setdefault(match.group(), []).append(found)
        start += len(segment)
    for name, found in places.items():
        more = f" and {len(found) - _FEW:,} more" if len(found) > _FEW else ""
        yield (
            f"{visible(name)} at {', '.join(found[:_FEW])}{more} stayed plain text: a special token comes only from a "
            "name that the caller allows (allowed_special, or Trusted), so that text from outside cannot forge one."
        )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
