"""What a user gets wrong with modules: a clear error where a network would silently not learn, or not be saved."""

import numpy as np
import pytest

import tinygrad_lite as tgl
from tinygrad_lite import nn


class Holder(nn.Module):
    """A module with given attributes."""

    def __init__(self, **attributes):
        for name, value in attributes.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    "held, what",
    [
        ([nn.Linear(2, 2)], "list with a Linear"),
        ({"a": nn.Linear(2, 2)}, "dict with a Linear"),
        ([[nn.Linear(2, 2)], 3], "list with a Linear"),
        ([nn.Parameter([1.0])], "list with a Tensor"),
    ],
)
@pytest.mark.parametrize("use", [lambda m: list(m.parameters()), lambda m: m.state_dict(), lambda m: m.zero_grad()])
def test_layers_in_a_plain_list_are_refused_and_not_left_untrained(held, what, use):
    model = Holder(inner=Holder(blocks=held))
    with pytest.raises(TypeError, match=f"Holder: inner.blocks is a {what} .* use ModuleList"):
        use(model)
    assert "0 parameters" in repr(model)  # looking at it must work


def test_a_list_filled_later_is_refused_too():
    model = Holder(blocks=[])
    model.blocks.append(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="blocks is a list"):
        list(model.parameters())


def test_lists_of_what_is_registered_or_of_data_are_fine():
    inner = nn.Linear(2, 2)
    model = Holder(first=inner, order=[inner], sizes=[1, 2], table={"weight": inner.weight}, constants=[tgl.ones(2)])
    assert len(list(model.parameters())) == 2
    parent = Holder(child=nn.Linear(1, 1))
    parent.child.parent = (parent,)  # a tuple keeps the parent outside
    assert len(list(parent.parameters())) == 2 and len(list(parent.child.parameters())) == 2
    hooked = Holder()
    hooked.register_forward_hook(nn.Identity())
    assert list(hooked.parameters()) == []


def test_a_module_cannot_hold_itself():
    model = Holder(inner=Holder())
    with pytest.raises(ValueError, match="Holder.me: a module cannot hold itself"):
        model.me = model
    with pytest.raises(ValueError, match="Holder.up: a module cannot hold itself or what holds it"):
        model.inner.up = model
    assert [name for name, _ in model.named_modules()] == ["", "inner"]


def test_names_with_dots_are_refused():
    model = Holder()
    for name, value in (("a.b", nn.Identity()), ("a.c", nn.Parameter([1.0]))):
        with pytest.raises(ValueError, match="a dot parts levels"):
            setattr(model, name, value)
    with pytest.raises(ValueError, match="a dot parts levels"):
        model.register_buffer("a.d", tgl.ones(1))
    assert model.state_dict() == {} and not hasattr(model, "a.d")


def test_a_frozen_parameter_is_registered_by_name():
    frozen = nn.Parameter(np.ones((2, 2))).requires_grad_(False)
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="weight is a parameter, .*register_parameter"):
        model.weight = frozen
    model.register_parameter("weight", frozen)
    model.register_parameter("bias", None)
    assert [name for name, _ in model.named_parameters()] == ["weight"] and model.bias is None
    assert "weight (2, 2) frozen: 4 parameters" in repr(model)
    with pytest.raises(TypeError, match="must be a float Tensor and a leaf"):
        model.register_parameter("weight", tgl.tensor([1, 2]))
    with pytest.raises(TypeError, match="must be a float Tensor and a leaf"):
        model.register_parameter("weight", nn.Parameter([1.0]) * 2.0)


def test_a_deleted_parameter_is_gone():
    model = nn.Linear(2, 2)
    del model.bias
    assert list(model.state_dict()) == ["weight"]
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'bias'"):
        _ = model.bias
    with pytest.raises(AttributeError):
        del model.bias


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: nn.Linear(-1, 3), ValueError, "Linear: in_features must be at least 0, got -1"),
        (lambda: nn.Linear(2, 3.0), TypeError, "Linear: out_features must be a whole number, got 3.0"),
        (lambda: nn.Embedding("a", 3), TypeError, "Embedding: num_embeddings must be a whole number, got 'a'"),
        (lambda: nn.LayerNorm((3, 4)), TypeError, r"LayerNorm: features must be a whole number, got \(3, 4\)"),
        (lambda: nn.LayerNorm(3, eps=-1.0), ValueError, "LayerNorm: eps must be at least 0 and finite, got -1.0"),
        (lambda: nn.RMSNorm(-3), ValueError, "RMSNorm: features must be at least 0"),
        (lambda: nn.RMSNorm(3, eps=float("nan")), ValueError, "RMSNorm: eps must be"),
        (lambda: nn.Dropout(1.5), ValueError, r"Dropout: p must be in \[0, 1\], got 1.5"),
        (lambda: nn.Dropout("a"), TypeError, "Dropout: p must be a number, got 'a'"),
        (lambda: nn.GELU("fast"), ValueError, 'GELU: approximate must be "none" or "tanh", got \'fast\''),
        (lambda: nn.Linear(2, 2).train("no"), TypeError, "train: expected True or False, got 'no'"),
        (lambda: nn.Linear(2, 2).to("foo"), TypeError, "expected a float dtype or a device .*, got 'foo'"),
        (lambda: nn.Linear(2, 2).load_state_dict(None), TypeError, "expected a dict .*, got NoneType"),
        (lambda: nn.ModuleList(nn.ReLU()), TypeError, r"expected modules in a list, got one ReLU: write \[module\]"),
        (lambda: nn.ModuleList([nn.ReLU()])(1), NotImplementedError, "it is a list, and not called"),
        (lambda: nn.ModuleList([nn.ReLU()])["a"], TypeError, "integer"),
        (lambda: nn.ModuleList([nn.ReLU()])[1.5], TypeError, "integer"),
        (lambda: nn.ModuleList([nn.ReLU()]).pop(1), IndexError, "index 1 is out of range for 1 module"),
        (lambda: nn.ModuleList([nn.ReLU()]).insert(0, 3), TypeError, "expected a Module, got int"),
        (lambda: nn.ModuleList([nn.ReLU()]) + 3, TypeError, "unsupported operand"),
    ],
)
def test_misuse_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_values_that_overflow_the_type_are_a_mismatch():
    model = nn.Linear(1, 1).to("float16")
    with pytest.raises(ValueError, match="values of weight: some are finite in float64 and infinite in float16"):
        model.load_state_dict({"weight": np.array([[70_000.0]]), "bias": np.zeros(1)})
    model.load_state_dict({"weight": np.array([[np.inf]]), "bias": np.array([np.nan])})  # what is no number stays so
    assert np.isinf(model.weight.item()) and np.isnan(model.bias.item())


def test_a_list_of_modules_is_edited_like_a_list():
    a, b, c, d = nn.ReLU(), nn.Tanh(), nn.SiLU(), nn.Linear(2, 2)
    modules = nn.ModuleList([a, b])
    modules.insert(1, d)
    assert list(modules) == [a, d, b] and list(modules.state_dict()) == ["1.weight", "1.bias"]
    assert modules.pop(0) is a and list(modules.state_dict()) == ["0.weight", "0.bias"]
    modules.extend(modules)
    del modules[1:3]
    assert list(modules) == [d, b] and modules[-1] is b
    assert list(modules + [c]) == [d, b, c] and type(nn.Sequential(a) + (b,)) is nn.Sequential
    del modules[0]
    assert len(modules) == 1 and modules[0] is b


def test_a_sequential_with_parameters_of_its_own_runs_its_positions_only():
    class Scaled(nn.Sequential):
        def __init__(self, *modules):
            super().__init__(*modules)
            self.scale = nn.Parameter([2.0])
            self.after = nn.Tanh()

        def forward(self, x):
            return super().forward(x) * self.scale

    chain = Scaled(nn.ReLU(), nn.Identity())
    assert len(chain) == 2 and len(chain[:1]) == 1 and list(chain.state_dict()) == ["scale"]
    np.testing.assert_array_equal(chain(tgl.tensor([-1.0, 3.0])).numpy(), [0.0, 6.0])
    chain.append(nn.Identity())
    assert len(chain) == 3


@pytest.mark.parametrize(
    "write, error, message",
    [
        (lambda: nn.init.normal_(tgl.tensor([1, 2])), TypeError, "init.normal_: expected a float Tensor"),
        (lambda: nn.init.uniform_(np.ones(2)), TypeError, "init.uniform_: expected a float Tensor"),
        (lambda: nn.init.normal_(nn.Parameter([1.0]), std=-1.0), ValueError, "init.normal_: std must be at least 0"),
        (lambda: nn.init.uniform_(nn.Parameter([1.0]), 2.0, 1.0), ValueError, "low must be at most high"),
        (lambda: nn.init.zeros_(nn.Parameter([1.0]) * 2.0), RuntimeError, "a recorded result"),
        (lambda: nn.init.kaiming_uniform_(nn.Parameter([1.0])), ValueError, "at least two axes"),
        (lambda: nn.init.kaiming_normal_(nn.Parameter([[1.0]]), mode="out"), ValueError, "mode must be"),
    ],
)
def test_initial_values_refuse_what_they_cannot_write(write, error, message):
    with pytest.raises(error, match=message):
        write()


@pytest.mark.parametrize("shape", [(30, 50), (400, 20), (16, 8, 3, 5)])
def test_initial_values_have_pytorchs_fans_and_bounds(shape):
    torch = pytest.importorskip("torch")
    fan_in, fan_out = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    assert nn.init.fans(shape) == (fan_in, fan_out)
    x, init, n = nn.Parameter(np.zeros(shape)), nn.init, np.prod(shape)
    for write, std, uniform in [
        (lambda: init.xavier_uniform_(x, 1.5), 1.5 * (2 / (fan_in + fan_out)) ** 0.5, True),
        (lambda: init.xavier_normal_(x, 1.5), 1.5 * (2 / (fan_in + fan_out)) ** 0.5, False),
        (lambda: init.kaiming_uniform_(x, 0.2), (2 / 1.04 / fan_in) ** 0.5, True),
        (lambda: init.kaiming_uniform_(x, mode="fan_out"), (2 / fan_out) ** 0.5, True),
        (lambda: init.kaiming_normal_(x, 0.2), (2 / 1.04 / fan_in) ** 0.5, False),
        (lambda: init.kaiming_normal_(x, mode="fan_out"), (2 / fan_out) ** 0.5, False),
    ]:
        values = write().numpy()
        # The variance of n draws is known to sqrt(2 / n) of itself; five times that, on the deviation half of it.
        assert abs(values.std() / std - 1) < 5 * (2 / n) ** 0.5 / 2 + 1e-3
        assert (np.abs(values).max() <= 3**0.5 * std) is np.bool_(uniform)
