"""Writing token by token on the CPU: a replayed token is what the plain model writes, whatever happens in between."""

import gc
import weakref
from functools import partial

import numpy as np
import pytest
from support.writers import MODELS, write
from support.writers import writer as make

from tinygrad_lite import as_tensor, nn, optim
from tinygrad_lite.config import settings
from transformer import decoding
from transformer.decoding import Reader, TapeReader, last_logits
from transformer.model import MLP, as_tokens
from transformer.sampling import generate


def check_logits(reader, model, text, begin=3):
    """Each token's logits are those of the whole text, read anew."""
    for end in range(begin, len(text) + 1):
        got = reader.next(text[:end], 0 if end == begin else end - 1)
        expected = last_logits(model, as_tokens([text[:end]], "cpu")).numpy()[0, -1]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.fixture
def readers(monkeypatch):
    """Every TapeReader that is made."""
    made, init = [], TapeReader.__init__
    monkeypatch.setattr(TapeReader, "__init__", lambda self, model: (init(self, model), made.append(self))[0])
    return made


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_those_without_a_cache(name, readers):
    model = make(name)
    for prompt in ((7,), range(20)):  # both go past the context of 12
        written = write(model, prompt)
        assert len(set(written)) > 3 and written == write(model, prompt, use_cache=False)
    assert model.training and len(readers) == 1 and readers[0].repeat.is_proven


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_whole_text(name):
    model = make(name).eval()
    reader = TapeReader(model)
    for seed in range(2):  # the second text finds the tape of the first
        check_logits(reader, model, [int(i) for i in np.random.default_rng(seed).integers(0, 30, 12)])
    assert reader.repeat.is_proven
    text = list(range(9))
    reader.next(text[:3], 0)
    expected = last_logits(model, as_tokens([text], "cpu")).numpy()[0, -1]
    np.testing.assert_allclose(reader.next(text, 3), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_logits_that_are_kept_do_not_change_with_the_next_token():
    model, text = make().eval(), list(range(12))
    reader = TapeReader(model)
    kept = [reader.next(text[:end], end - 1 if end > 1 else 0) for end in range(1, 13)]
    again = [reader.next(text[:end], end - 1 if end > 1 else 0) for end in range(1, 13)]
    np.testing.assert_allclose(kept[1:], again[1:], rtol=0, atol=1e-5 * np.abs(again).max())


def test_weights_that_change_in_place_are_read_as_they_are():
    model = make().eval()
    reader = TapeReader(model)
    check_logits(reader, model, list(range(10)))
    for p in model.parameters():
        p.data[...] *= -0.9
    check_logits(reader, model, list(range(10)))


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_weights_in_the_place_of_others_are_seen(dtype):
    model = make()
    writing = generate(model, [1, 2, 3], 9, temperature=0.0)
    first = [next(writing) for _ in range(5)]
    model.to(dtype)
    rest = list(writing)
    assert rest == write(model, [1, 2, 3, *first], 4, use_cache=False)


def test_a_parameter_or_a_module_in_the_place_of_another_is_seen_where_a_text_begins():
    model, other = make(), make(seed=4)
    before = write(model)
    model.head.weight = other.head.weight
    assert before != write(model) == write(model, use_cache=False)
    model.blocks[0].mlp = other.blocks[0].mlp
    assert write(model) == write(model, use_cache=False)


@pytest.mark.parametrize("path, value", [("attention.scale", 0.01), ("norm1.eps", 3.0), ("mlp.activation", "relu")])
def test_a_setting_in_the_place_of_another_is_seen_where_a_text_begins(path, value):
    model, (name, attribute) = make(), path.split(".")
    before = write(model)
    setattr(getattr(model.blocks[0], name), attribute, value)
    assert before != write(model) == write(model, use_cache=False)


def test_an_attribute_that_is_taken_away_is_seen():
    class Shifted(MLP):
        def forward(self, x, residual):
            out = super().forward(x, residual)
            return out if self.shift is None else self.shift(out)

    model = make()
    mlp = model.blocks[0].mlp = Shifted(model.config)
    mlp.shift = lambda x: x * -1.0
    before = write(model)
    mlp.shift = None  # nobody holds the function any more
    assert before != write(model) == write(model, use_cache=False)


def test_arrays_in_the_place_of_views_have_no_ids_of_arrays_that_are_read():
    model = make()
    weight = model.head.weight
    weight.data = np.stack([weight.data] * 2)[0]  # a kernel is given a view of the larger array, and not of this one
    write(model)
    held = weakref.ref(weight.data)
    weight.data = make(seed=4).head.weight.data
    assert decoding._kept[model].repeat.is_proven and held() is not None
    assert write(model) == write(model, use_cache=False)


@pytest.mark.parametrize("count", [2, 12])
def test_a_token_that_a_tape_does_not_hold_whole_is_run_each_time(count):
    class Odd(nn.Module):  # a part of it is NumPy's, behind the engine's back
        def __init__(self, mlp):
            super().__init__()
            self.mlp = mlp

        def forward(self, x, residual):
            return self.mlp(x, residual) + as_tensor(x.data.sum(axis=-1, keepdims=True))

    model = make("llama")
    model.blocks[0].mlp = Odd(model.blocks[0].mlp)
    for _ in range(4):  # the same token at the same place each time is no proof; one that fails leaves the cache whole
        assert write(model, count=count) == write(model, count=count, use_cache=False)
    assert write(model) == write(model, use_cache=False)
    assert not decoding._kept[model].repeat.is_proven


def test_a_training_step_between_two_texts_is_seen():
    model = make()
    optimizer = optim.AdamW(model.parameters(), lr=0.3)
    before = write(model, count=8)
    model.train()
    model(as_tokens([[1, 2, 3]], "cpu"), as_tokens([[2, 3, 4]], "cpu")).backward()
    optimizer.step()
    model.eval()
    after = write(model, count=8)
    assert after == write(model, count=8, use_cache=False) != before


def test_hooks_are_called_for_every_token_after_they_are_set():
    model, calls = make(), []
    expected = write(model, count=9)
    writing = generate(model, [1, 2, 3], 9, temperature=0.0)
    written = [next(writing) for _ in range(5)]
    hook = model.blocks[0].register_forward_hook(lambda *given: calls.append(given))
    written += [next(writing), next(writing)]
    assert len(calls) == 2
    hook.remove()
    assert [*written, *writing] == expected and len(calls) == 2


def test_texts_that_take_turns_do_not_mix_and_one_may_be_left_early():
    model = make()
    alone = [write(model, prompt, 10) for prompt in ((1, 2, 3), (9, 8))]
    pair = [generate(model, prompt, 10, temperature=0.0) for prompt in ((1, 2, 3), (9, 8))]
    assert [list(x) for x in zip(*zip(*pair))] == alone
    left = generate(model, [4], 10, temperature=0.0)
    next(left), next(left)
    left.close()
    assert write(model, (9, 8), 10) == alone[1] and model.training


def test_what_is_kept_for_a_model_goes_with_it():
    gc.disable()  # only the last reference frees an object: cycles stay
    try:
        model = make()
        write(model)
        reader = decoding._kept[model]
        kept = [weakref.ref(x) for x in (reader, reader.cache, reader.repeat, model)]
        del model, reader
        assert [x() for x in kept] == [None] * 4
    finally:
        gc.enable()


def test_what_is_kept_does_not_hold_a_model_whose_modules_hold_it():
    model = make()
    model.blocks[0].parent, model.blocks[0].mlp.forward = (model,), partial(model.blocks[0].mlp.forward)
    model.parent = partial(write, model)
    write(model)
    held = weakref.ref(model)
    del model
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("fused, dtype, kind", [
    (True, "float32", TapeReader), (True, "float64", TapeReader), (False, "float32", Reader), (True, "float16", Reader),
])  # fmt: skip
def test_what_has_no_kernel_is_read_by_running_the_model(fused, dtype, kind, monkeypatch):
    monkeypatch.setattr(settings, "use_fused", fused)
    assert decoding._kind_of_reader(make().to(dtype)) is kind


def test_fused_kernels_that_are_turned_off_in_a_text_are_not_replayed(monkeypatch):
    model = make()
    expected, writing = write(model, count=9), generate(model, [1, 2, 3], 9, temperature=0.0)
    written = [next(writing) for _ in range(5)]
    monkeypatch.setattr(settings, "use_fused", False)
    monkeypatch.setattr(TapeReader, "_replay", None)
    assert [*written, *writing] == expected


def test_with_tgl_graph_off_nothing_is_recorded(monkeypatch):
    expected = write(make())
    monkeypatch.setattr(settings, "use_graph", False)
    assert decoding._kind_of_reader(make()) is Reader and write(make()) == expected


@pytest.mark.parametrize("prompt", [[30], [-1], [1, 30]])
def test_a_prompt_of_ids_that_are_none_is_refused(prompt):
    model = make()
    write(model)  # a replay, which there is by now, does not look at ids
    with pytest.raises(IndexError, match=r"embedding: indices must be in \[0, 30\)"):
        write(model, prompt)
