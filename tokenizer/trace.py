"""The record of a byte-pair training, kept in a file: replayed, it gives the same tokenizer without the text.

The file has one JSON object a line: a header, then one merge after the other with the count of its pair, the runner-up
and its count. Each line can be checked against the text: ``check`` recounts every pair before every merge.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Self

from .bpe import TIE_BREAKS, BPETokenizer
from .bpe_readable import train_readable
from .bpe_record import MergeRecord, Pair
from .corpus import Corpus, read_texts
from .errors import FormatError, TokenizerError
from .pretokenize import make_pretokenizer
from .serialize import write_bytes
from .special import as_integer, name_expression

FORMAT = "transformer-stack/tokenizer-trace"
VERSION = 1
_FIELDS = ("pair", "count", "runner_up", "runner_up_count")


@dataclass(frozen=True)
class TrainingTrace:
    """What a training was asked for, and what it saw at each merge.

    Attributes:
        records: one for each merge learnt, in order; the first makes id 256, or the first id that was free in
            continued_from.
        pattern, special_tokens, tie_break: as given to BPETokenizer.train; the special tokens with their ids.
        continued_from: to_dict() of the tokenizer whose merges were kept; None for a training from bytes.
    """

    records: tuple[MergeRecord, ...]
    pattern: str | None = "gpt2"
    special_tokens: dict[str, int] = field(default_factory=dict)
    tie_break: str = "lowest-id"
    continued_from: dict[str, Any] | None = None

    @classmethod
    def of(cls, tokenizer: BPETokenizer, records: Iterable[MergeRecord], tie_break: str = "lowest-id",
           continued_from: BPETokenizer | None = None) -> Self:  # fmt: skip
        """The trace of a tokenizer just trained, with the list that was given to its training as record."""
        base = None if continued_from is None else continued_from.to_dict()
        return cls(tuple(records), tokenizer.pattern, tokenizer.special_tokens, tie_break, base)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the file; it appears complete or not at all. Raises OSError where that cannot be."""
        write_bytes(path, self._lines())

    def _lines(self) -> Iterator[bytes]:
        header = {
            "format": FORMAT,
            "version": VERSION,
            "merges": len(self.records),
            "pattern": self.pattern,
            "special_tokens": self.special_tokens,
            "tie_break": self.tie_break,
            "continued_from": self.continued_from,
        }
        for line in (header, *(record._asdict() for record in self.records)):
            yield json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what save wrote.

        Raises:
            FormatError: the file is not such a file, or damaged: the line is named.
            OSError: the file cannot be read.
        """
        lines = Path(path).read_bytes().splitlines()
        try:
            header = _json(lines[0] if lines else b"", 1)
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise FormatError(f"expected the trace of a training, whose first line names format {FORMAT!r}")
            if header.get("version") != VERSION or isinstance(header["version"], bool):
                raise FormatError(f"expected version {VERSION}, found {header.get('version')!r}; is it a newer file?")
            if header.get("merges") != len(lines) - 1:
                raise FormatError(
                    f"the header announces {header.get('merges')} merges and {len(lines) - 1} lines follow; it is cut short"
                )
            records = tuple(_record(_json(line, number), number) for number, line in enumerate(lines[1:], 2))
            trace = cls(records, **{name: header[name] for name in _SETTINGS})
            trace._check()
            return trace
        except KeyError as error:
            raise FormatError(f"{path}: the header lacks the field {error}; it is incomplete") from error
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error

    def _check(self) -> None:
        """Raise FormatError where the records contradict each other or the rule for ties."""
        if self.tie_break not in TIE_BREAKS:
            raise FormatError(f"expected tie_break as one of {TIE_BREAKS}, found {self.tie_break!r}")
        last = None
        for line, record in enumerate(self.records, 2):
            if record.runner_up_count > record.count or (last is not None and record.count > last):
                raise FormatError(f"line {line}: counts that no training has: they fall from one merge to the next")
            if self.tie_break == "lowest-id" and record.tie_broken and record.runner_up < record.pair:
                raise FormatError(f"line {line}: the runner-up has the lower ids, so it would have won the tie")
            last = record.count


_SETTINGS = ("pattern", "special_tokens", "tie_break", "continued_from")


def replay(trace: TrainingTrace) -> BPETokenizer:
    """The tokenizer that the training gave, from its record alone.

    Raises:
        FormatError: the merges of the trace are none that a tokenizer can have.
    """
    pairs = [record.pair for record in trace.records]
    base = _base(trace)
    try:
        if base is None:
            return BPETokenizer(pairs, pattern=trace.pattern, special_tokens=trace.special_tokens)
        vocabulary = base.vocabulary.extended(pairs, base.vocab_size)
        return BPETokenizer(vocabulary, pattern=trace.pattern, special_tokens=trace.special_tokens)
    except (TokenizerError, TypeError, AttributeError, IndexError) as error:
        raise FormatError(f"the trace cannot be replayed: {error}") from error


def _base(trace: TrainingTrace) -> BPETokenizer | None:
    return None if trace.continued_from is None else BPETokenizer.from_dict(trace.continued_from)


def check(trace: TrainingTrace, texts: Corpus) -> None:
    """Recount every pair of the training text before every merge, and hold the trace to it.

    It takes the readable trainer, so time grows with the text times the merges: for small corpora.

    Raises:
        FormatError: a merge that this text does not give, with what it gives.
    """
    split, names = make_pretokenizer(trace.pattern).split, name_expression(trace.special_tokens)
    words: Counter[bytes] = Counter()
    for text in read_texts(texts):
        for part in [text] if names is None else names.split(text)[::2]:  # [1::2] are the names
            words.update(piece.encode("utf-8", "surrogateescape") for piece in split(part))
    counted: list[MergeRecord] = []
    base = _base(trace)
    given = {} if base is None else {"base": base.vocabulary, "first_id": base.vocab_size}
    train_readable(words, len(trace.records), trace.tie_break, counted, **given)
    for number, record in enumerate(trace.records):
        found = counted[number] if number < len(counted) else None
        if record != found:
            raise FormatError(f"merge {number}: the trace says {record}, and the text gives {found}")


def _json(line: bytes, number: int) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"line {number}: expected a JSON object, found something else ({error})") from error


def _record(line: Any, number: int) -> MergeRecord:
    if isinstance(line, dict) and set(line) == set(_FIELDS):
        pair, runner_up = _pair(line["pair"]), _pair(line["runner_up"])
        count, runner_up_count = as_integer(line["count"]), as_integer(line["runner_up_count"])
        absent = line["runner_up"] is None and runner_up_count == 0
        if pair and (runner_up or absent) and count is not None and runner_up_count is not None:
            return MergeRecord(pair, count, runner_up, runner_up_count)
    raise FormatError(f"line {number}: expected the fields {', '.join(_FIELDS)} of a merge, found {line!r}")


def _pair(value: Any) -> Pair | None:
    ids = [as_integer(part) for part in value] if isinstance(value, list) else []
    return (ids[0], ids[1]) if len(ids) == 2 and None not in ids else None
