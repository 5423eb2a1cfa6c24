"""The model: shapes, variants, gradients, the cache, and equality of accumulated and large batches."""

import itertools
import math

import numpy as np
import pytest

from tinygrad_lite import Generator, Tensor, no_grad
from tinygrad_lite.config import settings
from transformer.config import CHOICES, GPTConfig
from transformer.model import GPT, as_tokens
from transformer.sampling import generate

SMALL = dict(vocab_size=17, block_size=12, layers=2, heads=4, channels=16)
VARIANTS = [
    dict(zip(("positions", "norm", "mlp", "kv_heads", "tied", "bias"), values))
    for values in itertools.product(*CHOICES.values(), (1, 2, 4), (True, False), (True, False))
]


def tokens(b=3, t=12, v=17, seed=0):
    return np.random.default_rng(seed).integers(0, v, (b, t))


def test_a_fresh_model_is_as_surprised_as_a_uniform_guess():
    model = GPT(GPTConfig(**SMALL))
    ids = tokens()
    assert abs(model(as_tokens(ids), as_tokens(tokens(seed=1))).item() - math.log(17)) < 0.1


@pytest.mark.parametrize("variant", VARIANTS[::7], ids=lambda v: "-".join(map(str, v.values())))
def test_every_variant_learns_a_repeated_batch(variant):
    _learns(variant)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_every_combination_of_variants_learns_a_repeated_batch(variant):
    _learns(variant)


def _learns(variant):
    from tinygrad_lite import optim

    model = GPT(GPTConfig(**SMALL, **variant))
    optimizer = optim.AdamW(list(model.parameters()), lr=1e-2)
    ids = tokens(2, 13)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(as_tokens(ids[:, :-1]), as_tokens(ids[:, 1:]))
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_no_position_sees_what_comes_after_it():
    model = GPT(GPTConfig(**SMALL)).eval()
    ids = tokens(1)
    changed = ids.copy()
    changed[0, 7:] = (changed[0, 7:] + 1) % 17
    with no_grad():
        a, b = model(as_tokens(ids)).numpy(), model(as_tokens(changed)).numpy()
    np.testing.assert_allclose(a[0, :7], b[0, :7], atol=1e-6)
    assert np.abs(a[0, 7:] - b[0, 7:]).max() > 1e-3


def test_a_window_hides_what_lies_before_it():
    model = GPT(GPTConfig(**{**SMALL, "layers": 1, "positions": "rope"}, window=4)).eval()
    ids = tokens(1)
    changed = ids.copy()
    changed[0, :5] = (changed[0, :5] + 1) % 17
    with no_grad():
        a, b = model(as_tokens(ids)).numpy(), model(as_tokens(changed)).numpy()
    np.testing.assert_allclose(a[0, 8:], b[0, 8:], atol=1e-6)  # position 8 sees 5 to 8
    assert (np.abs(a[0, :8] - b[0, :8]).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize("variant", [{}, {"positions": "rope", "kv_heads": 2}, {"positions": "none", "kv_heads": 1},
                                     {"positions": "rope", "window": 3}], ids=str)  # fmt: skip
def test_greedy_tokens_are_the_same_with_and_without_the_cache(variant):
    model = GPT(GPTConfig(**SMALL, **variant), Generator(3))
    for p in model.parameters():
        p.data[...] *= 8  # sharper distributions than a fresh model's
    prompt = [1, 2, 3]
    with_cache = list(generate(model, prompt, 25, temperature=0))
    without = list(generate(model, prompt, 25, temperature=0, use_cache=False))
    assert with_cache == without and len(set(with_cache)) > 1


def test_kernels_and_readable_twins_give_the_same_loss_and_gradients(monkeypatch):
    ids = tokens(2, 13)
    found = {}
    for fused in (True, False):
        monkeypatch.setattr(settings, "use_fused", fused)
        model = GPT(GPTConfig(**SMALL))
        loss = model(as_tokens(ids[:, :-1]), as_tokens(ids[:, 1:]))
        loss.backward()
        found[fused] = loss.item(), {n: p.grad.numpy().copy() for n, p in model.named_parameters()}
    assert abs(found[True][0] - found[False][0]) < 1e-5
    for name, g in found[True][1].items():
        np.testing.assert_allclose(g, found[False][1][name], atol=2e-6 + 2e-5 * np.abs(g).max(), err_msg=name)


def test_accumulated_micro_batches_equal_one_large_batch():
    model = GPT(GPTConfig(**SMALL))
    ids = tokens(4, 13)
    model(as_tokens(ids[:, :-1]), as_tokens(ids[:, 1:])).backward()
    whole = {n: p.grad.numpy().copy() for n, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = None
    for part in (ids[:2], ids[2:]):
        (model(as_tokens(part[:, :-1]), as_tokens(part[:, 1:])) * 0.5).backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(
            p.grad.numpy(), whole[name], atol=1e-7 + 1e-5 * np.abs(whole[name]).max(), err_msg=name
        )


def test_dropout_acts_in_training_and_never_in_evaluation():
    model = GPT(GPTConfig(**SMALL, dropout=0.5))
    ids = as_tokens(tokens())
    assert not np.array_equal(model(ids).numpy(), model(ids).numpy())
    model.eval()
    np.testing.assert_array_equal(model(ids).numpy(), model(ids).numpy())


@pytest.mark.parametrize("activation", ["gelu", "relu", "swiglu"])
@pytest.mark.parametrize("name", ["up", "down"])
def test_hooks_of_the_mlps_layers_are_called_and_change_nothing(name, activation):
    model, seen = GPT(GPTConfig(**SMALL, mlp=activation)), []
    ids = as_tokens(tokens())
    plain = model(ids).numpy()
    getattr(model.blocks[1].mlp, name).register_forward_hook(lambda module, args, out: seen.append(out.shape))
    np.testing.assert_allclose(model(ids).numpy(), plain, rtol=0, atol=1e-6)
    wide = 2 * model.config.hidden if activation == "swiglu" else model.config.hidden
    assert seen == [(3, 12, wide if name == "up" else 16)]


def test_a_context_that_is_too_long_says_so():
    model = GPT(GPTConfig(**SMALL))
    with pytest.raises(ValueError, match="13 positions exceed the context of 12"):
        model(as_tokens(tokens(1, 13)))


def test_a_token_outside_the_vocabulary_is_an_error_not_a_wrap():
    model = GPT(GPTConfig(**SMALL))
    for bad in (-1, 17):
        with pytest.raises(IndexError, match="embedding"):
            model(Tensor(np.array([[bad]])))


@pytest.mark.parametrize(
    "wrong",
    [
        dict(heads=3),
        dict(kv_heads=3),
        dict(norm="batch"),
        dict(dropout=1.0),
        dict(layers=0),
        dict(window=0),
        dict(window=True),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_names_the_setting(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GPTConfig(**{**SMALL, **wrong})
