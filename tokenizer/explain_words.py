"""Why the words of a normalised text are spelt by these tokens: WordPiece's longest matches, Unigram's best path."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .explanation import ExplainedToken, Piece, special_piece
from .normalizers import align
from .special import Segment
from .visible import visible
from .wordpiece import PREFIX, WordPieceTokenizer
from .words import WordTokenizer, encoded

if TYPE_CHECKING:
    from .unigram import UnigramTokenizer

_FEW = 8  # failed matches that are listed


class Spelt(NamedTuple):
    """The tokens of one word: (id, start, stop, in characters of the word, a note) of each, and a note on them all."""

    tokens: list[tuple[int, int, int, str]]
    note: str


def explain_words(tokenizer: WordTokenizer, segments: list[Segment]) -> tuple[list[str], list[Piece]]:
    """(sentences on the tokenizer, the words with their tokens); places are those of the text before normalisation."""
    about, describe = _about(tokenizer), _DESCRIBE.get(tokenizer.kind, _spelling_alone)
    spelt = lru_cache(maxsize=None)(lambda word: describe(tokenizer, word))
    names = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
    vocabulary = tokenizer.vocabulary
    pieces = []
    base = 0
    for place, segment in enumerate(segments):
        if isinstance(segment, int):
            pieces.append(special_piece(segment, names[segment], base))
            base = pieces[-1].stop
            continue
        text, starts, stops = align(tokenizer._chain(place, False, True), segment)
        whole = tokenizer._cut_words is None
        for begin, end in [(0, len(text))] if whole else [m.span() for m in tokenizer._cut_words.finditer(text)]:
            if begin == end:
                continue
            word = spelt(text[begin:end])
            tokens = []
            for token_id, first, stop, note in word.tokens:
                span = base + int(starts[begin + first]), base + int(stops[begin + stop - 1])
                tokens.append(ExplainedToken(token_id, vocabulary[token_id].encode("utf-8"), *span, note=note))
            note = "; ".join(
                filter(None, (_made_of(text[begin:end], segment, starts[begin], stops[end - 1]), word.note))
            )
            pieces.append(Piece(base + int(starts[begin]), base + int(stops[end - 1]), "", note, tuple(tokens)))
        base += len(segment)
    return about, pieces


def _made_of(word: str, segment: str, start: int, stop: int) -> str:
    return "" if segment[start:stop] == word else f"normalised to {visible(word)}"


def _about(tokenizer: WordTokenizer) -> list[str]:
    steps = ", ".join(type(step).__name__ for step in tokenizer.normalizers) or "nothing"
    cut = {"bert": "at white space and around punctuation", "metaspace": "before each \u2581", "none": "nowhere"}
    return [
        f"{_NAMES.get(tokenizer.kind, tokenizer.kind)}: {tokenizer.vocab_size:,} tokens.",
        f"The text is normalised first ({steps}), then cut {cut[tokenizer.split]}.",
    ]


_NAMES = {
    "wordpiece": "WordPiece, which spells a word by the longest tokens that fit, from left to right",
    "unigram": "Unigram, which spells a word by the tokens whose probabilities have the greatest product",
}


def _places(tokenizer: WordTokenizer, word: str) -> list[tuple[int, int, int]]:
    """(id, start, stop) of each token as encode spells the word; a byte of a character has the whole character."""
    spelling = tokenizer._spell([word])
    of_byte = [number for number, character in enumerate(word) for _ in range(len(encoded([character])[0]))]
    places, start = [], 0
    for token_id, end in zip(spelling.ids.tolist(), spelling.ends.tolist(), strict=True):
        places.append((token_id, of_byte[start], of_byte[end - 1] + 1))
        start = end
    return places


def _spelling_alone(tokenizer: WordTokenizer, word: str) -> Spelt:
    return Spelt([(*place, "") for place in _places(tokenizer, word)], "")


def _longest_matches(tokenizer: WordPieceTokenizer, word: str) -> Spelt:
    vocabulary = tokenizer.vocabulary
    tokens = []
    for token_id, start, stop in _places(tokenizer, word):
        if vocabulary[token_id] == tokenizer.unknown_token:
            return Spelt([(token_id, start, stop, _why_unknown(tokenizer, word))], "")
        prefix = PREFIX if start else ""
        longer = [prefix + word[start:end] for end in range(len(word), stop, -1)]
        note = f"the longest match: {_no_tokens(longer)}" if longer else "all that is left of the word"
        tokens.append((token_id, start, stop, note))
    return Spelt(tokens, "")


def _why_unknown(tokenizer: WordPieceTokenizer, word: str) -> str:
    if len(word) > tokenizer.longest_word:
        return f"{len(word):,} characters, more than the {tokenizer.longest_word:,} that a word may have"
    known = set(tokenizer.vocabulary)
    start = 0
    while start < len(word):
        prefix = PREFIX if start else ""
        stop = next((end for end in range(len(word), start, -1) if prefix + word[start:end] in known), None)
        if stop is None:
            return f"no token begins what is left from {visible(prefix + word[start:])}, so the word is unknown"
        start = stop
    return ""


def _no_tokens(names: list[str]) -> str:
    more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
    return f"{', '.join(map(visible, names[:_FEW]))}{more} {'is no token' if len(names) == 1 else 'are none'}"


def _best_path(tokenizer: UnigramTokenizer, word: str) -> Spelt:
    scores = dict(tokenizer.pieces)
    vocabulary = tokenizer.vocabulary
    tokens = []
    for token_id, start, stop in _places(tokenizer, word):
        token = vocabulary[token_id]
        known = token != tokenizer.unknown_token and token_id not in tokenizer._byte_ids
        note = f"log-probability {scores[token]:.3f}" if known else "for a character that has no token"
        tokens.append((token_id, start, stop, note))
    ordinary = {
        token: scores[token] for token_id, token in tokenizer._ordinary() if token_id not in tokenizer._byte_ids
    }
    best, second = two_best_spellings(word, ordinary, tokenizer._unknown_score)
    note = f"log-probability {best[0]:.3f}"
    if second is not None:
        note += f"; next best {' '.join(map(visible, second[1]))}, {second[0]:.3f}"
    return Spelt(tokens, note)


Path = tuple[float, list[str]]


def two_best_spellings(word: str, scores: Mapping[str, float], unknown_score: float) -> tuple[Path, Path | None]:
    """The two spellings of the highest score, (score, tokens) of each: Viterbi's algorithm with two ways to each place.

    A character without a token is one of its own, with unknown_score.
    """
    longest = max(map(len, scores), default=1)
    # By place: the best ways there, each (score, place before, which of the ways to that place).
    ways: list[list[tuple[float, int, int]]] = [[(0.0, 0, 0)], *([] for _ in word)]
    for stop in range(1, len(word) + 1):
        for start in range(max(0, stop - longest), stop):
            score = scores.get(word[start:stop], unknown_score if stop == start + 1 else -math.inf)
            if score > -math.inf:
                ways[stop] += [(way[0] + score, start, n) for n, way in enumerate(ways[start])]
        ways[stop] = sorted(ways[stop], key=lambda way: (-way[0], way[1]))[:2]
    paths = []
    for number, (score, _, _) in enumerate(ways[-1]):
        tokens, place, way = [], len(word), number
        while place:
            _, before, way = ways[place][way]
            tokens.append(word[before:place])
            place = before
        paths.append((score, tokens[::-1]))
    return paths[0], paths[1] if len(paths) > 1 else None


_DESCRIBE: dict[str, Callable[[WordTokenizer, str], Spelt]] = {
    "wordpiece": _longest_matches,
    "unigram": _best_path,
}
