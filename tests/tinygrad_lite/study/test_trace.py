"""A trace tells what ran, where in the user's source, and what arrived where on the way back."""

import inspect

import numpy as np

from tinygrad_lite import Tensor, nn, no_grad
from tinygrad_lite import functional as F
from tinygrad_lite.autograd.mode import mode
from tinygrad_lite.ops.registry import OPS, At
from tinygrad_lite.study import Trace, Tracer
from tinygrad_lite.tensor import functional
from transformer import GPT, GPTConfig
from transformer.model import as_tokens


def small_gpt():
    model = GPT(GPTConfig(vocab_size=11, block_size=8, layers=2, heads=2, channels=8))
    ids = np.arange(16).reshape(2, 8) % 11
    return model, as_tokens(ids), as_tokens((ids + 1) % 11)


def test_each_op_of_an_expression_knows_its_own_text():
    a, b = Tensor(2.0, requires_grad=True), Tensor(3.0, requires_grad=True)
    with Trace() as trace:
        d = a * b + b**3
    assert [(e.op.name, e.place.text) for e in trace] == [
        ("multiply", "a * b"),
        ("power", "b**3"),
        ("add", "a * b + b**3"),
    ]
    assert {e.place.file for e in trace} == {__file__}
    assert [e.name for e in trace] == ["a * b", "b**3", "d"]
    assert trace.name_of(a) == "a" and trace.name_of(b) == "b"
    assert d.item() == 33.0


def test_the_line_is_the_users_also_where_the_library_calls_itself():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    with Trace() as trace:
        x.mean(dim=0).var()
    assert len(trace) > 2
    assert {(e.place.file, e.place.function) for e in trace} == {
        (__file__, "test_the_line_is_the_users_also_where_the_library_calls_itself")
    }


def test_a_place_says_where_its_expression_stands_in_the_statement():
    a, b = Tensor(2.0, requires_grad=True), Tensor(3.0, requires_grad=True)
    with Trace() as trace:
        d = "é" and a * b + b * a  # one letter of two bytes before
    assert d.item() == 12.0
    places = [e.place for e in trace]
    assert [p.statement[p.start : p.end] for p in places] == ["a * b", "b * a", "a * b + b * a"]
    assert places[0].start < places[1].start


def test_inside_a_formula_places_are_its_own_lines():
    op, x = OPS["softmax"], Tensor(np.ones((2, 3)), requires_grad=True)
    with Trace(inside=op) as trace:
        op.forward(functional, x)
    assert {e.place.function for e in trace} == {"softmax"}
    assert {e.place.file for e in trace} == {inspect.getsourcefile(op.forward)}
    assert "e" in [e.name for e in trace]


def test_ops_know_the_module_they_ran_in():
    model, x, y = small_gpt()
    with Trace(model) as trace:
        model(x, y)
    paths = [e.path for e in trace]
    assert "blocks.0.attention.qkv" in paths and "blocks.1.norm2" in paths
    assert trace.name_of(model.blocks[0].norm1.weight) == "blocks.0.norm1.weight"


def test_a_module_that_the_trace_was_not_told_of_is_named_by_its_variable():
    net, other = nn.Sequential(nn.Linear(2, 3), nn.Tanh()), nn.Linear(3, 1)
    x = Tensor(np.ones((4, 2), dtype="float32"))
    with Trace() as trace:
        other(net(x))
    assert [e.path for e in trace] == ["net.0", "net.1", "other"]
    assert trace.name_of(net[0].weight) == "net.0.weight" and trace.name_of(other.bias) == "other.bias"


def test_running_sums_show_a_shared_node_before_and_after():
    a = Tensor(3.0, requires_grad=True)
    with Trace() as trace:
        b = a * 2.0
        c = b * b + b
    sums = [(s.event.op.name, s.before, s.after, s.waiting) for s in trace.backward(c) if s.event is not None]
    assert sums == [
        ("add", (None, None), (1.0, 1.0), (0, 2)),
        ("multiply", (1.0, 1.0), (13.0, 13.0), (0, 0)),
        ("multiply", (None, None), (26.0, None), (0, 0)),
    ]
    assert a.grad.item() == 26.0


def test_the_steps_backward_is_the_engines_in_every_bit():
    model, x, y = small_gpt()
    model(x, y).backward()
    expected = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    model.zero_grad()
    with Trace(model) as trace:
        loss = model(x, y)
    steps = list(trace.backward(loss))
    assert {name: p.grad.numpy().tobytes() for name, p in model.named_parameters()} == {
        name: g.tobytes() for name, g in expected.items()
    }
    leaves = [s for s in steps if s.event is None]
    assert {trace.name_of(trace.leaf_of(s.node)) for s in leaves} == set(expected)
    for step in leaves:
        assert step.before == (None,) and np.array_equal(step.after[0], step.g)


def test_a_step_keeps_what_a_rule_sent_to_a_part():
    x = Tensor(np.arange(4.0), requires_grad=True)
    with Trace() as trace:
        loss = x[1:3].sum()
    steps = list(trace.backward(loss))
    sent = steps[1].sent[0]
    assert type(sent) is At and steps[1].after[0].tolist() == [0, 1, 1, 0]


def test_an_open_trace_sees_the_twins_ops():
    x = Tensor(np.ones((2, 4), dtype="float32"), requires_grad=True)
    with Trace() as closed:
        F.softmax(x, -1)
    with Trace(open_fused=True) as opened:
        F.softmax(x, -1)
    assert [e.op.name for e in closed] == ["softmax"]
    assert "exp" in [e.op.name for e in opened] and "softmax" not in [e.op.name for e in opened]


def test_traces_nest_and_leave_the_thread_as_they_found_it():
    before = mode.state, mode.tracer
    a = Tensor(1.0)
    with Trace() as outer:
        a + 1.0
        with Trace() as inner:
            a * 2.0
        with no_grad():
            a - 3.0
        a / 4.0
    assert [e.op.name for e in inner] == ["multiply"]
    assert [e.op.name for e in outer] == ["add", "divide"]
    assert (mode.state, mode.tracer) == before


class Doubled(Tracer):
    """Replaces what one op gives by twice that."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def on_forward(self, op, xs, params, out):
        if op.name == self.name:
            with no_grad():  # what a tracer computes is not traced
                return Tensor(2.0 * out.numpy(), requires_grad=True)


def test_a_tracer_may_replace_what_an_op_gives():
    x, w = Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.ones((3, 2)), requires_grad=True)
    for name, call, plain in (
        ("exp", lambda: x.exp() + 0.0, np.e),  # one input
        ("multiply", lambda: x * x + 0.0, 1.0),  # two
        ("sum", lambda: x.sum() + 0.0, 6.0),  # with parameters
        ("softmax", lambda: F.softmax(x) + 0.0, 1 / 3),  # fused
        ("matmul", lambda: x @ w + 0.0, 3.0),
    ):
        with Doubled(name):
            found = call()
        np.testing.assert_allclose(found.numpy(), 2.0 * plain, err_msg=name)
        assert x.grad is None
