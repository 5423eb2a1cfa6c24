"""The bound counts what a step multiplies, and the process that measures multiplies what it says."""

import numpy as np
import pytest

from benchmarks.bound import Bound, Product, StepMeter, _operand, attention_products, step_products
from benchmarks.train_step import count_parameters
from benchmarks.training import CONFIGS, Setup
from tinygrad_lite import Generator
from transformer.config import GPTConfig
from transformer.model import GPT

SMALL = GPTConfig(50, 16, layers=3, heads=2, channels=24)


def test_the_products_of_a_step_are_six_operations_a_token_and_weight():
    linear, _ = step_products(SMALL, batch=5)
    weights = sum(
        p.size for n, p in GPT(SMALL, Generator(0)).named_parameters() if p.ndim == 2 and "positions" not in n
    )
    assert sum(n * product.flops for product, n in linear.items()) == 6 * 5 * 16 * weights


@pytest.mark.parametrize("config", [SMALL, GPTConfig(50, 16, layers=1, heads=4, kv_heads=2, channels=16, mlp="swiglu")])
def test_grouped_heads_and_gated_layers_are_counted_too(config):
    linear, attention = step_products(config, batch=2)
    weights = sum(
        p.size for n, p in GPT(config, Generator(0)).named_parameters() if p.ndim == 2 and "positions" not in n
    )
    assert sum(n * product.flops for product, n in linear.items()) == 6 * 2 * 16 * weights
    square = 2 * 16 * 16 * config.head_size
    assert sum(n * product.flops for product, n in attention.items()) == config.layers * 6 * 2 * config.heads * square


@pytest.mark.parametrize("layout", ["x y", "x yt", "xt y"])
def test_operands_are_stored_as_the_layout_says(layout):
    product = Product(3, 4, 5, layout, stack=2)
    x, y = _operand("x", 3, 4, product), _operand("y", 4, 5, product)
    assert x.shape == (2, 3, 4) and y.shape == (2, 4, 5)
    assert x[0].flags.c_contiguous != ("xt" in layout) and y[0].flags.c_contiguous != ("yt" in layout)


def test_a_product_and_the_stream_are_measured_in_a_process_of_their_own(monkeypatch):
    bound = Bound(threads=1, repeats=2)
    small, large = bound.product_ms(Product(8, 8, 8)), bound.product_ms(Product(400, 400, 400, "xt y"))
    stream = bound.stream()
    bound.close()
    assert 0 < small < large and stream["read"] > 0 and stream["update"] > 0


def test_a_steps_bound_is_the_best_of_all_visits():
    meter = StepMeter(SMALL, 2, parameters=1000, threads=1, repeats=1)
    meter.bound.close()
    speeds = iter([1.0, 4.0])

    class Machine:
        """Four times as slow at the first visit as at the second, in products; the stream the other way round."""

        def __init__(self):
            self.speed = next(speeds)

        def product_ms(self, product):
            return 8.0 / self.speed

        def stream(self):
            return {"update": 100.0 / self.speed}

        def close(self):
            """Nothing to end."""

    for _ in range(2):
        meter.bound = Machine()
        meter.visit()
    bound = meter.close()
    linear, attention = step_products(SMALL, 2)
    assert bound.linear_ms == 2.0 * sum(linear.values()) and bound.attention_ms == sum(attention.values())
    assert bound.bytes_ms == 4 * 1000 * 8 / 100.0 and bound.ms == bound.linear_ms + bound.attention_ms + bound.bytes_ms


@pytest.mark.parametrize("config", [SMALL, GPTConfig(50, 16, layers=2, heads=2, channels=8, bias=False)])
def test_parameters_are_counted_from_sizes_alone(config):
    setup = Setup(config, 1, 1, 1e-3, 1, (0.9, 0.99))
    assert count_parameters(setup) == GPT(config, Generator(0)).num_parameters()


def test_c_is_gpt_2():
    assert (
        count_parameters(CONFIGS["C"]) == 124_475_904 - (1024 - 64) * 768
    )  # with a padded vocabulary, a shorter context


def test_attention_counts_two_products_forward_and_four_backward():
    assert sum(attention_products(4, 32, 8).values()) == 6 and np.prod([4, 32, 32, 8]) * 12 == sum(
        n * p.flops for p, n in attention_products(4, 32, 8).items()
    )
