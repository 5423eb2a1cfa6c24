"""A rank-one edit gives its key the new value, in the real model, and leaves nothing behind."""

import numpy as np
import pytest
from support.lens_models import KINDS, VOCAB, made, some_ids

from transformer.lens import run_with_cache
from transformer.lens.edit import LARGEST_NORM, drift, predict, rank_one_edit


def background():
    return np.random.default_rng(7).integers(0, VOCAB, (32, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_the_edited_mlp_writes_what_was_sought_and_the_target_gets_likelier(kind):
    model, ids = made(kind, double=True), some_ids(1)[0]
    target = int(predict(model, ids).probabilities.argmin())
    edit = rank_one_edit(model, ids, target, layer=0, background=background())
    assert np.linalg.matrix_rank(edit.update, tol=1e-5 * np.abs(edit.update).max()) == 1
    before = run_with_cache(model, ids, "blocks.0.mlp.*")[1]
    with edit:
        after = run_with_cache(model, ids, "blocks.0.mlp.*")[1]
        changed = predict(model, ids).probabilities[target]
    old, new = (c["blocks.0.mlp.out"].numpy()[0, -1] for c in (before, after))
    np.testing.assert_allclose(new - old, edit.delta, atol=1e-12)
    assert np.array_equal(
        before["blocks.0.mlp.post"].numpy(), after["blocks.0.mlp.post"].numpy()
    )  # keys are found as before
    assert np.linalg.norm(edit.delta) <= LARGEST_NORM * np.linalg.norm(old) * 1.001
    assert predict(model, ids).probabilities[target] < 0.05 and changed > 0.4
    assert edit.probabilities[-1] > edit.probabilities[0]


def test_the_model_is_as_it_was_bit_by_bit_and_no_parameter_has_a_gradient():
    model, ids = made(), some_ids(1)[0]
    state = model.state_dict()
    edit = rank_one_edit(model, ids, 3, layer=0, position=2, background=background(), steps=3)
    assert all(np.array_equal(state[n], x) for n, x in model.state_dict().items())
    with edit:
        other = [n for n, x in model.state_dict().items() if not np.array_equal(state[n], x)]
        assert other == ["blocks.0.mlp.down.weight"]
        with pytest.raises(RuntimeError, match="has this edit already"):
            edit.apply()
    assert all(np.array_equal(state[n], x) for n, x in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module.has_hooks for module in model.modules())


def test_the_second_moment_spares_keys_that_other_texts_use():
    model, ids = made(double=True), some_ids(1)[0]
    plain = rank_one_edit(model, ids, 3, layer=0, background=ids)  # measured on the prompt alone
    spared = rank_one_edit(model, ids, 3, layer=0, background=background())
    assert 0.0 < drift(model, spared, background())[0] < drift(model, plain, background())[0]


def test_no_smaller_change_in_the_measure_of_usual_keys_gives_the_value():
    model, ids, rng = made(double=True), some_ids(1)[0], np.random.default_rng(2)
    edit = rank_one_edit(model, ids, 3, layer=0, background=background())
    keys = run_with_cache(model, background(), "blocks.0.mlp.post")[1]["blocks.0.mlp.post"].numpy()
    moment = np.einsum("bti,btj->ij", keys, keys) / (keys.shape[0] * keys.shape[1])
    moment += 1e-2 * np.trace(moment) / len(moment) * np.eye(len(moment))
    np.testing.assert_allclose(edit.update @ edit.key, edit.delta, rtol=1e-9)
    for _ in range(5):
        other = rng.normal(size=edit.update.shape)
        other -= np.outer(other @ edit.key, edit.key) / (edit.key @ edit.key)  # changes nothing for this key
        slope = np.trace(edit.update @ moment @ other.T)
        assert abs(slope) < 1e-9 * np.linalg.norm(edit.update @ moment) * np.linalg.norm(other)


def test_what_is_asked_for_must_exist():
    model, ids = made(), some_ids(1)[0]
    for wrong, said in (
        (dict(target=11, layer=0), "target must be a token id below 11, got 11"),
        (dict(target=1, layer=2), "layer must be from 0 to 1, got 2"),
        (dict(target=1, layer=0, position=6), "position 6 is outside the prompt's 6 tokens"),
        (dict(target=1, layer=1, position=2), "blocks.1.mlp.out writes at position 2 reaches the last token's logits"),
    ):
        with pytest.raises(ValueError, match=said):
            rank_one_edit(model, ids, **wrong)
    model = made("window")
    model.blocks[0].mlp.up.bias.data[...] = -100.0  # no hidden unit is ever on: there is no key
    with pytest.raises(ValueError, match="the MLP of layer 0 writes nothing at position 5"):
        rank_one_edit(model, ids, 1, layer=0)
