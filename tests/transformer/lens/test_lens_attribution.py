"""The parts of a logit add up to it, for every kind of norm, position, MLP and head."""

import numpy as np
import pytest
from support.lens_models import KINDS, made, some_ids

from transformer.lens import direct_logit_attribution, patch_positions


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
