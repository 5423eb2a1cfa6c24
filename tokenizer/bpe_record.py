"""What training saw when it chose each merge: the record that an explanation and a replay are made from."""

from __future__ import annotations

from typing import NamedTuple

Pair = tuple[int, int]


class MergeRecord(NamedTuple):
    """One merge of byte-pair training, and the pair that would have been merged in its place.

    Both counts are those of the moment of choice, in occurrences over the whole training text. Without a runner-up
    (the pair was the only one left) ``runner_up`` is None and its count 0.
    """

    pair: Pair
    count: int
    runner_up: Pair | None
    runner_up_count: int

    @property
    def tie_broken(self) -> bool:
        """Whether both pairs were equally frequent, so that the rule for ties chose."""
        return self.count == self.runner_up_count
