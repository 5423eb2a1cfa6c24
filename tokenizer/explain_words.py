"""Why the words of a normalised text are spelt by these tokens: WordPiece's longest matches, Unigram's best path, the
merges over characters of SentencePiece's byte-pair encoding."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import NamedTuple

from .alignment import align
from .bpe_steps import MergeBook, MergeStep
from .explanation import ExplainedToken, Piece, made_of, names_of, token_piece
from .sentencepiece import SentencePieceTokenizer
from .special import Segment
from .unigram import UnigramTokenizer
from .visible import visible
from .wordpiece import PREFIX, WordPieceTokenizer
from .words import WordTokenizer, encoded

_FEW = 8  # failed matches that are listed


class Spelt(NamedTuple):
    """The tokens of one word: (id, start, stop, in characters of the word, a note, merges) of each, and a note on them
    all."""

    tokens: list[tuple[int, int, int, str, tuple[MergeStep, ...]]]
    note: str


Describe = Callable[[str], Spelt]
"""Spells a word, and says why so."""


def explain_words(tokenizer: WordTokenizer, segments: list[Segment]) -> tuple[list[str], list[Piece]]:
    """(sentences on the tokenizer, the words with their tokens); places are those of the text before normalisation."""
    about, spelt = _about(tokenizer), cache(_DESCRIBE[tokenizer.kind](tokenizer))
    names = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
    vocabulary = tokenizer.vocabulary
    pieces = []
    base = 0
    for place, segment in enumerate(segments):
        if isinstance(segment, int):
            name = names[segment]
            pieces.append(token_piece(segment, name, base, base + len(name), special=True))
            base = pieces[-1].stop
            continue
        text, starts, stops = align(tokenizer._chain(segment, place, False, True), segment)
        whole = tokenizer._cut_words is None
        for begin, end in [(0, len(text))] if whole else [m.span() for m in tokenizer._cut_words.finditer(text)]:
            if begin == end:
                continue
            word = spelt(text[begin:end])
            tokens = []
            for token_id, first, stop, note, steps in word.tokens:
                span = base + int(starts[begin + first]), base + int(stops[begin + stop - 1])
                tokens.append(ExplainedToken(token_id, vocabulary[token_id].encode("utf-8"), *span, steps, note))
            note = "; ".join(
                filter(None, (made_of(text[begin:end], segment, starts[begin], stops[end - 1]), word.note))
            )
            pieces.append(Piece(base + int(starts[begin]), base + int(stops[end - 1]), "", note, tuple(tokens)))
        base += len(segment)
    return about, pieces


def _about(tokenizer: WordTokenizer) -> list[str]:
    steps = names_of(tokenizer.normalizers) or "nothing"
    cut = {"bert": "at white space and around punctuation", "metaspace": "before each \u2581", "none": "nowhere"}
    where = cut[tokenizer.split]
    if tokenizer.split == "none" and tokenizer._cut_words is not None:
        where += ", though no token reaches across the spaces"
    return [
        f"{_NAMES[tokenizer.kind]}: {tokenizer.vocab_size:,} tokens.",
        f"The text is normalised first ({steps}), then cut {where}.",
    ]


_NAMES = {
    "wordpiece": "WordPiece, which spells a word by the longest tokens that fit, from left to right",
    "unigram": "Unigram, which spells a word by the tokens whose probabilities have the greatest product",
    "sentencepiece-bpe": "Byte-pair encoding over characters, which merges the pair of the lowest rank first",
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


def _longest_matches(tokenizer: WordPieceTokenizer) -> Describe:
    vocabulary = tokenizer.vocabulary
    known = set(vocabulary)

    def describe(word: str) -> Spelt:
        tokens = []
        for token_id, start, stop in _places(tokenizer, word):
            if vocabulary[token_id] == tokenizer.unknown_token:
                note = _why_unknown(known, word, tokenizer.longest_word)
            else:
                prefix = PREFIX if start else ""
                longer = [prefix + word[start:end] for end in range(len(word), stop, -1)]
                note = f"the longest match: {_no_tokens(longer)}" if longer else "all that is left of the word"
            tokens.append((token_id, start, stop, note, ()))
        return Spelt(tokens, "")

    return describe


def _why_unknown(known: Collection[str], word: str, longest: int) -> str:
    if len(word) > longest:
        return f"{len(word):,} characters, more than the {longest:,} that a word may have"
    start = 0
    while start < len(word):
        prefix = PREFIX if start else ""
        stop = next((end for end in range(len(word), start, -1) if prefix + word[start:end] in known), None)
        if stop is None:
            break
        start = stop
    return f"no token begins what is left from {visible(prefix + word[start:])}, so the word is unknown"


def _no_tokens(names: list[str]) -> str:
    more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
    return f"{', '.join(map(visible, names[:_FEW]))}{more} {'is no token' if len(names) == 1 else 'are none'}"


def _best_path(tokenizer: UnigramTokenizer) -> Describe:
    scores = dict(tokenizer.pieces)
    bytes_apart = set(tokenizer._byte_ids.tolist())
    ordinary = {token: scores[token] for token_id, token in tokenizer._ordinary() if token_id not in bytes_apart}
    longest = max(map(len, ordinary), default=1)

    def describe(word: str) -> Spelt:
        tokens = []
        for token_id, start, stop in _places(tokenizer, word):
            score = ordinary.get(tokenizer.vocabulary[token_id])
            note = "for a character that has no token" if score is None else f"log-probability {score:.3f}"
            tokens.append((token_id, start, stop, note, ()))
        best, second = two_best_spellings(word, ordinary, tokenizer._unknown_score, longest)
        note = f"log-probability {best[0]:.3f}"
        if second is not None:
            note += f"; next best {' '.join(map(visible, second[1]))}, {second[0]:.3f}"
        return Spelt(tokens, note)

    return describe


Path = tuple[float, list[str]]


def two_best_spellings(
    word: str, scores: Mapping[str, float], unknown_score: float, longest: int
) -> tuple[Path, Path | None]:
    """The two spellings of the highest score, (score, tokens) of each: Viterbi's algorithm with two ways to each place.

    A character without a token is one of its own, with unknown_score; no token is longer than longest characters.
    """
    # By place: the best ways there, each (score, place before, which of the ways to that place).
    ways: list[list[tuple[float, int, int]]] = [[(0.0, 0, 0)], *([] for _ in word)]
    for stop in range(1, len(word) + 1):
        for start in range(max(0, stop - longest), stop):
            score = scores.get(word[start:stop], unknown_score if stop == start + 1 else None)
            if score is not None:
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


def _merges_over_characters(tokenizer: SentencePieceTokenizer) -> Describe:
    vocabulary = tokenizer.vocabulary
    id_of = {token: token_id for token_id, token in enumerate(vocabulary) if token is not None}
    names = [None if token is None else token.encode("utf-8") for token in vocabulary]
    rows = [
        ((id_of[left], id_of[right], id_of[left + right]), rank) for rank, (left, right) in enumerate(tokenizer.merges)
    ]
    book = MergeBook(names, rows, lambda token_id: [id_of[character] for character in vocabulary[token_id]])
    apart = {*tokenizer._byte_ids.tolist(), *tokenizer.special_tokens.values(), tokenizer._unknown_id}

    def describe(word: str) -> Spelt:
        tokens = []
        for token_id, start, stop in _places(tokenizer, word):
            steps = () if token_id in apart else book.steps(token_id)
            note = "for a character that has no token" if token_id in apart else "" if steps else "merged with none"
            tokens.append((token_id, start, stop, note, steps))
        return Spelt(tokens, "")

    return describe


_DESCRIBE: dict[str, Callable[[WordTokenizer], Describe]] = {
    "wordpiece": _longest_matches,
    "unigram": _best_path,
    "sentencepiece-bpe": _merges_over_characters,
}
