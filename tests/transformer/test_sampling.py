"""Picking a token: temperature, top-k, top-p at their edges; and evaluation of texts that say nothing."""

import math

import numpy as np
import pytest

from tinygrad_lite import Generator
from tokenizer import CharTokenizer
from transformer.config import GPTConfig
from transformer.evaluation import Evaluation, evaluate
from transformer.model import GPT
from transformer.sampling import check_sampling, pick


def drawn(logits, count=200, **settings):
    generator = Generator(0)
    return {pick(np.array(logits, np.float32), generator, **settings) for _ in range(count)}


def test_top_k_keeps_exactly_k_also_among_equals():
    assert drawn([1.0] * 10, top_k=1) == {0}
    assert drawn([3.0, 1, 1, 1, 1, 0], top_k=2, temperature=5.0) == {0, 1}
    assert drawn([1.0, 2, 3], top_k=99, temperature=9.0) == {0, 1, 2}


@pytest.mark.parametrize("temperature", [0.0, 1e-307, 1e-3])
def test_a_tiny_temperature_takes_the_most_likely(temperature):
    assert drawn([0.0, 5.0, 4.9, -3.0], temperature=temperature) == {1}


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    assert (
        drawn(logits, top_p=0.5) == {0}
        and drawn(logits, top_p=0.51) == {0, 1}
        and drawn(logits, top_p=1.0, count=900) == {0, 1, 2, 3}
    )


@pytest.mark.parametrize(
    "wrong",
    [dict(temperature=math.nan), dict(temperature=-1), dict(temperature=math.inf), dict(top_k=0), dict(top_p=0.0)],
    ids=str,
)
def test_settings_that_mean_nothing_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        check_sampling(**{"temperature": 1.0, "top_k": None, "top_p": None, **wrong})


def test_a_perplexity_beyond_floats_is_infinite_and_not_a_made_up_number():
    assert Evaluation(nats=1e6, tokens=10, text_bytes=10, words=1).word_perplexity == math.inf
    assert Evaluation(nats=2.0, tokens=2, text_bytes=2, words=1).token_perplexity == pytest.approx(math.e)


def test_a_text_without_a_target_is_refused():
    tok = CharTokenizer.train("ab")
    model = GPT(GPTConfig(vocab_size=tok.vocab_size, block_size=4, layers=1, heads=1, channels=4))
    with pytest.raises(ValueError, match="1 tokens, and a loss needs two"):
        evaluate(model, np.array([0]), tok)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_dropout_in_training_may_use_a_cache(kv_heads):
    from transformer.attention import Cache
    from transformer.model import as_tokens

    config = GPTConfig(vocab_size=7, block_size=8, layers=1, heads=2, channels=8, kv_heads=kv_heads, dropout=0.5)
    model, cache = GPT(config), Cache(1, config)
    model(as_tokens([[1, 2, 3]]), cache=cache)
    assert model(as_tokens([[4, 5]]), cache=cache).shape == (1, 2, 7)
