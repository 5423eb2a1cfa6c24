"""What counting reaches, against figures worked out by hand."""

import math

import numpy as np
import pytest

from transformer.baseline import baselines


def test_counts_of_a_text_that_alternates():
    train, val = np.array([0, 1] * 50), np.array([0, 1, 0])
    found = baselines(train, val, 2)
    assert found.uniform == pytest.approx(math.log(2))
    assert found.single == pytest.approx(math.log(2))  # 51 of 102 each
    # After 0 came 1, 50 times, one kind: (50 + 1 * 0.5) / 51. After 1 came 0, 49 times: (49 + 0.5) / 50.
    assert found.pair == pytest.approx(-(math.log(50.5 / 51) + math.log(49.5 / 50)) / 2)


def test_a_token_never_seen_in_training_is_improbable_and_not_impossible():
    found = baselines(np.array([0, 1, 0, 1, 1]), np.array([2, 2, 0, 2]), 3)
    assert math.isfinite(found.single) and math.isfinite(found.pair) and found.pair > found.uniform


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_of_what_may_follow_add_up_to_one(seed):
    rng = np.random.default_rng(seed)
    train, v = rng.integers(0, 5, 40), 5
    for first in range(v):
        total = sum(math.exp(-baselines(train, np.array([first, second]), v).pair) for second in range(v))
        assert total == pytest.approx(1.0)


def test_pairs_beat_single_tokens_on_text_that_has_order():
    ids = np.frombuffer(b"the cat sat on the mat and the dog sat on the log. " * 40, np.uint8)
    found = baselines(ids[:1500], ids[1500:], 256)
    assert found.pair < found.single < found.uniform
