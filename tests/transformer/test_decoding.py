"""Writing token by token on "cuda": a captured graph writes what the plain model does, whatever happens in between."""

import gc
import os
import weakref

import numpy as np
import pytest
from support.writers import MODELS, write, writer

from tinygrad_lite import optim
from tinygrad_lite.config import settings
from tinygrad_lite.kernels.cuda.emulator import unavailable
from transformer import decoding
from transformer.decoding import DeviceReader, last_logits
from transformer.model import as_tokens
from transformer.sampling import generate

pytestmark = pytest.mark.skipif(
    os.environ.get("TGL_CUDA") == "emulate" and unavailable() is not None, reason=str(unavailable())
)


def make(*given):
    """A writer on "cuda"."""
    return writer(*given).to("cuda")


def replays(model):
    """The reader that is kept for a model, whose graph is captured."""
    reader = decoding._kept[model]
    assert isinstance(reader, DeviceReader) and reader.graph.graph is not None
    return reader


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_those_without_a_cache_and_those_of_the_cpu(name):
    model = make(name)
    for prompt in ((7,), range(20)):  # both go past the context of 12
        written = write(model, prompt)
        assert len(set(written)) > 3 and written == write(model, prompt, use_cache=False)
        reader = replays(model)
    assert model.training and reader is replays(model)
    assert written == write(model.to("cpu"), prompt)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_whole_text(name):
    model, text = make(name).eval(), [int(i) for i in np.random.default_rng(0).integers(0, 30, 12)]
    reader = DeviceReader(model)
    for end in range(3, 13):
        got = reader.next(text[:end], 0 if end == 3 else end - 1)
        expected = last_logits(model, as_tokens([text[:end]], "cuda")).numpy()[0, -1]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_switched_off_nothing_is_captured_and_the_tokens_are_the_same(monkeypatch):
    expected = write(make())
    monkeypatch.setattr(settings, "use_graph", False)
    model = make()
    assert write(model) == expected and decoding._kept[model].graph.graph is None


def test_a_training_step_between_two_texts_is_seen():
    model = make()
    optimizer = optim.AdamW(model.parameters(), lr=0.3)

    def train():
        model.train()
        model(as_tokens([[1, 2, 3]], "cuda"), as_tokens([[2, 3, 4]], "cuda")).backward()
        optimizer.step()

    def same():
        model.eval()
        return write(model, count=8) == write(model, count=8, use_cache=False)

    before = write(model, count=8)
    train()
    assert same() and write(model, count=8) != before


def test_a_model_that_is_put_into_training_between_two_tokens_drops_nothing():
    model = make()
    writing = generate(model, [1, 2, 3], 8, temperature=0.0)
    written = [next(writing)]
    model.train()
    assert [*written, *writing] == write(model, count=8, use_cache=False)


@pytest.mark.parametrize("replace, in_place", [
    (lambda model: model.to("bfloat16"), False),
    (lambda model: model.to("cpu").to("cuda"), False),
    (lambda model: model.load_state_dict(make("gpt2", 4).state_dict()), True),
], ids=["bfloat16", "moved", "loaded"])  # fmt: skip
def test_weights_that_are_replaced_are_read_where_they_are(replace, in_place):
    model = make()
    write(model)
    writing = generate(model, [1, 2, 3], 9, temperature=0.0)
    first = [next(writing) for _ in range(5)]
    replace(model)
    model.head.weight.data[...] = -model.head.weight.data  # so that the weights of before show
    rest = list(writing)
    assert in_place or rest == write(model, [1, 2, 3, *first], 4)  # else keys and values of before stay
    model.eval()
    reader = decoding._kept[model]
    for end in (3, 4, 5):
        text = [1, 2, 3, 4, 5][:end]
        got = reader.next(text, 0 if end == 3 else end - 1)
        expected = last_logits(model, as_tokens([text], "cuda")).numpy()[0, -1]
        eps = 1e-5 if model.tokens.weight.dtype == np.float32 else 2.0**-5
        np.testing.assert_allclose(got, expected, rtol=0, atol=eps * np.abs(expected).max())


def test_a_parameter_or_a_module_in_the_place_of_another_is_seen():
    model, other = make(), make("gpt2", 4)
    before = write(model)
    model.head.weight = other.head.weight
    assert before != write(model) == write(model, use_cache=False)
    model.blocks[0].mlp = other.blocks[0].mlp
    assert write(model) == write(model, use_cache=False)


@pytest.mark.parametrize("names", [("cpu", "cuda"), ("cpu", "bfloat16"), ("cuda", "cpu", "cuda")], ids="-".join)
def test_a_model_that_moves_while_it_writes_reads_the_text_again(names):
    model = make().to(names[0])
    writing, written = generate(model, [1, 2, 3], 9, temperature=0.0), []
    for name in names:
        model.to(name)
        written += [next(writing), next(writing)]
    assert next(writing) == write(model, [1, 2, 3, *written], 1, use_cache=False)[0]


def test_hooks_are_called_for_every_token():
    model, calls = make(), []
    expected = write(model, count=6)
    hook = model.blocks[0].register_forward_hook(lambda *given: calls.append(given))
    assert write(model, count=6) == expected and len(calls) == 6
    hook.remove()
    assert write(model, count=6) == expected and len(calls) == 6 and replays(model)


@pytest.mark.parametrize("prompt", [[30], [-1], [1, 30]])
def test_a_prompt_of_ids_that_are_none_is_refused(prompt):
    model = make()
    write(model)
    with pytest.raises(IndexError, match=r"embedding: indices must be in \[0, 30\)"):
        write(model, prompt)


def test_texts_that_take_turns_do_not_mix_and_one_may_be_left_early():
    model = make()
    alone = [write(model, prompt, 10) for prompt in ((1, 2, 3), (9, 8))]
    pair = [generate(model, prompt, 10, temperature=0.0) for prompt in ((1, 2, 3), (9, 8))]
    assert [list(x) for x in zip(*zip(*pair))] == alone
    left = generate(model, [4], 10, temperature=0.0)
    next(left), next(left)
    left.close()
    assert write(model, (9, 8), 10) == alone[1] and model.training


@pytest.fixture
def no_collector():
    """Inside only the last reference frees an object: cycles stay."""
    gc.disable()
    yield
    gc.enable()


def test_what_is_kept_for_a_model_goes_with_it(no_collector):
    model = make()
    write(model)
    reader = replays(model)
    kept = [weakref.ref(x) for x in (reader, reader.cache, reader.graph, reader.graph.pool, model)]
    del model, reader
    assert [x() for x in kept] == [None] * 5


@pytest.mark.parametrize("shape, dtype", [((), np.int64), ((2,), np.int64), ((1,), np.int32)])
def test_a_cache_on_the_device_is_cut_to_one_int64(shape, dtype):
    model = make()
    reader = DeviceReader(model)
    with pytest.raises(TypeError, match=r"cut_to: an array must be int64 \(1,\)"):
        reader.cache.cut_to(model.device.xp.zeros(shape, dtype))
    with pytest.raises(ValueError, match="from 0 to 0, got 13"):
        reader.cache.cut_to(np.int64(13))
    reader.cache.cut_to(np.int64(0))
    assert not reader.cache.layers[0].is_in_array
