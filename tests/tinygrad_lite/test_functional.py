"""Functions against their formulas in NumPy: shapes, options, and what misuse says."""

import math

import numpy as np
import pytest
from kernels.cuda.checks import needs_cuda

import tinygrad_lite as tgl
from tinygrad_lite import functional as F
from tinygrad_lite import ops
from tinygrad_lite.config import settings
from tinygrad_lite.gradcheck.registry import computing

RNG = np.random.default_rng(3)


def floats(*shape):
    return RNG.normal(size=shape)


def leaf(*shape):
    return tgl.tensor(floats(*shape), dtype="float64", requires_grad=True)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


ERF = np.vectorize(math.erf)
FORMULAS = {
    "relu": (lambda x: F.relu(x), lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "elu": (lambda x: F.elu(x, 0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    "gelu": (lambda x: F.gelu(x), lambda x: x * 0.5 * (1 + ERF(x / math.sqrt(2)))),
    "silu": (lambda x: F.silu(x), lambda x: x / (1 + np.exp(-x))),
    "swiglu": (lambda x: F.swiglu(x), lambda x: x[..., :2] / (1 + np.exp(-x[..., :2])) * x[..., 2:]),
    "softplus": (lambda x: F.softplus(x), lambda x: np.log1p(np.exp(x))),
    "sigmoid": (lambda x: F.sigmoid(x), lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (lambda x: F.tanh(x), np.tanh),
    "softmax over rows": (lambda x: F.softmax(x, dim=0), lambda x: softmax(x, 0)),
    "log_softmax": (lambda x: F.log_softmax(x), lambda x: np.log(softmax(x))),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_equals_its_formula(name):
    ours, formula = FORMULAS[name]
    x = floats(3, 4)
    np.testing.assert_allclose(ours(tgl.tensor(x)).numpy(), formula(x), rtol=1e-12, atol=1e-14)


def test_bias_gelu_adds_the_bias_first():
    x, b = tgl.tensor(floats(2, 3)), tgl.tensor(floats(3))
    np.testing.assert_allclose(F.bias_gelu(x, b, "tanh").numpy(), F.gelu(x + b, "tanh").numpy(), rtol=1e-12)


def test_linear_takes_any_number_of_leading_axes():
    w, b = floats(4, 3), floats(4)
    for shape in ((3,), (2, 3), (2, 5, 3)):
        x = floats(*shape)
        np.testing.assert_allclose(
            F.linear(tgl.tensor(x), tgl.tensor(w), tgl.tensor(b)).numpy(), x @ w.T + b, rtol=1e-12
        )
        np.testing.assert_allclose(F.linear(tgl.tensor(x), tgl.tensor(w)).numpy(), x @ w.T, rtol=1e-12)


@pytest.mark.parametrize("biases", [True, False])
def test_gelu_mlp_is_its_three_ops_to_the_bit_and_keeps_what_they_keep(biases):
    made = [tgl.tensor(floats(*shape)) for shape in ((2, 5, 3), (8, 3), (8,), (4, 8), (4,), (2, 5, 4))]
    x, up, up_bias, down, down_bias, residual = [t.requires_grad_() for t in made]
    up_bias, down_bias = (up_bias, down_bias) if biases else (None, None)
    wide = F.linear(x, up)
    hidden = F.gelu(wide, "tanh") if up_bias is None else F.bias_gelu(wide, up_bias, "tanh")
    apart = F.linear(hidden, down, down_bias, residual)
    whole = F.gelu_mlp(x, up, up_bias, down, down_bias, residual)
    np.testing.assert_array_equal(whole.numpy(), apart.numpy())
    names, node = [], whole.node  # on the CPU, where the op has no kernel
    while node.op is not None:
        names, node = [*names, node.op.name], node.parents[0]
    assert names == ["linear", "gelu" if up_bias is None else "bias_gelu", "linear"]
    leaves = [t for t in (x, up, up_bias, down, down_bias, residual) if t is not None]
    for a, b in zip(*(tgl.grad((out * out).sum(), leaves) for out in (whole, apart)), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("change, message", [
    (dict(x=(3,)), r"x \(..., C\) of two axes or more, up \(F, C\) and down \(O, F\), got \(3,\), \(8, 3\), \(4, 8\)"),
    (dict(up=(8, 2)), r"got \(2, 3\), \(8, 2\), \(4, 8\)"), (dict(down=(4, 7)), r"got \(2, 3\), \(8, 3\), \(4, 7\)"),
    (dict(up_bias=(4,)), r"up_bias must be \(8,\), got \(4,\)"),
    (dict(down_bias=(8,)), r"down_bias must be \(4,\), got \(8,\)"),
    (dict(residual=(2, 3)), r"residual must be \(2, 4\), got \(2, 3\)"),
])  # fmt: skip
def test_gelu_mlp_says_what_does_not_fit(change, message):
    shapes = dict(x=(2, 3), up=(8, 3), up_bias=(8,), down=(4, 8), down_bias=(4,), residual=(2, 4)) | change
    with pytest.raises(ValueError, match="^gelu_mlp: .*" + message):
        F.gelu_mlp(**{name: tgl.ones(*shape) for name, shape in shapes.items()})


def test_embedding_takes_rows_and_refuses_negative_indices():
    w = floats(5, 2)
    np.testing.assert_array_equal(F.embedding([[0, 4], [1, 1]], tgl.tensor(w)).numpy(), w[[[0, 4], [1, 1]]])
    with pytest.raises(IndexError, match=r"\[0, 5\)"):
        F.embedding([-1], tgl.tensor(w))


def test_one_hot_counts_classes_itself_or_as_told():
    np.testing.assert_array_equal(F.one_hot([0, 2]).numpy(), [[1, 0, 0], [0, 0, 1]])
    hot = F.one_hot([[1], [0]], 2)
    assert hot.shape == (2, 1, 2) and hot.dtype == np.int64
    with pytest.raises(IndexError, match="one_hot"):
        F.one_hot([2], 2)
    with pytest.raises(TypeError, match="one_hot: indices must be integers"):
        F.one_hot([0.5])


def test_layer_norm_without_a_bias_only_scales():
    x, w = floats(2, 4), floats(4)
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(F.layer_norm(tgl.tensor(x), tgl.tensor(w)).numpy(), normal * w, rtol=1e-10)
    b = floats(4)
    np.testing.assert_allclose(
        F.layer_norm(tgl.tensor(x), tgl.tensor(w), tgl.tensor(b)).numpy(), normal * w + b, rtol=1e-9
    )


def test_rms_norm_divides_by_the_root_mean_square():
    x, w = floats(2, 4), floats(4)
    expected = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * w
    np.testing.assert_allclose(F.rms_norm(tgl.tensor(x), tgl.tensor(w), 1e-3).numpy(), expected, rtol=1e-12)


# -- dropout ---------------------------------------------------------------------------------------------------
def test_dropout_is_the_tensor_itself_when_not_training_or_p_is_0():
    x = leaf(3, 4)
    assert F.dropout(x, 0.5, training=False) is x and F.dropout(x, 0.0) is x


def test_dropout_keeps_the_mean_and_masks_the_gradient_alike():
    x = tgl.ones(20_000, dtype="float64", requires_grad=True)
    out = F.dropout(x, 0.25, generator=tgl.Generator(5))
    kept = out.numpy() != 0
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(out.numpy()[kept], 1 / 0.75, rtol=1e-12)
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), out.numpy())


def test_dropout_draws_anew_each_time_and_repeats_from_the_same_seed():
    x, generator = tgl.ones(1000), tgl.Generator(1)
    first, second = F.dropout(x, 0.5, True, generator), F.dropout(x, 0.5, True, generator)
    assert (first.numpy() != second.numpy()).any()
    np.testing.assert_array_equal(F.dropout(x, 0.5, True, tgl.Generator(1)).numpy(), first.numpy())


def test_dropout_with_p_1_is_zero_and_beyond_is_refused():
    assert not F.dropout(tgl.ones(3), 1.0).numpy().any()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        F.dropout(tgl.ones(3), 1.5)


# -- attention -------------------------------------------------------------------------------------------------
def attend(q, k, v, causal):
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    if causal:
        t, s = scores.shape[-2:]
        scores = np.where(np.tri(t, s, s - t) > 0, scores, -np.inf)
    return softmax(scores) @ v


@pytest.mark.parametrize("causal", [False, True])
def test_attention_lets_the_last_query_see_all_keys(causal):
    q, k, v = floats(2, 3, 4, 5), floats(2, 3, 6, 5), floats(2, 3, 6, 5)
    out = F.scaled_dot_product_attention(tgl.tensor(q), tgl.tensor(k), tgl.tensor(v), is_causal=causal)
    np.testing.assert_allclose(out.numpy(), attend(q, k, v, causal), rtol=1e-10)


@pytest.mark.parametrize("dtype", [tgl.float32, tgl.float64])
def test_rotary_keeps_lengths_depends_on_distance_alone_and_equals_its_twin(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    q, k = (tgl.tensor(np.tile(rng.standard_normal((1, 1, 16)), (1, 40, 1)), dtype=dtype) for _ in range(2))
    q, k = F.rotary(q, 2, 8), F.rotary(k, 2, 8)
    tolerance = 64 * np.finfo(q.numpy().dtype).eps * 16
    lengths = (q * q).sum(-1).numpy()
    np.testing.assert_allclose(lengths, lengths[0, 0], rtol=tolerance)
    scores = (q @ k.transpose(1, 2)).numpy()[0]
    for distance in (0, 3, 20):
        np.testing.assert_allclose(np.diagonal(scores, distance), scores[0, distance], atol=tolerance)
    x = tgl.tensor(rng.standard_normal((2, 33, 50)), dtype=dtype)
    fast = F.rotary(x, 3, 16, start=7).numpy()
    monkeypatch.setattr(settings, "use_fused", False)
    np.testing.assert_allclose(fast, F.rotary(x, 3, 16, start=7).numpy(), atol=tolerance)
    np.testing.assert_array_equal(fast[..., 48:], x.numpy()[..., 48:])


@pytest.mark.parametrize(
    "call", [lambda x: F.rotary(x, 3, 16), lambda x: F.rotary(x, 1, 3), lambda x: F.rotary(x, 1, 4, start=-1)]
)
def test_rotary_that_cannot_be_is_named(call):
    with pytest.raises(ValueError, match="^rotary: "):
        call(tgl.ones(1, 2, 40))


def test_attention_qkv_is_attention_of_the_split_projection():
    qkv = floats(2, 4, 3 * 6)
    q, k, v = (part.reshape(2, 4, 2, 3).transpose(0, 2, 1, 3) for part in np.split(qkv, 3, -1))  # (B, H, T, D)
    expected = attend(q, k, v, True).transpose(0, 2, 1, 3).reshape(2, 4, 6)
    np.testing.assert_allclose(F.attention_qkv(tgl.tensor(qkv), heads=2).numpy(), expected, rtol=1e-10)


def weights_kept(path, dropout_p, generator, device="cpu"):
    """Which weights of (2, 3, 9, 13) dropout has left: with no queries all are 1 / 13, and values of one key each show them."""
    q, k = tgl.zeros(2, 3, 9, 13, device=device), tgl.zeros(2, 1, 13, 13, device=device)
    v = tgl.Tensor(np.broadcast_to(np.eye(13, dtype=np.float32), (2, 1, 13, 13)), device=device)
    with computing(path):
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, generator=generator).numpy()
    np.testing.assert_allclose(out[out != 0], 1 / 13 / (1 - dropout_p), rtol=1e-6)
    return out != 0


@pytest.mark.parametrize(
    "device, path", [("cpu", "kernel"), ("cpu", "twin"), pytest.param("cuda", "kernel", marks=needs_cuda)]
)
def test_attention_drops_the_weights_that_dropout_would_drop(device, path):
    fused, plain = tgl.Generator(3), tgl.Generator(3)
    for generator in (fused, plain):
        generator.bits(5)  # elsewhere than at the start
    kept = weights_kept(path, 0.4, fused, device)
    expected = F.dropout(tgl.ones(2, 3, 9, 13), 0.4, generator=plain).numpy() != 0
    np.testing.assert_array_equal(kept, expected)
    assert fused.get_state() == plain.get_state() and 0.5 < kept.mean() < 0.7
    assert (weights_kept(path, 0.4, fused, device) != kept).any()  # drawn anew


def test_attention_qkv_with_dropout_is_attention_of_the_split_projection_in_every_gradient():
    qkv = floats(2, 12, (4 + 2 * 2) * 3)
    given = [tgl.tensor(qkv, requires_grad=True) for _ in range(3)]
    packed = F.attention_qkv(given[0], 4, 2, window=5, dropout_p=0.3, generator=tgl.Generator(7))
    with computing("twin"):
        twin = F.attention_qkv(given[1], 4, 2, window=5, dropout_p=0.3, generator=tgl.Generator(7))
    heads = given[2].reshape(2, 12, 8, 3).transpose(1, 2)
    q, k, v = heads.split([4, 2, 2], dim=1)
    k, v = (x.unsqueeze(2).expand(2, 2, 2, 12, 3).reshape(2, 4, 12, 3) for x in (k, v))
    ahead = np.arange(12) - np.arange(12)[:, None]
    scores = (q @ k.transpose(2, 3) / math.sqrt(3)).masked_fill(tgl.tensor((ahead > 0) | (ahead <= -5)), -math.inf)
    plain = F.dropout(scores.softmax(-1), 0.3, generator=tgl.Generator(7)) @ v
    plain = plain.transpose(1, 2).reshape(2, 12, 12)
    weight, gradients = tgl.tensor(floats(2, 12, 12)), []
    for x, out in zip(given, (packed, twin, plain)):
        np.testing.assert_allclose(out.numpy(), plain.numpy(), rtol=1e-10, atol=1e-12)
        (out.square() * weight).sum().backward(create_graph=True)
        first = x.grad
        x.grad = None
        first.square().sum().backward()
        gradients.append((first.numpy(), x.grad.numpy()))
    for first, second in gradients[:2]:
        np.testing.assert_allclose(first, gradients[2][0], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(second, gradients[2][1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_a_share_of_weights_that_cannot_be_dropped_is_refused(p):
    x = tgl.ones(1, 2, 6)
    for call in (
        lambda: F.attention_qkv(x, 1, dropout_p=p),
        lambda: F.scaled_dot_product_attention(x, x, x, dropout_p=p),
    ):
        with pytest.raises(ValueError, match=r"dropout_p, the share of weights that are dropped, must be in \[0, 1\)"):
            call()
    with pytest.raises(ValueError, match=r"attention_qkv: the share of weights to drop must be in \[0, 1\)"):
        ops.attention.attention_qkv(x, heads=1, kv_heads=1, causal=True, window=None, scale=1.0, p=p)


# -- losses ----------------------------------------------------------------------------------------------------
def nll_rows(logits, targets):
    return -np.take_along_axis(np.log(softmax(logits)), targets[..., None], -1)[..., 0]


@pytest.mark.parametrize("lead", [(5,), (2, 3), ()])
def test_cross_entropy_takes_any_leading_shape(lead):
    logits, targets = floats(*lead, 4), RNG.integers(0, 4, lead)
    rows = nll_rows(logits, targets)
    for reduction, expected in (("mean", rows.mean()), ("sum", rows.sum()), ("none", rows)):
        out = F.cross_entropy(tgl.tensor(logits), targets, reduction=reduction)
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-12)


def test_cross_entropy_leaves_ignored_targets_out_of_mean_and_gradient():
    logits = leaf(4, 3)
    loss = F.cross_entropy(logits, [0, -100, 2, -100])
    rows = nll_rows(logits.numpy(), np.array([0, 0, 2, 0]))
    np.testing.assert_allclose(loss.item(), (rows[0] + rows[2]) / 2, rtol=1e-12)
    loss.backward()
    assert not logits.grad.numpy()[[1, 3]].any() and logits.grad.numpy()[[0, 2]].all()


def test_cross_entropy_of_no_valid_target_is_nan():
    with np.errstate(invalid="ignore"):
        assert math.isnan(F.cross_entropy(tgl.zeros(2, 3), [-100, -100]).item())


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_label_smoothing_equals_the_smoothed_probabilities(reduction):
    logits, targets = tgl.tensor(floats(5, 4)), RNG.integers(0, 4, 5)
    smooth = np.eye(4)[targets] * 0.9 + 0.1 / 4
    by_class = F.cross_entropy(logits, targets, label_smoothing=0.1, reduction=reduction)
    by_probability = F.cross_entropy(logits, smooth, reduction=reduction)
    np.testing.assert_allclose(by_class.item(), by_probability.item(), rtol=1e-12)
    again = F.cross_entropy(logits, np.eye(4)[targets], label_smoothing=0.1, reduction=reduction)
    np.testing.assert_allclose(again.item(), by_probability.item(), rtol=1e-12)


def test_label_smoothing_leaves_ignored_targets_at_zero():
    rows = F.cross_entropy(tgl.tensor(floats(2, 3)), [-100, 1], label_smoothing=0.2, reduction="none").numpy()
    assert rows[0] == 0 and rows[1] > 0


def test_cross_entropy_names_the_shapes_it_wants():
    with pytest.raises(ValueError, match=r"logits \(2, 3\) need integer targets \(2,\)"):
        F.cross_entropy(tgl.zeros(2, 3), [0, 1, 2])
    with pytest.raises(ValueError, match=r"probabilities"):
        F.cross_entropy(tgl.zeros(2, 3), [0.1, 0.9])
    with pytest.raises(IndexError, match=r"\[0, 3\)"):
        F.cross_entropy(tgl.zeros(2, 3), [0, 3])
    with pytest.raises(ValueError, match="reduction"):
        F.cross_entropy(tgl.zeros(2, 3), [0, 1], reduction="median")


def test_linear_cross_entropy_equals_linear_then_cross_entropy():
    h, w, targets = leaf(2, 3, 5), leaf(7, 5), RNG.integers(0, 7, (2, 3))
    targets[0, 1] = -100
    whole = F.cross_entropy(F.linear(h, w), targets)
    whole.backward()
    expected = h.grad.numpy().copy(), w.grad.numpy().copy()
    h.grad = w.grad = None
    ours = F.linear_cross_entropy(h, w, targets)
    ours.backward()
    np.testing.assert_allclose(ours.item(), whole.item(), rtol=1e-12)
    np.testing.assert_allclose(h.grad.numpy(), expected[0], rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(w.grad.numpy(), expected[1], rtol=1e-9, atol=1e-14)


def test_nll_loss_of_log_softmax_is_cross_entropy():
    logits, targets = tgl.tensor(floats(2, 3, 4)), RNG.integers(0, 4, (2, 3))
    targets[1, 1] = -100
    for reduction in ("mean", "sum", "none"):
        ours = F.nll_loss(F.log_softmax(logits), targets, reduction=reduction)
        expected = F.cross_entropy(logits, targets, reduction=reduction)
        np.testing.assert_allclose(ours.numpy(), expected.numpy(), rtol=1e-12)
    with pytest.raises(IndexError, match="nll_loss"):
        F.nll_loss(logits, np.full((2, 3), 4))


def test_mse_loss_refuses_to_broadcast():
    x, y = floats(2, 3), floats(2, 3)
    np.testing.assert_allclose(F.mse_loss(tgl.tensor(x), y).item(), ((x - y) ** 2).mean(), rtol=1e-12)
    with pytest.raises(ValueError, match=r"target must be \(2, 3\)"):
        F.mse_loss(tgl.tensor(x), y[:, :1])


def test_binary_cross_entropy_is_finite_at_large_logits():
    x, t = np.array([1000.0, -1000.0, 0.3]), np.array([1.0, 0.0, 0.25])
    rows = F.binary_cross_entropy_with_logits(tgl.tensor(x), t, reduction="none").numpy()
    p = 1 / (1 + math.exp(-0.3))
    np.testing.assert_allclose(rows, [0, 0, -(0.25 * math.log(p) + 0.75 * math.log(1 - p))], rtol=1e-12)
    wrong = F.binary_cross_entropy_with_logits(tgl.tensor(x[:1]), [0.0], reduction="sum")
    assert wrong.item() == 1000.0


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "uint32"])
def test_classes_may_be_of_any_integer_type(dtype):
    h, w, classes = tgl.tensor(floats(4, 5)), tgl.tensor(floats(7, 5)), tgl.tensor([0, 6, 3, 100])
    logits, narrow = F.linear(h, w), classes.to(dtype)
    for fn in (
        lambda t: F.cross_entropy(logits, t, ignore_index=100),
        lambda t: F.linear_cross_entropy(h, w, t, ignore_index=100),
        lambda t: F.nll_loss(logits.log_softmax(-1), t, ignore_index=100),
        lambda t: F.embedding(t[:3], w).sum(),
    ):
        assert fn(narrow).item() == fn(classes).item()


def test_norms_without_vectors_are_those_with_ones_and_zeros():
    x, ones, zeros = tgl.tensor(floats(2, 4)), tgl.ones(4, dtype="float64"), tgl.zeros(4, dtype="float64")
    assert F.layer_norm(x).tolist() == F.layer_norm(x, ones, zeros).tolist()
    assert F.rms_norm(x).tolist() == F.rms_norm(x, ones).tolist()
    assert F.layer_norm(tgl.zeros(0, 3)).shape == (0, 3)


def test_attention_that_is_refused_draws_nothing():
    generator, x = tgl.Generator(3), tgl.ones(2, 3, 12)
    before = generator.get_state()
    for heads in (-1, 5):
        with pytest.raises(ValueError, match="heads"):
            F.attention_qkv(x, heads, dropout_p=0.1, generator=generator)
    with pytest.raises(ValueError, match="expected q"):
        F.scaled_dot_product_attention(x, x, x, dropout_p=0.1, generator=generator)
    assert generator.get_state() == before
    F.attention_qkv(x, 2, dropout_p=0.1, generator=generator)
    assert generator.get_state() != before
