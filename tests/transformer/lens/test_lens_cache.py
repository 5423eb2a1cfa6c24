"""Activations and gradients by name are those of the model that trains; hooks change what goes on, and nothing else."""

from contextlib import nullcontext

import numpy as np
import pytest
from support.lens_models import KINDS, VOCAB, T, made, some_ids

from tinygrad_lite import Tensor, enable_grad, is_grad_enabled, no_grad
from tinygrad_lite import functional as F
from tinygrad_lite.autograd.mode import GRAD, NO_GRAD, mode
from tinygrad_lite.config import settings
from tinygrad_lite.study import Trace
from transformer import GPT, GPTConfig
from transformer.hf import from_huggingface, to_huggingface
from transformer.lens import ablate, hooked, names_of, patch, run_with_cache
from transformer.model import as_tokens
from transformer.sampling import generate

BETWEEN_MODULES = ["embed", "*resid*", "*norm*", "logits"]


def loss_of(logits):
    return F.cross_entropy(logits.reshape(-1, VOCAB), as_tokens(some_ids(logits.shape[0], 5).reshape(-1)))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_models_in_every_bit_between_modules_and_within_rounding_inside(kind):
    model, ids = made(kind), some_ids()
    plain = model(as_tokens(ids)).numpy()
    for gradients in (False, loss_of):
        logits, cache = run_with_cache(model, ids, BETWEEN_MODULES, gradients)
        assert np.array_equal(logits.numpy(), plain)
        assert np.array_equal(cache["logits"].numpy(), plain)
        logits, cache = run_with_cache(model, ids, gradients=gradients)
        np.testing.assert_allclose(logits.numpy(), plain, rtol=0, atol=2e-5)
        assert list(cache) == names_of(model)


def test_logits_are_the_models_in_every_bit_where_ops_run_as_their_twins_anyway(monkeypatch):
    model, ids = made("llama"), some_ids()
    monkeypatch.setattr(settings, "use_fused", False)
    assert np.array_equal(run_with_cache(model, ids)[0].numpy(), model(as_tokens(ids)).numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_how_the_values_hang_together(kind):
    model = made(kind)
    c, (_, cache) = model.config, run_with_cache(made(kind), some_ids())
    values = {name: x.numpy() for name, x in cache.items()}
    assert values["blocks.0.attention.q"].shape == (2, T, c.heads, c.head_size)
    assert (
        values["blocks.0.attention.k"].shape == values["blocks.0.attention.v"].shape == (2, T, c.kv_heads, c.head_size)
    )
    pattern = values["blocks.1.attention.pattern"]
    assert pattern.shape == (2, c.heads, T, T)
    np.testing.assert_allclose(pattern.sum(-1), 1.0, atol=1e-5)
    seen = np.tril(np.ones((T, T), bool))
    if c.window:
        seen &= ~np.tril(np.ones((T, T), bool), -c.window)
    assert not pattern[:, :, ~seen].any() and pattern[:, :, seen].all()
    assert np.isneginf(values["blocks.1.attention.scores"][:, :, ~seen]).all()
    v = np.repeat(values["blocks.1.attention.v"], c.heads // c.kv_heads, 2)
    np.testing.assert_allclose(np.einsum("bhts,bshd->bthd", pattern, v), values["blocks.1.attention.z"], atol=1e-5)
    for i in range(2):
        at = f"blocks.{i}."
        np.testing.assert_allclose(
            values[at + "resid_pre"] + values[at + "attention.out"], values[at + "resid_mid"], atol=1e-5
        )
        np.testing.assert_allclose(
            values[at + "resid_mid"] + values[at + "mlp.out"], values[at + "resid_post"], atol=1e-5
        )
    start = values["embed"] + values.get("pos_embed", 0.0)
    np.testing.assert_allclose(values["blocks.0.resid_pre"], start, atol=1e-6)


def test_what_is_added_to_the_stream_is_told_after_dropout():
    model = GPT(GPTConfig(vocab_size=VOCAB, block_size=8, layers=2, heads=4, channels=16, dropout=0.5)).train()
    _, cache = run_with_cache(model, some_ids())
    for at in ("blocks.0.", "blocks.1."):
        pre, mid, post, attention, mlp = (
            cache[at + n].numpy() for n in ("resid_pre", "resid_mid", "resid_post", "attention.out", "mlp.out")
        )
        np.testing.assert_allclose(pre + attention, mid, atol=1e-6)
        np.testing.assert_allclose(mid + mlp, post, atol=1e-6)
        assert 0.2 < (mlp == 0.0).mean() < 0.8


@pytest.mark.parametrize("kind", ["gpt2", "llama", pytest.param("window", marks=pytest.mark.slow)])
def test_every_gradient_is_the_slope_of_the_loss_when_the_value_is_patched(kind):
    model, ids = made(kind, double=True), some_ids(1)
    _, cache = run_with_cache(model, ids, gradients=loss_of)
    rng, eps = np.random.default_rng(3), 1e-5

    def loss_with(name, value):
        with no_grad(), hooked(model, {name: patch(value)}):
            return loss_of(model(as_tokens(ids))).item()

    for name in cache:
        x = cache[name].numpy()
        step = np.where(np.isfinite(x), rng.normal(0.0, 1.0, x.shape), 0.0)
        base = np.where(np.isfinite(x), x, -1e30)
        slope = (loss_with(name, base + eps * step) - loss_with(name, base - eps * step)) / (2 * eps)
        expected = float((cache.gradients[name].numpy() * step).sum())  # 0 where the mask is, not NaN
        assert abs(slope - expected) < 1e-6 * max(1.0, abs(slope)), name
        assert name.endswith("attention.k") or abs(slope) > 1e-9, name
    assert all(p.grad is None for p in model.parameters())


def test_gradients_of_a_frozen_model_and_of_what_a_hook_puts_in():
    model, ids = made(), some_ids()
    expected = run_with_cache(model, ids, "blocks.1.mlp.out", loss_of)[1].gradients["blocks.1.mlp.out"].numpy()
    model.requires_grad_(False)
    with no_grad():
        _, cache = run_with_cache(model, ids, ["blocks.1.mlp.out", "embed"], loss_of)
    np.testing.assert_allclose(cache.gradients["blocks.1.mlp.out"].numpy(), expected, atol=1e-6)
    assert cache.gradients["embed"].numpy().any()
    constant = {"blocks.1.resid_post": patch(np.ones(16))}
    _, cache = run_with_cache(model, ids, ["embed", "blocks.1.resid_post"], loss_of, constant)
    assert not cache.gradients["embed"].numpy().any()  # nothing passes a constant
    assert cache.gradients["blocks.1.resid_post"].numpy().any()
    assert np.array_equal(cache["blocks.1.resid_post"].numpy(), np.ones((2, T, 16), np.float32))


def test_names_that_match_nothing_are_errors_that_list_what_there_is():
    model = made("llama")
    for call in (lambda: run_with_cache(model, some_ids(), ["embed", "blocks.0.atention.pattern"]),
                 lambda: hooked(model, {"blocks.2.*": ablate()}),
                 lambda: run_with_cache(model, some_ids(), "pos_embed")):  # fmt: skip
        with pytest.raises(ValueError, match=r"no value is named.*blocks\.N\.attention\.pattern.*N from 0 to 1"):
            call()
    _, cache = run_with_cache(model, some_ids(), "embed")
    with pytest.raises(KeyError, match="kept: embed"):
        cache["logits"]
    with pytest.raises(KeyError, match="without gradients="):
        cache.gradients["embed"]
    with pytest.raises(KeyError, match="no activation of 'embed' was kept; kept: nothing"):
        run_with_cache(model, some_ids(), [])[1]["embed"]
    with pytest.raises(ValueError, match="one element"):
        run_with_cache(model, some_ids(), "embed", lambda logits: logits)
    with pytest.raises(TypeError, match="a function from the logits"):
        run_with_cache(model, some_ids(), "embed", True)


def test_a_hook_on_what_is_never_computed_is_an_error():
    model, ids = made(), as_tokens(some_ids())
    with pytest.raises(RuntimeError, match="logits was never computed"), hooked(model, {"logits": ablate()}):
        model(ids, ids)
    with hooked(model, {"logits": ablate()}):
        pass  # nothing ran, so nothing was missed
    assert mode.state == GRAD


@pytest.mark.parametrize("name", ["pos_embed", "blocks.1.attention.pattern", "blocks.0.attention.z"])
def test_hooks_reach_evaluation_and_generation_which_record_nothing(name):
    model, seen = made(), []
    ids = [int(i) for i in some_ids(1)[0, :3]]
    plain = list(generate(model, ids, 4, temperature=0.0))
    if name == "pos_embed":
        with hooked(model, {name: lambda x, n: seen.append(x.shape)}), no_grad():
            model(as_tokens([ids]))
        assert seen == [(3, 16)] and is_grad_enabled()
        return
    with hooked(model, {name: lambda x, n: seen.append(x.shape)}):
        assert list(generate(model, ids, 4, temperature=0.0)) == plain
    assert len(seen) == 4 and seen[0][0] == 1
    with hooked(model, {name: ablate(heads=[0, 1, 2, 3])}), no_grad():
        changed = model(as_tokens([ids])).numpy()
    with no_grad():
        assert not np.array_equal(changed, model(as_tokens([ids])).numpy())


def test_another_tracer_goes_on_outside_attention():
    model = made()
    with Trace(model) as trace, hooked(model, {"blocks.0.attention.pattern": lambda x, n: None}):
        model(as_tokens(some_ids()))
    assert mode.state == GRAD and mode.tracer is None
    ops = [event.op.name for event in trace]
    assert ops.count("attention_qkv") == 1 and ops.count("layer_norm") == 5  # layer 1's, and all norms


def test_nothing_is_left_behind_also_after_an_error():
    model, ids = made(), some_ids()

    def fails(x, name):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_with_cache(model, ids, hooks={"blocks.0.attention.pattern": fails})
    assert not any(module.has_hooks for module in model.modules())
    assert mode.state == GRAD and mode.tracer is None and is_grad_enabled()
    with no_grad():
        with pytest.raises(ZeroDivisionError), hooked(model, {"*scores": fails}), enable_grad():
            model(as_tokens(ids))
        assert mode.state == NO_GRAD and mode.tracer is None


@pytest.mark.parametrize("of", [nullcontext, no_grad])
def test_an_error_that_is_caught_within_the_context_leaves_nothing_behind_either(of):
    model, ids, wrong = made(), as_tokens(some_ids()), [ZeroDivisionError]

    def fails(x, name):
        if wrong:
            raise wrong.pop()

    with hooked(model, {"blocks.0.attention.pattern": fails}):
        with pytest.raises(ZeroDivisionError), of():
            model(ids)
        loss = loss_of(model(ids))
        assert mode.state == GRAD and mode.tracer is None and loss.requires_grad
    assert mode.state == GRAD and mode.tracer is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_within_another_sees_what_that_one_puts_in_place(kind):
    model, ids = made(kind), some_ids()
    for name in names_of(model):
        hook = {name: patch(0.5, positions=1)}
        expected, theirs = run_with_cache(model, ids, hooks=hook)
        with hooked(model, hook):
            logits, cache = run_with_cache(model, ids)
            again = model(as_tokens(ids)).numpy()  # the outer one goes on as before
        assert np.array_equal(logits.numpy(), expected.numpy()), name
        assert all(np.array_equal(cache[n].numpy(), theirs[n].numpy()) for n in cache), name
        np.testing.assert_allclose(again, expected.numpy(), atol=2e-5, err_msg=name)
        assert mode.state == GRAD and mode.tracer is None
    assert not any(module.has_hooks for module in model.modules())
    embedded, double = model.tokens(as_tokens(ids)).numpy(), hooked(model, {"embed": lambda x, n: x * 2.0})
    with hooked(model, {"embed": lambda x, n: x + 1.0}):
        double.__enter__()
        _, cache = run_with_cache(model, ids, "embed")
        np.testing.assert_array_equal(cache["embed"].numpy(), (embedded + 1.0) * 2.0)
    _, cache = run_with_cache(model, ids, "embed")  # the outer one was left first
    np.testing.assert_array_equal(cache["embed"].numpy(), embedded * 2.0)
    double.__exit__(None, None, None)
    assert not any(module.has_hooks for module in model.modules())


def test_a_hook_must_give_the_same_shape():
    model = made()
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.out must return float32 \(2, 6, 16\)"):
        run_with_cache(model, some_ids(), hooks={"blocks.0.mlp.out": lambda x, name: x[:1]})
    with pytest.raises(TypeError, match="must return None or a Tensor"):
        run_with_cache(model, some_ids(), hooks={"blocks.0.mlp.out": lambda x, name: x.numpy()})
    with pytest.raises(ValueError, match=r"patch: embed is \(2, 6, 16\)"):
        run_with_cache(model, some_ids(), hooks={"embed": patch(np.zeros(5))})
    with pytest.raises(ValueError, match="has no heads"):
        run_with_cache(model, some_ids(), hooks={"embed": ablate(heads=0)})
    with pytest.raises(ValueError, match="outside"):
        run_with_cache(model, some_ids(), hooks={"embed": ablate(positions=6)})


def test_a_patch_of_everything_from_another_run_gives_that_runs_logits():
    model, one, other = made("llama"), some_ids(seed=0), some_ids(seed=9)
    names = names_of(model)
    theirs, cache = run_with_cache(model, other, names)
    for name in ("embed", "blocks.1.resid_pre", "blocks.1.resid_post", "norm"):
        logits, _ = run_with_cache(model, one, "logits", hooks={name: patch(cache)})
        np.testing.assert_allclose(logits.numpy(), theirs.numpy(), atol=1e-5, err_msg=name)


def test_ablations_touch_the_named_heads_and_positions_only():
    model, ids = made(), some_ids(3)
    _, whole = run_with_cache(model, ids)
    z = whole["blocks.0.attention.z"].numpy()
    for by, expected in (
        ("zero", np.zeros(4)),
        ("mean", z.mean((0, 1))[2]),
    ):
        _, cache = run_with_cache(
            model, ids, hooks={"blocks.0.attention.z": ablate(by, heads=2, positions=slice(3, None))}
        )
        got = cache["blocks.0.attention.z"].numpy()
        np.testing.assert_allclose(got[:, 3:, 2], np.broadcast_to(expected, (3, T - 3, 4)), atol=1e-6)
        assert np.array_equal(got[:, :3], z[:, :3]) and np.array_equal(np.delete(got, 2, 2), np.delete(z, 2, 2))
        assert not np.array_equal(cache["logits"].numpy()[:, 3:], whole["logits"].numpy()[:, 3:])
        np.testing.assert_allclose(cache["logits"].numpy()[:, :3], whole["logits"].numpy()[:, :3], atol=1e-5)  # causal
    _, cache = run_with_cache(model, ids, hooks={"blocks.0.attention.z": ablate("resample", seed=4)})
    got = cache["blocks.0.attention.z"].numpy()
    givers = [[np.array_equal(got[i], z[j]) for j in range(3)] for i in range(3)]
    assert np.array_equal(np.sum(givers, 0), [1, 1, 1]) and np.array_equal(np.sum(givers, 1), [1, 1, 1])
    assert not np.diag(givers).any()
    _, cache = run_with_cache(model, ids, hooks={"*pattern": ablate("mean", of=whole, heads=[0, 1])})
    np.testing.assert_allclose(cache["blocks.0.attention.pattern"].numpy()[:, 0].sum(-1), 1.0, atol=1e-5)
    pattern = cache["blocks.0.attention.pattern"].numpy()
    assert not pattern[:, 0][:, ~np.tril(np.ones((T, T), bool))].any()  # no query sees the future by it
    for name, by in (("embed", "resample"), ("blocks.0.attention.pattern", "mean")):
        with pytest.raises(ValueError, match="two rows or more"):
            run_with_cache(model, ids[:1], hooks={name: ablate(by)})
    for by in ("zero", "mean"):
        with pytest.raises(ValueError, match="would undo the causal mask"):
            run_with_cache(model, ids, hooks={"*scores": ablate(by)})
    _, other = run_with_cache(model, ids, hooks={"blocks.1.attention.scores": ablate("resample", seed=1)})
    assert np.isfinite(other["logits"].numpy()).all()
    with pytest.raises(ValueError, match="pos_embed .* has no rows to resample from"):
        run_with_cache(model, ids, hooks={"pos_embed": ablate("resample")})
    with pytest.raises(ValueError, match="by must be one of zero, mean, resample"):
        ablate("noise")


def test_an_ablation_of_no_heads_changes_nothing():
    model, ids = made(), some_ids()
    logits, _ = run_with_cache(model, ids, "logits", hooks={"*attention.z": ablate(heads=[], positions=range(3))})
    np.testing.assert_allclose(logits.numpy(), model(as_tokens(ids)).numpy(), atol=2e-5)


def test_gradients_reach_a_tensor_that_is_patched_in():
    model, ids = made(), as_tokens(some_ids())
    delta = Tensor(np.zeros(16, np.float32), requires_grad=True)
    with hooked(model, {"blocks.0.mlp.out": lambda x, name: x + delta}):
        loss_of(model(ids)).backward()
    _, cache = run_with_cache(model, ids, "blocks.0.mlp.out", loss_of)
    np.testing.assert_allclose(delta.grad.numpy(), cache.gradients["blocks.0.mlp.out"].numpy().sum((0, 1)), atol=1e-6)


def test_it_works_on_a_model_from_hugging_faces_names():
    config = GPTConfig(vocab_size=VOCAB, block_size=8, layers=2, heads=4, channels=16)
    theirs = to_huggingface({n: p.numpy() for n, p in made().named_parameters()}, config)
    model = GPT(config)
    model.load_state_dict(from_huggingface(theirs, config), strict=False)
    logits, cache = run_with_cache(model, some_ids(), "*pattern")
    expected, theirs = run_with_cache(made(), some_ids(), "*pattern")
    assert np.array_equal(logits.numpy(), expected.numpy())
    assert all(np.array_equal(cache[n].numpy(), theirs[n].numpy()) for n in cache) and len(cache) == 2
