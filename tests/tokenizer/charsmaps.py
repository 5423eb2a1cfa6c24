"""Makes the map of characters of a SentencePiece model, for tests: the reverse of tokenizer/charsmap.py."""

from __future__ import annotations

import base64
from itertools import count


def write_charsmap(mapping: dict[str, str]) -> str:
    """The map in base64."""
    strings = b""
    trie: dict = {}
    for key, value in sorted(mapping.items()):
        node = trie
        for byte in key.encode("utf-8"):
            node = node.setdefault(byte, {})
        node[None] = len(strings)
        strings += value.encode("utf-8") + b"\0"
    units: dict[int, int] = {}
    _lay_out(trie, 0, 0, units)
    size = (max(units) | 0xFF) + 1
    data = b"".join(units.get(place, 0).to_bytes(4, "little") for place in range(size))
    return base64.b64encode((4 * size).to_bytes(4, "little") + data + strings).decode()


def _lay_out(node: dict, place: int, label: int, units: dict[int, int]) -> None:
    """Put a node at a place, and its children at the first base where all their places are free."""
    units[place] = 0  # taken
    labels = [0 if child is None else child for child in node]
    base = next(base for base in count(1) if all(base ^ child not in units for child in labels))
    offset = place ^ base
    units[place] = label | (None in node) << 8 | (offset << 10 if offset < 1 << 21 else (offset >> 8) << 10 | 1 << 9)
    for child in labels:
        units[base ^ child] = 0
    for child, below in node.items():
        if child is None:
            units[base] = below | 1 << 31
        else:
            _lay_out(below, base ^ child, child, units)


CHARSMAP = write_charsmap(
    {
        **{"\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u200b": "", "\x01": "", "\ufb01": "fi"},
        **{"A": "a", "\u00c5": "\u00e5", "\u00e9": "e\u0301", "a\u0301": "\u00e1", "A\u0301": "\u00e1", "\u2460": "1"},
        **{
            "\u1100": "\uac00",
            "\u0327": "",
            "\u4e2d": "\U0001f600",
            "\U0001f600": ":)",
            "\uff76": "\u30ab",
            "\u0600": "#",
        },
    }
)
