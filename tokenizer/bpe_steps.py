"""The merges that make a token, one after the other, and what training saw when it learnt each."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from .bpe import BPETokenizer
from .bpe_record import MergeRecord
from .bpe_vocabulary import BPEVocabulary
from .errors import TokenizerError
from .trace import TrainingTrace, replay

Show = Callable[[bytes], str]
"""How the bytes of a token are shown."""


@dataclass(frozen=True)
class MergeFacts:
    """What training saw when it learnt a merge. The runner-up is None where no other pair was left."""

    count: int
    runner_up: tuple[bytes, bytes] | None
    runner_up_count: int
    tie_break: str

    @property
    def tie_broken(self) -> bool:
        return self.count == self.runner_up_count

    def sentence(self, show: Show) -> str:
        if self.runner_up is None:
            return f"{self.count:,} times in training, the last pair left"
        other = f"{show(self.runner_up[0])} + {show(self.runner_up[1])}"
        if self.tie_broken:
            return f"{self.count:,} times in training, a tie with {other}, {_TIE_RULES[self.tie_break]}"
        return f"{self.count:,} times in training; next was {other}, {self.runner_up_count:,} times"


_TIE_RULES = {
    "lowest-id": "broken by the lower ids",
    "greatest-bytes": "broken by the greater bytes",
}


@dataclass(frozen=True)
class MergeStep:
    """One merge on the way to a token.

    Attributes:
        symbols: the token's parts after the step.
        new: which of them the step made.
        left, right: what it was made of.
        rank: of the merge among all: the lower, the earlier it is applied.
        facts: from the trace of the training; None without one.
    """

    symbols: tuple[bytes, ...]
    new: int
    left: bytes
    right: bytes
    rank: int
    facts: MergeFacts | None = None

    @property
    def tie_broken(self) -> bool:
        return self.facts is not None and self.facts.tie_broken

    def title(self, show: Show) -> str:
        return f"{show(self.left)} + {show(self.right)}"

    def sentence(self, show: Show) -> str:
        return f"rank {self.rank:,}" + (f": {self.facts.sentence(show)}" if self.facts else "")


class MergeBook:
    """The merges that make each token, worked out when asked for.

    Args:
        names: the token of each id, as it is to be shown.
        merges: (left id, right id, id made) and the rank of each.
        first: the ids that a token begins as: its bytes or its characters.
        facts: by the names of a pair.
    """

    def __init__(
        self,
        names: Sequence[bytes | None],
        merges: Iterable[tuple[Sequence[int], int]],
        first: Callable[[int], list[int]],
        facts: Mapping[tuple[bytes, bytes], MergeFacts] = types.MappingProxyType({}),
    ) -> None:
        self._names = names
        self._merges = {(left, right): (rank, made) for (left, right, made), rank in merges}
        self._first = first
        self._facts = facts
        self._known: dict[int, tuple[MergeStep, ...] | None] = {}

    @classmethod
    def of(cls, tokenizer: BPETokenizer, trace: TrainingTrace | None = None) -> Self:
        """That of byte-level BPE; the trace is that of its training.

        Raises:
            TokenizerError: the trace is that of another tokenizer.
        """
        vocabulary = tokenizer.vocabulary
        rows = zip(vocabulary.merges.tolist(), vocabulary.ranks.tolist(), strict=True)
        first = lambda token_id: vocabulary.byte_ids[list(vocabulary.tokens[token_id])].tolist()
        return cls(vocabulary.tokens, rows, first, {} if trace is None else _facts(trace, vocabulary))

    def steps(self, token_id: int) -> tuple[MergeStep, ...] | None:
        """The merges that make a token, in the order in which they are applied; None if none do.

        No merge crosses the border of a token that is left in the end, so its merges are those of its own parts alone.
        """
        if token_id not in self._known:
            self._known[token_id] = self._merged(token_id)
        return self._known[token_id]

    def _merged(self, token_id: int) -> tuple[MergeStep, ...] | None:
        names, ids = self._names, self._first(token_id)
        steps: list[MergeStep] = []
        while places := [(self._merges[pair][0], n) for n, pair in enumerate(pairwise(ids)) if pair in self._merges]:
            rank, here = min(places)
            left, right = names[ids[here]], names[ids[here + 1]]
            ids[here : here + 2] = [self._merges[ids[here], ids[here + 1]][1]]
            symbols = tuple(names[part] for part in ids)
            steps.append(MergeStep(symbols, here, left, right, rank, self._facts.get((left, right))))
        return tuple(steps) if ids == [token_id] else None


def _facts(trace: TrainingTrace, vocabulary: BPEVocabulary) -> dict[tuple[bytes, bytes], MergeFacts]:
    """By the bytes of the pair: ids change where a tokenizer is written in another format, the bytes do not."""
    replayed = replay(trace).vocabulary
    learnt, ours = _by_bytes(replayed), _by_bytes(vocabulary)
    if not learnt == ours[: len(learnt)] and not (vocabulary.any_split and set(learnt) <= set(ours)):
        raise TokenizerError(
            "the trace is that of another training: its merges are not this tokenizer's; give the file that "
            "training wrote beside it"
        )
    tokens = replayed.tokens
    as_bytes = lambda pair: (tokens[pair[0]], tokens[pair[1]])

    def facts(record: MergeRecord) -> MergeFacts:
        runner_up = record.runner_up and as_bytes(record.runner_up)
        return MergeFacts(record.count, runner_up, record.runner_up_count, trace.tie_break)

    return {as_bytes(record.pair): facts(record) for record in trace.records}


def _by_bytes(vocabulary: BPEVocabulary) -> list[tuple[bytes, bytes]]:
    tokens = vocabulary.tokens
    return [(tokens[left], tokens[right]) for left, right, _ in vocabulary.merges.tolist()]
