"""What the benchmarks share: sides that take turns, text to learn, tables."""

import json
import os

import numpy as np
import pytest

from benchmarks import train_step
from benchmarks.generate import GPT2, first_difference, weight_bytes
from benchmarks.pair import Side, take_turns
from benchmarks.report import Times, last_line, number, ratios, table
from benchmarks.scaling import powers_up_to
from benchmarks.training import CONFIGS, Batches, Setup, learnable_text, make_ours, make_torch
from transformer.config import GPTConfig

TINY = Setup(GPTConfig(65, 16, layers=1, heads=2, channels=16, bias=False), 8, 5, 1e-2, 10, (0.9, 0.99))


def make_power(base):
    """What a side is given here."""
    if base < 0:
        raise ValueError("no power")
    return lambda exponent: (base**exponent, os.environ.get("BENCHMARK_TEST"))


def test_sides_take_turns_and_answer_in_order():
    sides = {"two": Side(make_power, 2, environment={"BENCHMARK_TEST": "x"}), "three": Side(make_power, 3)}
    answers = take_turns(sides, [[1, 2], [3]])
    assert [[r for _, r in round_] for round_ in answers["two"]] == [[(2, "x"), (4, "x")], [(8, "x")]]
    assert [[r for _, r in round_] for round_ in answers["three"]] == [[(3, None), (9, None)], [(27, None)]]
    assert all(ms >= 0 for round_ in answers["two"] for ms, _ in round_)
    assert all(side.close() > 5 for side in sides.values())
    assert "BENCHMARK_TEST" not in os.environ


@pytest.mark.parametrize("base, argument, said", [(-1, 1, "ValueError: no power"), (2, "x", "TypeError")])
def test_what_a_side_raises_is_raised_here(base, argument, said):
    with pytest.raises(RuntimeError, match=said):
        Side(make_power, base).run([argument])


def make_quitter():
    """A side that dies."""
    return os._exit


def test_a_side_that_dies_is_named_with_its_exit_code():
    with pytest.raises(RuntimeError, match="exit code 7"):
        Side(make_quitter).run([7])


@pytest.mark.parametrize("vocab", [65, 50304])
def test_the_text_can_be_learned_and_stays_in_the_vocabulary(vocab):
    text = learnable_text(20_000, vocab)
    assert text.min() >= 0 and text.max() < vocab
    pairs = {}
    for a, b in zip(text, text[1:]):
        pairs.setdefault(a, []).append(b)
    most = sum(max(np.unique(after, return_counts=True)[1]) for after in pairs.values())
    assert 0.8 < most / len(text) < 0.95  # what is known of the next token from the one before


def test_batches_are_the_same_in_every_run_and_the_rate_warms_up():
    a, b = Batches(TINY).take(3), Batches(TINY).take(3)
    assert all(np.array_equal(x, y) for x, y in zip(a, b)) and a[0].shape == (8, 17)
    assert [TINY.lr_at(i) for i in (0, 4, 9, 50)] == pytest.approx([1e-3, 5e-3, 1e-2, 1e-2])
    assert CONFIGS["C"].lr_at(0) == pytest.approx(6e-4 / 2000)


def test_our_step_learns_the_text():
    from tinygrad_lite.threads import get_num_threads

    step, batches = make_ours(TINY, get_num_threads()), Batches(TINY)
    losses = [step(tokens) for tokens in batches.take(60)]
    assert losses[0] > 4 and losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("mode, adamw", [
    ("eager", "fused"), ("eager", "foreach"), pytest.param("compile", "fused", marks=pytest.mark.slow),
])  # fmt: skip
def test_torchs_step_is_ours_in_each_of_its_ways(mode, adamw):
    pytest.importorskip("torch", reason="the peer whose losses are compared is not installed")
    from tinygrad_lite.threads import get_num_threads

    ours, theirs = make_ours(TINY, get_num_threads()), make_torch(TINY, 1, mode, adamw)
    batches = Batches(TINY).take(20)
    np.testing.assert_allclose([ours(x) for x in batches], [theirs(x) for x in batches], rtol=0, atol=1e-4)


def test_a_table_lines_up_numbers_to_the_right(capsys):
    table(["name", "ms"], [["a", 1.0], ["longer", 12345.0], ["none", None]])
    assert capsys.readouterr().out.splitlines() == ["name        ms", "a            1", "longer  12,345", "none"]


def test_numbers_show_the_digits_that_matter():
    assert [number(x) for x in (0.012345, 1.2345, 99.96, 123.4, 12345.6)] == ["0.0123", "1.23", "100", "123", "12,346"]


def test_times_are_the_median_and_where_eight_in_ten_lie():
    times = Times.of([float(i) for i in range(1, 12)])
    assert (times.median, times.low, times.high, times.least) == (6.0, 2.0, 10.0, 1.0) and str(times) == "6 (2 to 10)"


def test_the_last_line_is_json_with_the_common_words(capsys):
    last_line(config="A", **ratios(2.0, 3.0, 1.0))
    assert json.loads(capsys.readouterr().out) == {
        "config": "A", "ours_ms": 2.0, "peer_ms": 3.0, "ratio": 1.5, "bound_ms": 1.0, "over_bound": 2.0
    }  # fmt: skip


def test_where_token_lists_part():
    assert first_difference([1, 2], [1, 2]) is None
    assert first_difference([1, 2, 3], [1, 5, 3]) == 1 and first_difference([1], [1, 2]) == 1


def test_a_token_reads_gpt_2s_weights_once():
    assert weight_bytes(GPT2) == 4 * (124_439_808 - 1024 * 768)  # all but the positions


def test_threads_are_varied_by_powers_of_two_up_to_all():
    assert powers_up_to(1) == (1,) and powers_up_to(6) == (1, 2, 4, 6) and powers_up_to(8) == (1, 2, 4, 8)


class Timed:
    """A side that takes so long, or does not run."""

    MS = {("eager", "fused"): 9.0, ("eager", "foreach"): 8.0, ("compile", "foreach"): 7.0}

    def __init__(self, make, setup, threads, mode, adamw):
        self.way = mode, adamw

    def run(self, batches):
        if self.way not in self.MS:
            raise RuntimeError("CppCompileError: no compiler\nlong text")
        return [(100.0, 0.0)] * 2 + [(self.MS[self.way] + i, 0.0) for i in range(len(batches) - 2)]

    def close(self):
        return 0.0


@pytest.mark.parametrize("peer, expected", [("best", ("compile", "foreach")), ("eager", ("eager", "foreach"))])
def test_the_peer_is_the_fastest_way_that_runs(monkeypatch, capsys, peer, expected):
    monkeypatch.setattr(train_step, "Side", Timed)
    assert train_step.find_peer(TINY, 1, train_step.MODES[peer]) == expected
    said = capsys.readouterr().out
    assert "eager with foreach AdamW 8.0" in said and ("no compiler" in said) == (peer == "best")


def test_without_any_way_the_benchmark_says_what_to_install(monkeypatch):
    monkeypatch.setattr(train_step, "Side", Timed)
    monkeypatch.setattr(Timed, "MS", {})
    with pytest.raises(SystemExit, match="pip install torch"):
        train_step.find_peer(TINY, 1, ("eager",))
