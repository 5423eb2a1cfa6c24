"""WordPiece in its plainest form: take the longest token that the rest of the word begins with, again and again.

Schuster & Nakajima 2012 and Wu et al. 2016 (arXiv:1609.08144); this greedy spelling is BERT's (Devlin et al. 2019).
"""

from __future__ import annotations

from collections.abc import Mapping


def spell_readable(
    word: str, id_of: Mapping[str, int], unknown_id: int, prefix: str, longest_word: int
) -> list[tuple[int, int]]:
    """(id, where it ends in the word, in characters) of each token; the unknown one for the whole word if any part of
    it has no token, or if it has more than longest_word characters."""
    whole = [(unknown_id, len(word))]
    if len(word) > longest_word:
        return whole
    tokens = []
    start = 0
    while start < len(word):
        for stop in range(len(word), start, -1):
            token = (prefix if start else "") + word[start:stop]
            if token in id_of:
                tokens.append((id_of[token], stop))
                start = stop
                break
        else:
            return whole
    return tokens
