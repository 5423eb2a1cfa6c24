"""What is drawn from logits, which settings are refused, and the cache beside dropout."""

import math
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from tinygrad_lite import Generator
from transformer.attention import Cache
from transformer.cli.app import app
from transformer.config import GPTConfig
from transformer.model import GPT, as_tokens
from transformer.sampling import check_sampling, generate, pick

SIZES = dict(vocab_size=11, block_size=12, layers=2, heads=4, channels=16)


def drawn(logits, count=300, **settings):
    generator = Generator(3)
    return [pick(np.asarray(logits, np.float32), generator, **settings) for _ in range(count)]


@pytest.mark.parametrize("temperature", [math.nan, math.inf, -0.5])
def test_a_temperature_that_means_nothing_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature must be 0 .* got {temperature}"):
        check_sampling(temperature, None, None)
    with pytest.raises(ValueError, match="temperature"):
        next(generate(GPT(GPTConfig(**SIZES)), [1], 1, temperature=temperature))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-300, 1e-307, 5e-324])
def test_a_tiny_temperature_takes_the_most_likely_without_overflow(temperature):
    assert set(drawn([-80.0, 30.0, 90.0, 89.0], 20, temperature=temperature)) == {2}
    assert set(drawn([-80.0, -30.0, -90.0], 20, temperature=temperature, top_k=2)) == {1}


@pytest.mark.parametrize("logits, k, kept", [
    ([1.0, 1.0, 1.0, 1.0], 2, {0, 1}),
    ([0.0, 1.0, 2.0, 1.0, 1.0, 0.0], 3, {1, 2, 3}),
    ([5.0, 5.0, 1.0], 1, {0}),
    ([1.0, 1.5, 1.2], 2, {1, 2}),
    ([1.0, 1.0], 5, {0, 1}),
])  # fmt: skip
def test_top_k_keeps_exactly_k_and_of_equals_the_lowest(logits, k, kept):
    assert set(drawn(logits, top_k=k)) == kept


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {}, {"top_k": 1}, {"top_p": 0.5}])
@pytest.mark.parametrize("logits, held", [
    ([0.0, math.nan, 1.0], "NaN"), ([math.inf, math.nan], "NaN"), ([1.0, math.inf], "+inf"), ([-math.inf] * 3, "-inf alone"),
])  # fmt: skip
def test_logits_that_name_no_token_are_refused(logits, held, settings):
    with pytest.raises(ValueError, match=f"the logits hold {re.escape(held)}, .*earlier checkpoint"):
        drawn(logits, 1, **settings)


def test_a_token_at_minus_infinity_is_never_drawn():
    assert set(drawn([-math.inf, 0.0, -math.inf, 0.0])) == {1, 3}
    assert drawn([-math.inf, 0.0], 1, temperature=0.0) == [1]


def test_frequencies_follow_the_softmax_at_the_temperature():
    logits, temperature = np.array([0.0, 1.0, 2.0]), 0.7
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    counts = np.bincount(drawn(logits, 4000, temperature=temperature), minlength=3)
    np.testing.assert_allclose(counts / 4000, expected, atol=0.03)  # more than four deviations


def test_a_negative_number_of_tokens_is_refused():
    result = CliRunner().invoke(app, ["sample", "--from", "nowhere", "--tokens", "-3"])
    assert result.exit_code == 2 and "--tokens" in result.output


@pytest.mark.parametrize("kv_heads, window", [(1, None), (2, 3), (4, 5)])
def test_dropout_and_a_cache_that_holds_positions_go_together(kv_heads, window):
    # So small a rate that nothing is dropped: the training form must then equal the other.
    model = GPT(GPTConfig(**SIZES, kv_heads=kv_heads, window=window, dropout=1e-12))
    ids = np.random.default_rng(0).integers(0, 11, (2, 9))
    expected = model.eval()(as_tokens(ids)).numpy()
    model.train()
    cache, parts = Cache(2, model), []
    for piece in (ids[:, :4], ids[:, 4:5], ids[:, 5:]):
        parts.append(model(as_tokens(piece), cache=cache).numpy())
    np.testing.assert_allclose(np.concatenate(parts, 1), expected, atol=1e-5 * np.abs(expected).max())


def test_a_cache_is_cut_to_numpys_integers_as_to_pythons():
    model, ids = GPT(GPTConfig(**SIZES, positions="rope")).eval(), np.random.default_rng(0).integers(0, 11, (1, 9))
    after = []
    for length in (3, np.int64(3), np.array(3, np.int32)):
        cache = Cache(1, model)
        model(as_tokens(ids[:, :5]), cache=cache)
        cache.cut_to(length)
        after.append(model(as_tokens(ids[:, 5:]), cache=cache).numpy())
        assert type(cache.length) is int and cache.length == 7
    np.testing.assert_array_equal(after[1], after[0])
    np.testing.assert_array_equal(after[2], after[0])


@pytest.mark.parametrize("length, error", [
    (2.0, "TypeError: cut_to: expected an integer, .* got 2.0"), (None, "TypeError: cut_to: expected an integer"),
    (np.array([2.0]), r"TypeError: cut_to: an array must be int64 \(1,\)"), (-1, "ValueError: .* from 0 to 5, got -1"),
    (6, "ValueError: .* from 0 to 5, got 6"),
])  # fmt: skip
def test_a_cache_refuses_lengths_that_it_cannot_be_cut_to(length, error):
    model = GPT(GPTConfig(**SIZES)).eval()
    cache = Cache(1, model)
    model(as_tokens([[1, 2, 3, 4, 5]]), cache=cache)
    with pytest.raises((TypeError, ValueError)) as caught:
        cache.cut_to(length)
    assert re.match(error, f"{caught.type.__name__}: {caught.value}")
    assert [part.length for part in (cache, *cache.layers)] == [5] * 3
