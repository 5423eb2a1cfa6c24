"""A trie over bytes in flat arrays, for kernels that look for all tokens which begin at a place.

The edges are one open-addressing table from (node, byte) to node: a vocabulary of 32,000 tokens has some 120,000 edges,
which take 3 MB. Two roots, because WordPiece spells the beginning of a word and its rest with different tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .hashing import home_of
from .native import BYTES, INT32, INT32_OUT, INT64, UINT64_OUT, compiled, inline
from .native import types as t

ROOTS = (0, 1)


class Trie:
    """The entries (root, bytes, value): value, at least 0, is found at the end of bytes from that root.

    Attributes:
        keys, children: the edges, for `child`; values: int32, by node, -1 where no entry ends.
    """

    def __init__(self, entries: Iterable[tuple[int, bytes, int]]) -> None:
        entries = list(entries)
        text = b"".join(key for _, key, _ in entries)
        stops = np.cumsum(np.array([len(key) for _, key, _ in entries], dtype=np.int64))
        roots = np.array([root for root, _, _ in entries], dtype=np.int32)
        values = np.array([value for _, _, value in entries], dtype=np.int32)
        size = 1 << max(6, (2 * len(text)).bit_length())
        self.keys = np.zeros(size, dtype=np.uint64)
        self.children = np.zeros(size, dtype=np.int32)
        self.values = np.full(len(text) + len(ROOTS), -1, dtype=np.int32)
        _insert(np.frombuffer(text, np.uint8), stops, roots, values, self.keys, self.children, self.values)


@inline
def edge_key(node, byte):
    """Distinct for each edge, and never 0, which stands for a free place."""
    return (np.uint64(node) << np.uint64(8)) + np.uint64(byte) + np.uint64(1)


@inline
def child(node, byte, keys, children):
    """The node that this byte leads to, or -1."""
    key = edge_key(node, byte)
    mask = keys.size - 1
    place = home_of(key, mask)
    while keys[place] != 0:
        if keys[place] == key:
            return children[place]
        place = (place + 1) & mask
    return np.int32(-1)


@compiled(t.void, [BYTES, INT64, INT32, INT32, UINT64_OUT, INT32_OUT, INT32_OUT])
def _insert(text, stops, roots, values, keys, children, node_values):
    mask = keys.size - 1
    nodes = 2
    start = 0
    for entry in range(stops.size):
        node = roots[entry]
        for n in range(start, stops[entry]):
            key = edge_key(node, text[n])
            place = home_of(key, mask)
            while keys[place] != 0 and keys[place] != key:
                place = (place + 1) & mask
            if keys[place] == 0:
                keys[place] = key
                children[place] = nodes
                nodes += 1
            node = children[place]
        node_values[node] = values[entry]
        start = stops[entry]
