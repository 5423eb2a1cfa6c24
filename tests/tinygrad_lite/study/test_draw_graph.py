"""Graph pictures: what stands in the boxes is the engine's, nothing lies on anything, and a large graph is no trouble."""

import time
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_lite import Tensor, checkpoint, nn
from tinygrad_lite.study import Stepper, Trace, draw_graph
from tinygrad_lite.study.layout import layered
from transformer import GPT, GPTConfig
from transformer.model import as_tokens

SVG = "{http://www.w3.org/2000/svg}"


def value(x):
    return Tensor(np.float64(x), requires_grad=True)


def micrograd(a, b):
    c = a + b
    d = a * b + b**3
    c = c + c + 1
    c = c + 1 + c + (-a)
    d = d + d * 2 + (b + a).relu()
    d = d + 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g = g + 10.0 / f
    return g


def rows(picture, name):
    """The rows of the boxes of a name, in order."""
    return [dict(box.rows) for box in picture.graph.boxes if box.name == name]


def test_micrograds_example_has_its_published_numbers():
    a, b = value(-4.0), value(2.0)
    with Trace() as trace:
        micrograd(a, b).backward()
    picture = draw_graph(trace)
    assert rows(picture, "g")[-1] == {"data": "24.7041", "grad": "1"}
    assert rows(picture, "a") == [{"data": "−4", "grad": "138.834"}]
    assert rows(picture, "b") == [{"data": "2", "grad": "645.577"}]
    assert rows(picture, "e") == [{"data": "−7", "grad": "−6.94169"}]
    assert [box.name for box in picture.graph.boxes if box.is_output] == ["g"]
    (twice,) = [(u, v) for u, v, uses in picture.graph.edges if uses == 2]
    assert [picture.graph.boxes[i].name for i in twice] == ["c", "c + c"]


def test_before_backward_there_are_no_gradients_instead_of_zeros():
    a, b = value(-4.0), value(2.0)
    with Trace() as trace:
        g = micrograd(a, b)
    assert "grad" not in "".join(str(box.rows) for box in draw_graph(trace).graph.boxes)
    assert "grad" not in "".join(str(box.rows) for box in draw_graph(g).graph.boxes)
    list(trace.backward(g))
    assert rows(draw_graph(trace), "e") == [{"data": "−7", "grad": "−6.94169"}]


def test_a_tensor_alone_has_the_callers_names_and_what_was_kept():
    a, b = value(2.0), value(3.0)
    c = a * b
    d = c + a**2
    d.backward(retain_graph=True)
    picture = draw_graph(d)
    assert [box.name for box in picture.graph.boxes] == ["a", "b", "c", "** 2", "d"]
    assert rows(picture, "a") == [{"data": "2", "grad": "7"}] and rows(picture, "c") == [{"data": "6"}]
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    y = draw_graph(x.exp().sum()).graph.boxes
    assert [box.name for box in y] == ["x", "exp", "output"]
    assert dict(y[1].rows) == {"": "2×3", "data": "rms 2.718"}  # what exp's rule saved


def test_a_stepper_is_drawn_as_far_as_it_has_come():
    stepper = Stepper(micrograd, -4.0, 2.0)
    assert "grad" not in str(rows(draw_graph(stepper), "a")[0])
    stepper.end()
    assert rows(draw_graph(stepper), "a") == [{"data": "−4", "grad": "138.834"}]


@pytest.fixture(scope="module")
def traced():
    model = GPT(GPTConfig(vocab_size=11, block_size=8, layers=2, heads=2, channels=8))
    ids = np.arange(16).reshape(2, 8) % 11
    with Trace(model) as trace:
        x, y = as_tokens(ids), as_tokens((ids + 1) % 11)
        loss = model(x, y)
        loss.backward()
    return model, trace, loss


def names(picture, kind):
    return [box.name for box in picture.graph.boxes if box.kind == kind]


def test_modules_are_folded_until_they_are_opened(traced):
    model, trace, _ = traced
    assert names(draw_graph(trace), "module") == ["tokens", "blocks.0", "blocks.1", "norm"]
    opened = draw_graph(trace, open=["blocks.0"])
    assert [n for n in names(opened, "module") if n.startswith("blocks")] == [
        "blocks.0.norm1", "blocks.0.attention", "blocks.0.norm2", "blocks.0.mlp", "blocks.1",
    ]  # fmt: skip
    assert "blocks.0.attention.qkv" in names(draw_graph(trace, open="blocks.0.attention"), "module")
    everything = draw_graph(trace, open="all")
    assert not names(everything, "module")
    leaves = {name for name, _ in model.named_parameters()}
    assert set(names(everything, "leaf")) == leaves
    box = next(b for b in draw_graph(trace).graph.boxes if b.name == "blocks.0")
    assert box.rows[0][1].endswith(f"{model.blocks[0].num_parameters():,} parameters")


def test_a_parameter_that_two_modules_share_is_drawn_once_beside_them(traced):
    _, trace, _ = traced
    graph = draw_graph(trace).graph
    assert names(draw_graph(trace), "leaf") == ["tokens.weight", "positions.weight"]
    at = [box.name for box in graph.boxes].index("tokens.weight")
    assert sum(u == at for u, _, _ in graph.edges) == 2  # the embedding and the head


def test_a_module_that_is_called_again_is_another_box():
    layer = nn.Linear(2, 2)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(self.layer(x).relu())

    with Trace(model := Twice()) as trace:
        model(Tensor(np.ones((1, 2), np.float32))).sum().backward()
    assert names(draw_graph(trace), "module") == ["layer", "layer, call 2"]


def test_only_what_leads_to_the_tensor_is_drawn():
    a = value(2.0)
    with Trace() as trace:
        b = a * 3.0
        a.exp()
    assert [box.name for box in draw_graph(b, trace=trace).graph.boxes] == ["b", "a"]


def test_the_svg_is_well_formed_whatever_the_names(tmp_path):
    a = value(2.0)
    with Trace() as trace:
        trace.name(a, 'x<y & "z"')
        a * 2.0
    picture = draw_graph(trace, direction="right")
    root = ElementTree.fromstring(picture._repr_svg_())
    assert 'x<y & "z"' in [text.text for text in root.iter(f"{SVG}text")]
    path = picture.save(tmp_path / "g.svg")
    assert path.read_text(encoding="utf-8") == picture.svg and [p.name for p in tmp_path.iterdir()] == ["g.svg"]
    assert "2 boxes" in repr(picture)


def test_misuse_is_told(traced):
    with pytest.raises(TypeError, match="a Tensor, a Trace or a Stepper, got int"):
        draw_graph(3)
    with pytest.raises(ValueError, match="requires_grad_"):
        draw_graph(Tensor([1.0]))
    with pytest.raises(ValueError, match="'down' or 'right'"):
        draw_graph(traced[1], direction="up")
    with pytest.raises(ValueError, match="not the result of an op of the trace"):
        draw_graph(value(1.0), trace=traced[1])
    with pytest.raises(ValueError, match="no op ran"):
        draw_graph(Trace())
    with pytest.raises(ValueError, match="at least 1"):
        draw_graph(traced[1], most=0)


def test_what_is_too_much_is_one_box(traced):
    _, trace, loss = traced
    picture = draw_graph(trace, open="all", most=5)
    assert len([b for b in picture.graph.boxes if b.kind in ("op", "fused")]) == 5
    (rest,) = [b for b in picture.graph.boxes if b.kind == "rest"]
    assert rest.rows == [("", f"{len(trace) - 5} ops not drawn")]
    assert len([b for b in draw_graph(loss, most=3).graph.boxes if b.kind in ("op", "fused")]) == 3


# -- the layout
@st.composite
def graphs(draw):
    n = draw(st.integers(1, 25))
    edges = draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=60))
    sizes = draw(st.lists(st.tuples(st.integers(10, 200), st.integers(10, 90)), min_size=n, max_size=n))
    return sizes, [(u, v) for u, v in edges if u < v]


@settings(max_examples=60)
@given(graphs())
def test_no_box_lies_on_another_and_all_edges_lead_on(graph):
    sizes, edges = graph
    layout = layered(sizes, edges)
    boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(layout.places, sizes, strict=True)]
    for i, a in enumerate(boxes):
        assert a[0] >= -1e-6 and a[1] >= -1e-6 and a[2] <= layout.width + 1e-6 and a[3] <= layout.height + 1e-6
        for b in boxes[:i]:
            assert a[2] <= b[0] + 1e-6 or b[2] <= a[0] + 1e-6 or a[3] <= b[1] + 1e-6 or b[3] <= a[1] + 1e-6
    for (u, v), route in zip(edges, layout.routes, strict=True):
        assert route[0] == (layout.places[u][0], boxes[u][3]) and route[-1] == (layout.places[v][0], boxes[v][1])
        assert all(p[1] <= q[1] for p, q in zip(route, route[1:]))
        for x, y in route[1:-1]:  # through no box
            assert not any(b[0] < x < b[2] and b[1] < y < b[3] for b in boxes)


def test_edges_that_need_not_cross_do_not():
    edges = [(0, 3), (1, 2), (2, 5), (3, 4)]  # two chains, the second given crosswise
    layout = layered([(50, 20)] * 6, edges)
    (a, b) = (layout.places[0][0] < layout.places[1][0], layout.places[3][0] < layout.places[2][0])
    assert a == b


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        layered([(10, 10)] * 2, [(0, 1), (1, 0)])


def test_ten_thousand_ops_are_drawn_in_seconds():
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    with Trace() as trace:
        y = x
        for _ in range(5000):
            y = (y + x) * 0.5
    began = time.process_time()
    assert len(draw_graph(trace).graph.boxes) == 502  # one more for what came before, and x
    assert len(draw_graph(y).graph.boxes) == 502
    assert time.process_time() - began < 5.0


# -- odd programs
def test_characters_that_xml_has_not_are_replaced():
    with Trace() as trace:
        trace.name(x := value(1.0), '<a>&"b\x00\x1b\ud800')
        x * 2.0
    texts = [t.text for t in ElementTree.fromstring(draw_graph(trace).svg.encode()).iter(f"{SVG}text")]
    assert '<a>&"b\ufffd\ufffd\ufffd' in texts


def test_what_a_checkpoint_gives_is_no_leaf_in_a_trace():
    x = value(2.0)
    with Trace() as trace:
        y = checkpoint(lambda x: x * x + 1.0, x)
        z = y * 3.0
        z.backward()
    picture = draw_graph(trace)
    assert [box.kind for box in picture.graph.boxes].count("leaf") == 1 and len(picture.graph.edges) == 3
    (y_row,) = rows(picture, "x * x + 1.0")
    assert y_row["grad"] == "3"
    assert len(draw_graph(y, trace=trace).graph.boxes) == 3


def test_a_result_that_was_written_in_place_says_so():
    a = Tensor([1.0, 2.0])
    with Trace() as trace:
        y = a * 2.0
        y[0] = 5.0
    (row,) = rows(draw_graph(trace), "y")
    assert row["data"] == "[5, 4]" and row[""] == "written in place since"


def test_a_module_to_open_that_did_not_run_is_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with Trace(model) as trace:
        model(Tensor([[1.0, 2.0]]))
    assert len(draw_graph(trace, open="1").graph.boxes) > len(draw_graph(trace).graph.boxes)
    for wrong in ("2", "0.weights", "x.*"):
        with pytest.raises(ValueError, match="no module .* ran: there are 0, 1"):
            draw_graph(trace, open=wrong)
    with pytest.raises(TypeError, match="a module's path"):
        draw_graph(trace, open=3)
    with pytest.raises(TypeError, match="most must be an integer"):
        draw_graph(trace, most="all")


def test_modules_added_since_the_last_picture_have_their_paths():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with Trace() as trace:
        model(Tensor([[1.0, 2.0]]))
    draw_graph(trace)
    model.append(nn.Linear(2, 2))
    with Trace() as trace:
        model(Tensor([[1.0, 2.0]]))
    assert [box.name for box in draw_graph(trace).graph.boxes if box.kind == "module"] == ["0", "1", "2"]


def test_a_leaf_that_every_op_reads_makes_no_large_file():
    x = value(1.0)
    y = x
    for _ in range(300):
        y = y + x
    assert len(draw_graph(y).svg) < 400_000


def test_a_box_has_room_for_a_name_of_wide_characters():
    def width(name):
        with Trace() as trace:
            trace.name(x := value(1.0), name)
            x * 2.0
        cards = ElementTree.fromstring(draw_graph(trace).svg).iter(f"{SVG}rect")
        return max(float(card.get("width")) for card in cards if card.get("class") == "card")

    assert width("変数" * 6) == width("ab" * 12)
