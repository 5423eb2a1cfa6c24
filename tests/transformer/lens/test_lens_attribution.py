"""The parts of a logit add up to it, for every kind of norm, position, MLP and head."""

import numpy as np
import pytest
from support.lens_models import KINDS, made, some_ids

from transformer import GPT, GPTConfig
from transformer.lens import direct_logit_attribution, head_scores, logit_lens, patch_heads, patch_positions
from transformer.lens.edit import drift, predict, rank_one_edit


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", (-1, 2))
def test_the_parts_add_up_to_the_logit_and_to_the_lead(kind, position):
    model, ids = made(kind, double=True), some_ids(1)
    for versus in (None, 4):
        found = direct_logit_attribution(model, ids, 3, versus, position)
        np.testing.assert_allclose(found.shares.sum(), found.logit, rtol=1e-12)
        assert len(found.parts) == len(set(found.parts)) == len(found.shares)
    single = direct_logit_attribution(made(kind), ids[0], 3, 4, position)
    np.testing.assert_allclose(single.shares, found.shares, atol=1e-5)
    assert sum(".head." in part for part in found.parts) == 8


def test_in_training_mode_with_dropout_nothing_is_measured():
    model, ids = GPT(GPTConfig(vocab_size=11, block_size=8, layers=1, heads=2, channels=8, dropout=0.1)), some_ids(1)
    metric = lambda logits: logits[:, -1, 0]
    for call in (lambda: direct_logit_attribution(model, ids, 3), lambda: logit_lens(model, ids), lambda: predict(model, ids),
                 lambda: head_scores(model), lambda: rank_one_edit(model, ids, 3, 0), lambda: drift(model, None, ids),
                 lambda: patch_positions(model, ids, some_ids(1, 2), metric),
                 lambda: patch_heads(model, ids, some_ids(1, 2), metric)):  # fmt: skip
        with pytest.raises(ValueError, match=r"dropout acts: call model.eval\(\) first"):
            call()
    model.eval()
    found = direct_logit_attribution(model, ids, 3)
    np.testing.assert_allclose(found.shares.sum(), found.logit, atol=1e-6)


def test_what_is_asked_for_must_exist():
    model = made()
    with pytest.raises(ValueError, match="target must be a token id below 11, got 11"):
        direct_logit_attribution(model, some_ids(1), 11)
    with pytest.raises(ValueError, match="position 6 is outside the 6 tokens"):
        direct_logit_attribution(model, some_ids(1), 1, position=6)
    with pytest.raises(ValueError, match=r"one row of ids \(T,\), got \(2, 6\)"):
        direct_logit_attribution(model, some_ids(2), 1)
    with pytest.raises(ValueError, match=r"no value is named 'blocks.0.nothing'"):
        patch_positions(model, some_ids(1), some_ids(1, 2), lambda x: x[:, -1, 0], "nothing")
