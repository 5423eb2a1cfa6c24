"""The record of a training: kept, replayed, and held to the text."""

import argparse
import inspect
import json
import random
import textwrap
from collections import Counter

import pytest

from tokenizer import BPETokenizer, FormatError
from tokenizer.bpe_readable import train_readable
from tokenizer.pretokenize import make_pretokenizer
from tokenizer.trace import TrainingTrace, check, replay

TEXT = "the cat sat on the mat; the dog and the cat sat at the door: that hat, that cat. aaaa aaa aa " * 2 + "<end>"


def traced(text=TEXT, merges=40, pattern="gpt2", tie_break="lowest-id"):
    records = []
    words = Counter(piece.encode() for part in text.split("<end>") for piece in make_pretokenizer(pattern).split(part))
    train_readable(words, merges, tie_break, records)
    special = {"<end>": 256 + len(records)}
    return TrainingTrace(tuple(records), pattern, special, tie_break)


TRACE = traced()


def test_the_tokenizer_is_replayed_from_the_file_alone(tmp_path):
    TRACE.save(tmp_path / "trace.jsonl")
    loaded = TrainingTrace.load(tmp_path / "trace.jsonl")
    assert loaded == TRACE and [file.name for file in tmp_path.iterdir()] == ["trace.jsonl"]
    trained = BPETokenizer.train(TEXT, 256 + len(TRACE.records) + 1, special_tokens=["<end>"])
    assert replay(loaded).to_dict() == trained.to_dict()


@pytest.mark.parametrize("tie_break", ["lowest-id", "greatest-bytes"])
@pytest.mark.parametrize("pattern", ["gpt2", None, r"\w+"])
def test_every_line_is_held_to_the_text(pattern, tie_break):
    trace = traced(pattern=pattern, tie_break=tie_break)
    check(trace, TEXT)
    assert any(record.tie_broken for record in trace.records)
    for number in random.Random(1).sample(range(len(trace.records)), 5):
        for field in ("count", "runner_up_count"):
            record = trace.records[number]
            wrong = record._replace(**{field: getattr(record, field) + 1})
            records = (*trace.records[:number], wrong, *trace.records[number + 1 :])
            with pytest.raises(FormatError, match=f"merge {number}: the trace says"):
                check(TrainingTrace(records, trace.pattern, trace.special_tokens, trace.tie_break), TEXT)


@pytest.mark.slow
@pytest.mark.parametrize("tie_break", ["lowest-id", "greatest-bytes"])
@pytest.mark.parametrize("pattern", ["gpt2", "cl100k", "o200k"])
def test_every_line_of_a_longer_training_is_held_to_its_text(pattern, tie_break):
    text = inspect.getsource(argparse) + inspect.getsource(textwrap)
    records = []
    tokenizer = BPETokenizer.train(text, 256 + 400, pattern=pattern, tie_break=tie_break, record=records)
    trace = TrainingTrace.of(tokenizer, records, tie_break)
    assert len(records) == 400 and replay(trace).to_dict() == tokenizer.to_dict()
    check(trace, text)


@pytest.mark.parametrize("pattern", ["gpt2", None])
def test_a_training_that_went_on_is_replayed_and_held_to_its_text(tmp_path, pattern):
    base = BPETokenizer.train(TEXT[:90], 270, pattern=pattern, special_tokens=["<end>"])
    records = []
    longer = BPETokenizer.train(TEXT, 290, pattern="gpt2", special_tokens=["<new>"], continue_from=base, record=records)
    trace = TrainingTrace.of(longer, records, continued_from=base)
    trace.save(tmp_path / "trace.jsonl")
    loaded = TrainingTrace.load(tmp_path / "trace.jsonl")
    assert len(records) > 10 and replay(loaded).to_dict() == longer.to_dict()
    check(loaded, TEXT)
    assert longer.special_tokens["<end>"] == base.special_tokens["<end>"]


def test_a_merge_after_the_last_one_of_the_text_is_found_out():
    longer = TrainingTrace((*TRACE.records, TRACE.records[-1]), TRACE.pattern, TRACE.special_tokens)
    with pytest.raises(FormatError, match=f"merge {len(TRACE.records)}: .* and the text gives None"):
        check(longer, TEXT)


def _with(line, **fields):
    return json.dumps({**json.loads(line), **fields})


@pytest.mark.parametrize("damage, message", [
    (lambda lines: [], "line 1: expected a JSON object"),
    (lambda lines: ["{}", *lines[1:]], "the trace of a training"),
    (lambda lines: [_with(lines[0], version=2), *lines[1:]], "expected version 1, found 2"),
    (lambda lines: [_with(lines[0], tie_break="random"), *lines[1:]], "expected tie_break"),
    (lambda lines: [lines[0].replace("pattern", "patern"), *lines[1:]], "lacks the field 'pattern'"),
    (lambda lines: lines[:-1], "announces 29 merges and 28 lines follow"),
    (lambda lines: [*lines[:2], "[1, 2", *lines[3:]], "line 3: expected a JSON object"),
    (lambda lines: [*lines[:2], '{"pair": [1, 2]}', *lines[3:]], "line 3: expected the fields pair, count"),
    (lambda lines: [*lines[:2], _with(lines[2], count="7"), *lines[3:]], "line 3: expected the fields"),
    (lambda lines: [*lines[:2], _with(lines[2], runner_up=None), *lines[3:]], "line 3: expected the fields"),
    (lambda lines: [*lines[:2], _with(lines[2], count=10**9), *lines[3:]], "line 3: counts that no training has"),
    (lambda lines: [*lines[:2], _with(lines[2], count=1, runner_up_count=2), *lines[3:]], "line 3: counts that no"),
])  # fmt: skip
def test_a_damaged_file_is_refused_and_its_line_named(tmp_path, damage, message):
    file = tmp_path / "trace.jsonl"
    TRACE.save(file)
    file.write_text("\n".join(damage(file.read_text().splitlines())))
    with pytest.raises(FormatError, match=message) as error:
        TrainingTrace.load(file)
    assert str(file) in str(error.value)


def test_merges_that_no_tokenizer_has_are_not_replayed():
    wrong = TRACE.records[0]._replace(pair=(400, 3))
    with pytest.raises(FormatError, match="cannot be replayed"):
        replay(TrainingTrace((wrong,)))
