"""The step that the page shows is the step that trains, and what the page stores of it is off by its rounding alone."""

import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from support.view_models import checkpoint, ids
from typer.testing import CliRunner

import tokenizer as tokenizers
from transformer.cli.app import app
from transformer.model import as_tokens
from transformer.presets import TrainConfig
from transformer.trainer import Trainer
from transformer.view import frames, page
from transformer.view.collect import collect, load, take_step
from transformer.view.nodes import Tree
from transformer.view.pack import BYTE, EIGHT, HALF, ROUNDING, SINGLE, Packer, cut
from transformer.view.serve import server
from transformer.view.twin import attention_weights

TEXT = "To be, or not to be, that is the question. " * 40


@pytest.fixture(scope="module")
def seen():
    source = checkpoint()
    return collect(source, ids(source))


@pytest.fixture(scope="module")
def drawn(seen):
    packer = Packer()
    return Tree(seen, packer), packer


def trainer(out, optimizer):
    tok = tokenizers.CharTokenizer.train(TEXT)
    config = TrainConfig(tokenizer="char", model=dict(layers=2, heads=2, channels=16, block_size=16), batch_size=2, steps=9, warmup=2,
                         optimizer=optimizer, eval_every=100, clip=0.5)  # fmt: skip
    tokens = np.asarray(tok.encode(TEXT), dtype=np.int64)
    return Trainer(config, tokens[:1200], tokens[1200:], tok, out)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_update_is_the_one_that_training_makes_with_that_text_as_its_batch(tmp_path, optimizer):
    run = trainer(tmp_path, optimizer)
    for step in range(3):
        run.train_step(step)
    run.progress.step = 3
    run.save()
    text = run.loader.tokens[100:117]
    update = take_step(load(tmp_path), as_tokens(text[None, :-1]), as_tokens(text[None, 1:]))
    run.loader.batch = lambda step, micro, of: (text[None, :-1], text[None, 1:])
    values = run.train_step(3)
    assert (update.loss, update.lr) == (values["loss"], values["lr"]) and update.clip < 1.0
    for name, p in run.model.named_parameters():
        assert p.numpy().tobytes() == update.changes[name].after.tobytes(), name
        assert update.changes[name].before.tobytes() != update.changes[name].after.tobytes(), name


def test_watched_gradients_have_the_bits_of_an_ordinary_backward_and_the_page_rounds_them_once(seen, drawn):
    found = page.parity(seen, *drawn)
    assert found["exact"] and found["loss"] == 0.0
    assert found["logits"] < 1e-5 and found["twin"] < 1e-4
    assert 0.0 < found["parameter_gradients"] <= ROUNDING[HALF]
    assert 0.0 < found["activation_gradients"] <= ROUNDING[HALF]


def test_a_gradient_that_is_not_the_models_is_found(seen, drawn):
    name = "blocks.0.mlp.up.weight"
    kept = seen.update.changes[name].gradient
    seen.update.changes[name].gradient = kept * np.float32(1.01)
    try:
        found = page.parity(seen, *drawn)
    finally:
        seen.update.changes[name].gradient = kept
    assert not found["exact"] and found["parameter_gradients"] > 5e-3


def test_a_model_with_a_nan_has_a_page_whose_parity_holds():
    source = checkpoint()
    source.model.blocks[1].mlp.up.weight.data[3, 2] = np.nan
    collected, packer = collect(source, ids(source)), Packer()
    tree = Tree(collected, packer)
    found = page.parity(collected, tree, packer)
    assert found["exact"] and found["logits"] == 0.0 and found["parameter_gradients"] == 0.0
    packer._data[tree.logits] = bytes(len(packer._data[tree.logits]))
    assert page.parity(collected, tree, packer)["logits"] == np.inf
    assert "NaN" not in page._json({"loss": float("nan"), "text": "NaN"}).replace('"NaN"', "")


def test_losses_and_logits_are_the_models(seen):
    logits = seen.logits.astype(np.float64)
    nll = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), seen.targets]
    np.testing.assert_allclose(seen.losses, nll, rtol=1e-5)
    assert seen.loss == pytest.approx(nll.mean(), rel=1e-6)


def test_attention_weights_are_the_softmax_of_the_recorded_queries_and_keys(seen):
    event = next(e for e in seen.trace if e.op.name == "attention_qkv")
    twin = seen.twins[event.index]
    weights = attention_weights(twin)
    q, k, v = np.split(event.xs[0].numpy()[0].reshape(12, 6, 8).transpose(1, 0, 2), 3)
    scores = np.where(np.tril(np.ones((12, 12))) > 0, q @ k.transpose(0, 2, 1) * event.params["scale"], -np.inf)
    expected = np.exp(scores - scores.max(axis=2, keepdims=True))
    expected /= expected.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(weights.out.numpy()[0], expected, atol=1e-6)
    g = np.asarray(seen.by_event[event.index].g)[0].reshape(12, 2, 8).transpose(1, 0, 2)  # (H, T, D)
    np.testing.assert_allclose(np.asarray(twin.steps[weights.index].g)[0], g @ v.transpose(0, 2, 1), atol=1e-6)


def test_every_op_and_parameter_is_in_the_tree_once_and_modules_count_their_parameters(seen, drawn):
    tree = drawn[0]
    events = [n["event"] for n in tree.nodes if n["kind"] == "op"]
    assert sorted(events) == list(range(len(seen.trace))) and len(set(events)) == len(events)
    assert {n["path"] for n in tree.nodes if n["kind"] == "param"} == set(seen.update.changes)
    assert tree.nodes[0]["parameters"] == seen.source.model.num_parameters()
    assert all(n["up"] is None or n["up"] < n["id"] for n in tree.nodes)
    qkv = next(n for n in tree.nodes if n["kind"] == "op" and n["path"] == "blocks.0.attention.qkv")
    file, line, *_, statement, start, end = tree.places[qkv["place"]]
    assert file.replace("\\", "/") == "transformer/attention.py" and statement[start:end] == "self.qkv(x)" and line > 1
    weight = next(i for i in qkv["inputs"] if i["name"] == "weight")
    assert tree.nodes[weight["node"]]["path"] == "blocks.0.attention.qkv.weight"


def test_sums_before_and_after_are_the_walks(seen, drawn):
    tree = drawn[0]
    shown = {n["event"]: n["inputs"] for n in tree.nodes if n["kind"] == "op"}
    joined = 0
    for step in seen.walk:
        for i, after in enumerate(step.after if step.event is not None else ()):
            if step.sent[i] is None:
                continue
            entry = shown[step.event.index][i]
            assert entry["after"] == pytest.approx(np.linalg.norm(after), rel=1e-5)
            joined += entry["before"] is not None
            if entry["before"] is not None:
                assert entry["before"] == pytest.approx(np.linalg.norm(step.before[i]), rel=1e-5)
    assert joined >= 4  # a norm's share joins the residual's, twice a block


@pytest.mark.slow
@pytest.mark.parametrize("variant", [
    dict(mlp="swiglu", norm="rmsnorm", positions="rope", bias=False),
    dict(kv_heads=1, window=3, positions="none", tied=False, mlp="relu", dropout=0.3),
])  # fmt: skip
def test_every_kind_of_model_has_a_page(variant):
    source = checkpoint(**variant)
    collected, packer = collect(source, ids(source)), Packer()
    tree = Tree(collected, packer)
    assert page.parity(collected, tree, packer)["exact"] and len(tree.attention) == 2 and tree.logits is not None
    weights = packer.decoded(tree.nodes[tree.attention[0]["weights"]]["out"])
    assert weights.shape == (1, 2, 12, 12) and np.allclose(weights.sum(axis=3), 1.0, atol=1e-3)
    assert "window" not in variant or not weights[0, :, 3:, 0].any()
    assert len(page.build(collected)) > 50_000


@pytest.mark.parametrize("kind", [SINGLE, HALF, EIGHT])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 3e4])
def test_a_stored_value_is_off_by_the_rounding_that_is_said(kind, scale):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(5, 7)) * scale).astype(np.float32)
    packer = Packer()
    back = packer.decoded(packer.add(values, kind))
    assert np.all(np.abs(back - values) <= ROUNDING[kind] * np.maximum(np.abs(values), np.abs(values).max() * 2.0**-11))
    assert kind != SINGLE or back.tobytes() == values.tobytes()


def test_what_is_not_finite_stays_so_and_shares_no_scale():
    values = np.array([[0.0, -np.inf, np.nan, 2.0]], np.float32)
    for kind in (SINGLE, HALF, EIGHT):
        packer = Packer()
        back = packer.decoded(packer.add(values, kind))
        assert back[0, 0] == 0.0 and back[0, 1] == -np.inf and np.isnan(back[0, 2]) and back[0, 3] == 2.0
    assert packer.entries[0]["most"] == 2.0


def test_equal_arrays_are_stored_once_and_attention_in_a_byte():
    packer = Packer()
    a = np.linspace(0.0, 1.0, 32, dtype=np.float32)
    packer.add(a)
    size = packer.size
    packer.add(a.reshape(4, 8))
    assert packer.size == size and packer.entries[1]["at"] == packer.entries[0]["at"]
    assert np.abs(packer.decoded(packer.add(a, BYTE)) - a).max() <= ROUNDING[BYTE] + 1e-7


def test_of_a_large_array_the_wanted_rows_stay_and_the_page_says_which():
    array = np.arange(40.0).reshape(10, 4)
    part, said = cut(array, 12, {0: np.arange(10) % 5})
    assert said["of"] == [10, 4] and said["picks"] == {0: [3, 4, 9]} and np.array_equal(part, array[[3, 4, 9]])
    part, said = cut(array, 20)
    assert part.shape == (10, 2) and said["picks"] == {1: [0, 3]}
    assert cut(array, 40)[0] is array


def test_frames_are_a_runs_checkpoints_and_the_untrained_model(tmp_path):
    run = trainer(tmp_path, "adamw")
    run.config.keep = True
    for step in range(4):
        run.train_step(step)
        run.progress.step = step + 1
        run.save()
    newest = load(tmp_path)
    found = frames.frames_for(newest, tmp_path, [])
    assert [one.step for one in found] == [0, 1, 2, 3]
    first = dict(found[0].model.named_parameters())
    assert all(
        p.numpy().tobytes() == first[n].numpy().tobytes() for n, p in trainer(None, "adamw").model.named_parameters()
    )
    named = frames.frames_for(newest, tmp_path, [tmp_path / "step-00000002"])
    assert [one.step for one in named] == [0, 2]
    middle = tmp_path / "step-00000002"
    assert [one.step for one in frames.frames_for(load(middle), middle, [])] == [0, 1]
    with pytest.raises(ValueError, match="is of step 3, after the page's 2: name it with --from"):
        frames.frames_for(load(middle), middle, [tmp_path / "step-00000003"])
    other = checkpoint(layers=1)
    with pytest.raises(ValueError, match="holds another model or tokenizer"):
        frames.frames_for(other, tmp_path, [tmp_path / "step-00000002"])


def test_a_small_picture_keeps_of_each_group_of_channels_the_largest_value():
    array = np.array([[[1.0, -2.0, 0.5, 0.0], [0.0, 0.25, -0.5, 4.0]]])  # (1, T=2, C=4)
    assert frames.strip(np.repeat(array, 4, axis=2), 2).tolist() == [
        [0.25, 0.0], [0.25, 0.0], [-0.5, 0.0625], [-0.5, 0.0625], [0.125, -0.125], [0.125, -0.125], [0.0, 1.0], [0.0, 1.0],
    ]  # fmt: skip
    assert frames.strip(np.array([2.0, -4.0]), 2).shape == (frames.BINS, 2)


def test_the_command_writes_the_page_whole_and_refuses_what_cannot_be_shown(tmp_path):
    run = trainer(tmp_path / "run", "adamw")
    run.save()
    tgl = lambda *args: CliRunner().invoke(app, ["view", "--from", str(tmp_path / "run"), *map(str, args)])
    out = tmp_path / "new" / "page.html"
    result = tgl("--text", "To be, or not to be, that", "--out", out)
    assert result.exit_code == 0, result.exception
    assert "shows the first 16" in result.stdout and [p.name for p in out.parent.iterdir()] == ["page.html"]
    html = out.read_text(encoding="utf-8")
    assert "http://" not in html.replace("http://www.w3.org", "") and "https://" not in html and "{{" not in html[:3000]
    for args, message in (
        (("--text", "T"), "a step needs two"), (("--text", "Té"), "--text: character 'é'"),
        (("--text", "To be", "--out", tmp_path), "is a directory: name a file"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            raise tgl(*args).exception


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "page.html").mkdir()
    for wrong, error in ((tmp_path / "page.html", OSError), (tmp_path / "new.html", UnicodeEncodeError)):
        with pytest.raises(error):
            page.write(wrong, "\ud800" if wrong.name == "new.html" else "<p>")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_tokens_within_a_character_are_shown_by_their_bytes():
    tok = tokenizers.BPETokenizer.train("abc", 256)
    assert [page._piece(tok, i) for i in tok.encode("é<")] == ["\\xc3", "\\xa9", "<"]


def test_the_page_is_served_on_this_machine_only():
    with server("<p>é</p>", 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            host, port = running.server_address
            assert host == "127.0.0.1"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert answer.read().decode() == "<p>é</p>" and "utf-8" in answer.headers["Content-Type"]
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/etc/passwd")
        finally:
            running.shutdown()
            thread.join()


@pytest.mark.slow
def test_the_command_line_loads_nothing_of_the_page_until_it_is_asked_for():
    code = "import sys, transformer.cli.app; assert not [m for m in sys.modules if m.startswith(('transformer.view', 'tinygrad_lite.study'))]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
