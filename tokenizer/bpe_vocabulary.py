"""What byte-pair encoding knows: the bytes of each id, and which two neighbours make which id, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Self

import numpy as np

from .byte_order import BYTE_ORDER
from .errors import TokenizerError
from .special import MAX_IDS, as_integer

Pair = tuple[int, int]
_MAX_TABLE_BYTES = 1 << 28  # each merge can double a token's length, so a small file could ask for all the memory


class BPEVocabulary:
    """Tokens by id, and the merges by rank. It does not change once built.

    Of all merges that can be applied to a piece of text, the one of the lowest rank is, the leftmost first where
    several of that rank can; and so on until none is left.

    Args:
        tokens: the bytes of each id, in any order; None where no ordinary token has the id. Each byte needs a token.
        merges: (left id, right id, id made) in the order of rank; each pair once, though several may make the same id.
            None for tiktoken's rule: two neighbours merge if their bytes joined are a token; its id is the rank.
        take_whole: a piece that is a token becomes that token, whatever the merges make of it.

    Attributes:
        tokens: list of bytes or None, by id.
        merges: int32 (merges, 3), the rows as above.
        ranks: int32 (merges,), ascending. Merges of the same rank make the same token.
        byte_ids: int32 (256,), the id of each single byte.

    Raises:
        TokenizerError: tokens or merges that no vocabulary has.
    """

    __slots__ = ("tokens", "merges", "ranks", "byte_ids", "take_whole", "any_split")

    def __init__(
        self,
        tokens: Sequence[bytes | None],
        merges: Sequence[Sequence[int]] | np.ndarray | None,
        *,
        take_whole: bool = False,
    ) -> None:
        self.tokens = _checked_tokens(tokens, distinct=take_whole or merges is None)
        self.byte_ids = _byte_ids(self.tokens)
        self.take_whole = take_whole
        self.any_split = merges is None
        if merges is None:
            self.merges = _all_splits(self.tokens)
            self.ranks = self.merges[:, 2].copy()
        else:
            self.merges = _checked_merges(self.tokens, merges)
            self.ranks = np.arange(len(self.merges), dtype=np.int32)

    @classmethod
    def from_pairs(cls, pairs: Iterable[Sequence[int]]) -> Self:
        """Ids 0 to 255 are the bytes, in GPT-2's order (byte_order.py); pair n of ids makes id 256 + n.

        Raises:
            TokenizerError: a pair is none, uses an id that is not made before it, or occurs twice.
        """
        checked = _checked_pairs(pairs)
        merges = [(left, right, 256 + number) for number, (left, right) in enumerate(checked)]
        return cls(_tokens_of_pairs(checked), merges)

    @classmethod
    def from_ranks(cls, ranks: Mapping[bytes, int]) -> Self:
        """As tiktoken: each token's bytes and its rank, which is its id; any two neighbours may make a token.

        Raises:
            TokenizerError: a rank is no id or occurs twice, or a single byte has none.
        """
        ids = [as_integer(rank) for rank in ranks.values()]
        for token, token_id in zip(ranks, ids, strict=True):
            if token_id is None or not 0 <= token_id < MAX_IDS:
                raise TokenizerError(f"token {token!r} has rank {ranks[token]!r}; expected 0 to {MAX_IDS - 1}")
        if len(set(ids)) < len(ids):
            raise TokenizerError("a rank occurs twice; expected each token to have its own")
        tokens: list[bytes | None] = [None] * (max(ids, default=-1) + 1)
        for token, token_id in zip(ranks, ids, strict=True):
            tokens[token_id] = token
        return cls(tokens, None, take_whole=True)

    def extended(self, pairs: Sequence[Pair], first_id: int) -> BPEVocabulary:
        """With more merges, which rank after those there are; pair n makes id first_id + n."""
        tokens = [*self.tokens, *[None] * (first_id - len(self.tokens))]
        for left, right in pairs:
            tokens.append(tokens[left] + tokens[right])
        added = [(left, right, first_id + number) for number, (left, right) in enumerate(pairs)]
        return BPEVocabulary(tokens, [*self.merges.tolist(), *added], take_whole=self.take_whole)

    @property
    def pairs(self) -> list[Pair]:
        """The (left id, right id) of each merge, in the order of rank."""
        return list(map(tuple, self.merges[:, :2].tolist()))

    def state(self) -> dict[str, Any]:
        """The fields that rebuild it, as JSON values; {"merges": pairs} alone where from_pairs would do."""
        if self._is_plain():
            return {"merges": self.merges[:, :2].tolist()}
        return {
            "tokens": [None if token is None else token.decode("latin-1") for token in self.tokens],
            "merges": None if self.any_split else self.merges.tolist(),
            "take_whole": self.take_whole,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild from what state gave. Raises TokenizerError, KeyError, TypeError or ValueError on damaged fields."""
        if "tokens" not in state:
            return cls.from_pairs(state["merges"])
        take_whole = state["take_whole"]
        if not isinstance(take_whole, bool):
            raise TokenizerError(f"expected take_whole as true or false, got {take_whole!r}")
        tokens = [None if token is None else token.encode("latin-1") for token in state["tokens"]]
        return cls(tokens, state["merges"], take_whole=take_whole)

    def _is_plain(self) -> bool:
        count = len(self.merges)
        return (
            not (self.take_whole or self.any_split)
            and len(self.tokens) == 256 + count
            and np.array_equal(self.merges[:, 2], np.arange(256, 256 + count))
            and b"".join(token or b"" for token in self.tokens[:256]) == BYTE_ORDER
        )


def _checked_tokens(tokens: Iterable[bytes | None], distinct: bool) -> list[bytes | None]:
    result = list(tokens)
    seen: dict[bytes, int] = {}
    for token_id, token in enumerate(result):
        if token is None:
            continue
        if not isinstance(token, bytes) or not token:
            raise TokenizerError(f"token {token_id} is {token!r}; expected bytes that are not empty, or None")
        first = seen.setdefault(token, token_id)
        if distinct and first != token_id:
            raise TokenizerError(f"tokens {first} and {token_id} are both {token!r}; expected each token once")
    return result


def _byte_ids(tokens: list[bytes | None]) -> np.ndarray:
    found = np.full(256, -1, dtype=np.int32)
    for token_id, token in enumerate(tokens):
        if token is not None and len(token) == 1 and found[token[0]] < 0:
            found[token[0]] = token_id
    missing = np.flatnonzero(found < 0)
    if missing.size:
        raise TokenizerError(
            f"{missing.size} of the 256 bytes have no token, the first is 0x{missing[0]:02X}; without them some texts "
            "have no spelling, so give each byte a token"
        )
    return found


def _checked_merges(tokens: list[bytes | None], merges: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
    rows = _integer_rows(merges, 3)
    if rows is not None and _fit(tokens, rows):
        return rows
    seen: set[Pair] = set()  # one by one, to name what is wrong
    checked: list[tuple[int, int, int]] = []
    for number, merge in enumerate(merges):
        row = tuple(map(as_integer, merge)) if isinstance(merge, Sequence | np.ndarray) else ()
        if len(row) != 3 or not all(part is not None and 0 <= part < len(tokens) for part in row):
            raise TokenizerError(
                f"merge {number} is {merge!r}; expected (left, right, made) as ids from 0 to {len(tokens) - 1}"
            )
        left, right, made = (tokens[part] for part in row)
        if left is None or right is None or left + right != made:
            raise TokenizerError(
                f"merge {number}: the bytes {left!r} and {right!r} joined are not those made, {made!r}"
            )
        if row[:2] in seen:
            raise TokenizerError(f"merge {number}: the pair {row[:2]} occurs twice; expected each pair once")
        seen.add(row[:2])
        checked.append(row)
    return np.array(checked, dtype=np.int32).reshape(-1, 3)


def _fit(tokens: list[bytes | None], rows: np.ndarray) -> bool:
    """Whether all merges are valid."""
    if len(rows) and not (rows.min() >= 0 and rows.max() < len(tokens)):
        return False
    if any(tokens[token_id] is None for token_id in np.unique(rows).tolist()):
        return False
    joined = all(tokens[left] + tokens[right] == tokens[made] for left, right, made in rows.tolist())
    return joined and len(np.unique(rows[:, 0].astype(np.int64) << 32 | rows[:, 1])) == len(rows)


def _integer_rows(rows: Sequence[Sequence[int]] | np.ndarray, width: int) -> np.ndarray | None:
    """int32 (n, width), or None if the rows are anything but ids; 20 times as fast as looking at each."""
    try:
        if not isinstance(rows, np.ndarray):
            if set(map(len, rows)) - {width} or set(map(type, chain.from_iterable(rows))) - {int}:
                return None
            rows = np.array(rows if len(rows) else np.empty((0, width), dtype=np.int64))
        if rows.dtype.kind not in "iu" or rows.shape[1:] != (width,):
            return None
        if rows.size and not 0 <= rows.min() <= rows.max() < MAX_IDS:  # int32 would make other ids of some
            return None
    except (TypeError, ValueError, OverflowError):
        return None
    return rows.astype(np.int32)


def _all_splits(tokens: list[bytes | None]) -> np.ndarray:
    """Every way to join two tokens to a third, by the id made."""
    find = {token: token_id for token_id, token in enumerate(tokens) if token is not None}.get
    rows = []
    for made, token in enumerate(tokens):
        for cut in range(1, len(token or b"")):
            left = find(token[:cut])
            if left is not None and (right := find(token[cut:])) is not None:
                rows.append((left, right, made))
    return np.array(rows, dtype=np.int32).reshape(-1, 3)


def _checked_pairs(pairs: Iterable[Sequence[int]]) -> list[Pair]:
    """The merges as pairs of int, each valid at its place."""
    pairs = list(pairs)
    rows = _integer_rows(pairs, 2)
    if rows is not None and np.all((rows >= 0) & (rows < 256 + np.arange(len(rows))[:, None])):
        return list(map(tuple, rows.tolist()))
    result: list[Pair] = []
    for number, merge in enumerate(pairs):
        pair = tuple(map(as_integer, merge)) if isinstance(merge, Sequence | np.ndarray) else ()
        if len(pair) != 2 or not all(part is not None and 0 <= part < 256 + number for part in pair):
            raise TokenizerError(
                f"merge {number} is {merge!r}; expected a pair of ids from 0 to {255 + number}, made before it"
            )
        result.append(pair)
    return result


def _tokens_of_pairs(pairs: list[Pair]) -> list[bytes | None]:
    table: list[bytes] = [bytes([value]) for value in BYTE_ORDER]
    total = len(table)
    for number, (left, right) in enumerate(pairs):
        total += len(table[left]) + len(table[right])
        if total > _MAX_TABLE_BYTES:
            raise TokenizerError(
                f"the tokens up to merge {number} hold more than {_MAX_TABLE_BYTES} bytes; expected a vocabulary of words"
            )
        table.append(table[left] + table[right])
    return [*table]
