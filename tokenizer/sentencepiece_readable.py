"""Byte-pair encoding over characters in its plainest form: the judge of sentencepiece_merge.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .byte_tokens import BYTE_TOKENS


def spell_readable(
    word: str,
    id_of: Mapping[str, int],
    ranks: Mapping[tuple[int, int], tuple[int, int]],
    byte_fallback: bool,
    unknown_id: int,
    fuse_unknown: bool,
    barred: Collection[str] = (),
) -> list[int]:
    """The ids of a word.

    ranks: (rank, id made) by pair of ids; of all pairs that can merge, the one of the lowest rank does, the leftmost
    first. barred: tokens that no text is spelt with.
    """
    ids: list[int] = []
    for character in word:
        if character in id_of and character not in barred:
            ids.append(id_of[character])
        elif byte_fallback:
            ids += [id_of[BYTE_TOKENS[value]] for value in character.encode("utf-8", "surrogateescape")]
        elif not (fuse_unknown and ids and ids[-1] == unknown_id):
            ids.append(unknown_id)
    while True:
        able = [(ranks[pair], place) for place, pair in enumerate(zip(ids, ids[1:])) if pair in ranks]
        if not able:
            return ids
        (_, made), place = min(able)
        ids[place : place + 2] = [made]
