"""Long sequences built from a small table: each index is replaced by its row of ids, without a Python loop."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np


class RowTable:
    """Rows of ids of different lengths, laid end to end in one array.

    Args:
        rows: the ids of row 0, row 1, ...
        dtype: the integer type of the ids.
    """

    def __init__(self, rows: Sequence[Sequence[int]], dtype: type[np.unsignedinteger]) -> None:
        self._lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._flat = np.fromiter(chain.from_iterable(rows), dtype=dtype, count=int(self._lengths.sum()))

    @classmethod
    def laid_out(cls, flat: np.ndarray, lengths: np.ndarray) -> RowTable:
        """The table whose rows lie end to end in flat already."""
        table = cls((), flat.dtype.type)
        table._flat, table._lengths, table._starts = flat, lengths, np.cumsum(lengths) - lengths
        return table

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """The rows of these indices, one after the other."""
        lengths = self._lengths[indices]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        # Position k of the output, in the row that ends at e and has length l, reads flat[start + k - (e - l)].
        shift = self._starts[indices] - (ends - lengths)
        return self._flat[np.repeat(shift, lengths) + np.arange(total)]
