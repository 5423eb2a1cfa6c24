"""The figures of a text: their limits, and how `tgl eval` prints them."""

import math
import tracemalloc

import numpy as np
import pytest
from typer.testing import CliRunner

from transformer import evaluation
from transformer.cli.app import app
from transformer.config import GPTConfig
from transformer.data import DataError
from transformer.evaluation import Evaluation, evaluate
from transformer.model import GPT

MODEL = GPT(GPTConfig(vocab_size=256, block_size=8, layers=1, heads=2, channels=8))


class Bytes:
    """One token a byte."""

    vocab_size = 256

    def decode_bytes(self, ids):
        return bytes(ids)


def test_perplexity_beyond_a_float_is_infinite():
    far = Evaluation(nats=1e6, tokens=100, text_bytes=1000, words=10)
    assert far.word_perplexity == far.token_perplexity == math.inf
    near = Evaluation(nats=705.0, tokens=1, text_bytes=1, words=1)
    assert near.word_perplexity == near.token_perplexity == math.exp(705.0)


@pytest.mark.parametrize("ids", [[], [65]])
@pytest.mark.parametrize("stride", [None, 4])
def test_fewer_than_two_tokens_are_refused_and_not_scored_as_zero(ids, stride):
    with pytest.raises(DataError, match=rf"needs at least 2 tokens, .* got {len(ids)}"):
        evaluate(MODEL, np.array(ids, np.uint16), Bytes(), stride=stride)


def test_two_tokens_are_enough():
    assert evaluate(MODEL, np.array([65, 66], np.uint16), Bytes()).tokens == 1


@pytest.mark.parametrize("settings, message", [
    (dict(stride=0), "stride must be from 1 to the context 8, got 0"),
    (dict(stride=9), "stride must be from 1 to the context 8, got 9"),
    (dict(limit=0), "limit must be at least 1 window"),
])  # fmt: skip
def test_windows_that_score_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        evaluate(MODEL, np.arange(40, dtype=np.uint16), Bytes(), **settings)


@pytest.mark.parametrize("stride", [None, 1, 3, 8])
@pytest.mark.parametrize("limit, count", [(1, 1), (3, 3), (1000, None)])
def test_a_limit_scores_so_many_windows_evenly_spaced_whatever_the_stride(stride, limit, count):
    ids, seen = np.arange(100, dtype=np.uint16), []
    part = evaluate(MODEL, ids, Bytes(), stride=stride, limit=limit, progress=lambda done, of: seen.append(of))
    whole = evaluate(MODEL, ids, Bytes(), stride=stride)
    if count is None:
        assert part == whole and whole.tokens == 99
    else:
        assert set(seen) == {count} and 0 < part.tokens <= 8 * count and part.text_bytes == part.tokens
        assert part.tokens < whole.tokens


@pytest.mark.parametrize("count", [2, 8, 9, 10, 17, 100])
@pytest.mark.parametrize("stride", [None, 1, 3, 8])
def test_windows_score_each_token_after_the_first_once_and_in_order(count, stride, monkeypatch):
    scored = []
    monkeypatch.setattr(evaluation, "batch_loss", lambda model, x, y: scored.extend(y[y != -100]) or 0.0)
    evaluate(MODEL, np.arange(count, dtype=np.uint16), Bytes(), stride=stride)
    assert scored == list(range(1, count))


def test_a_long_text_is_not_copied_once_a_window():
    class Looked(Exception):
        pass

    def look(done, of):
        raise Looked(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        with pytest.raises(Looked) as seen:
            evaluate(MODEL, np.zeros(20_000, np.uint16), Bytes(), stride=1, progress=look)
    finally:
        tracemalloc.stop()
    assert seen.value.args[0] < 2_000_000  # three numbers a window; its tokens, copied, were five times that


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    (folder / "text.txt").write_text("To be, or not to be, that is the question. " * 40)
    result = tgl("train", "--data", folder / "text.txt", "--tokenizer", "char", "--layers", 1, "--heads", 2, "--channels", 16,
                 "--block-size", 16, "--batch-size", 4, "--steps", 2, "--out", folder / "run")  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    return folder


def tgl(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def test_eval_prints_a_block_for_each_text_that_fits_a_narrow_pipe(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    odd = folder / "my[red] :smile: text of quite a long name, as some have.txt"
    odd.write_text("To be or not. " * 30)
    output = tgl("eval", "--from", folder / "run", "--data", folder / "text.txt", "--data", odd).output
    lines = output.splitlines()
    assert len(lines) == 9 and lines[0] == str(folder / "text.txt") and lines[4] == "" and lines[5] == str(odd)
    for block in (lines[1:4], lines[6:]):
        assert [line.split("  ")[1] for line in block] == ["windows", "disjoint", "sliding by 8"]
        assert all(len(line) <= 80 and "…" not in line for line in block)
        assert len({len(line) for line in block}) == 1
    assert lines[2].split()[1] == "1,719"


def test_eval_keeps_its_columns_for_the_largest_figures(folder, monkeypatch):
    huge = Evaluation(nats=195_182_345 * 690.0, tokens=195_182_345, text_bytes=1, words=1)
    monkeypatch.setattr("transformer.cli.inspect.evaluate", lambda *a, **k: huge)
    lines = tgl("eval", "--from", folder / "run", "--data", folder / "text.txt").output.splitlines()
    assert lines[2].split() == ["disjoint", "195,182,345", "690.0000", "1.943e+11", f"{math.exp(690):.3e}", "inf"]
    assert {len(line) for line in lines[1:]} == {78}


def test_a_stride_of_nothing_is_refused_before_anything_is_scored(folder, monkeypatch):
    monkeypatch.setattr(evaluation, "batch_loss", lambda *a: 1 / 0)
    for stride in (0, -1, 17):
        result = tgl("eval", "--from", folder / "run", "--data", folder / "text.txt", "--stride", stride)
        assert isinstance(result.exception, ValueError), result.exception
        assert f"stride must be from 1 to the context 16, got {stride}" in str(result.exception)


def test_a_text_of_one_token_is_refused_by_its_name(folder):
    (folder / "one.txt").write_text("T")
    result = tgl("eval", "--from", folder / "run", "--data", folder / "one.txt")
    assert "one.txt: evaluate: needs at least 2 tokens" in str(result.exception) and result.output == ""
