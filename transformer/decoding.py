"""What token comes next, in logits, of a text that grows: each token's keys and values are computed once and kept.

Every token after the first is a replay of one that was recorded, whose inputs are the token and its position: on the GPU
one launch of a captured graph, on the CPU a tape (tinygrad_lite/tape.py). Of 13 ms a token of GPT-2 124M on two cores the
engine and Python were some 3, in a replay they are 0.5.
"""

from __future__ import annotations

import contextlib
import weakref
from functools import partial

import numpy as np

from tinygrad_lite import Generator, as_tensor, no_grad
from tinygrad_lite.config import settings
from tinygrad_lite.kernels import lookup
from tinygrad_lite.tape import Repeat, attributes

from .attention import Cache
from .model import as_tokens


def last_logits(model, tokens, cache=None):
    """Logits (1, 1, V) in float32 of what follows tokens (1, T)."""
    hidden = model.hidden(tokens, cache)
    return model.head(hidden[:, -1:]).float()  # the other positions' would cost a prompt of 16 as much as a token


class Reader:
    """next(text, known) gives the logits (V,) after a text, of whose tokens the first `known` are those of the last call."""

    def __init__(self, model):
        self.model, self.cache = model, Cache(1, model)
        self.made_for = self._kind()

    def _kind(self):
        weight = self.model.tokens.weight
        return weight.device, weight.dtype

    def fits(self) -> bool:
        """Whether the model is where it was, and of the type that it had."""
        return self._kind() == self.made_for

    def next(self, text: list[int], known: int) -> np.ndarray:
        """Read what is not known yet; known = 0 begins anew."""
        self.cache.cut_to(known)
        with no_grad():
            return last_logits(self.model, as_tokens([text[known:]], self.model.device), self.cache).numpy()[0, -1]


class ReplayingReader(Reader):
    """A Reader to which a single new token is a replay, on the memory that the first text's cache had.

    Weights may change in place at any time. Where they are replaced, `fits` says so. It is kept as long as its model, see
    `reading`, and so does not hold it.
    """

    def __init__(self, model):
        super().__init__(weakref.proxy(model))
        self.parameters = list(model.parameters())
        self.modules, self.attributes = (
            list(map(weakref.ref, model.modules())),
            list(map(_weakly, attributes(model.modules()))),
        )
        self.places = self._places()

    def _places(self):
        raise NotImplementedError

    def _replay(self, given: np.ndarray) -> np.ndarray:
        """The logits (1, 1, V) after a token at a position: an int64 array of the two."""
        raise NotImplementedError

    def fits(self) -> bool:
        """Whether the weights are where they were, too."""
        return super().fits() and self._places() == self.places and settings.use_fused

    def is_of(self, model) -> bool:
        """Whether these are the model's parameters, modules and settings: to ask takes longer than a token."""
        now = attributes(model.modules())
        return len(now) == len(self.attributes) and all(
            held() is x for held, x in zip(self.attributes, now, strict=True)
        )

    def has_hooks(self) -> bool:
        """Whether the model or one of its modules has hooks, which are to be called for every token."""
        return any(module.has_hooks for held in self.modules if (module := held()) is not None)

    def next(self, text: list[int], known: int) -> np.ndarray:
        # A text that begins may hold ids that are none: a replay does not look.
        if known == 0 or len(text) - known != 1 or self.has_hooks():
            return super().next(text, known)
        logits = self._replay(np.array([text[-1], known], np.int64))[0, -1]
        self.cache.hold(known + 1)
        return logits


def _weakly(x):
    """A function that gives x, and holds it only if it is a number or the like, which cannot hold the model."""
    try:
        return weakref.ref(x)
    except TypeError:
        return lambda: x


class DeviceReader(ReplayingReader):
    """On "cuda": a replay is a launch of a captured graph."""

    def __init__(self, model):
        from tinygrad_lite.kernels.cuda.graph import Graph  # not on the way of a program without a GPU

        super().__init__(model)
        # A function that does not hold this reader, whose memory then goes with it. Nothing is drawn.
        self.graph = Graph(partial(_step, self.model, self.cache), Generator(0), enabled=settings.use_graph)

    def _places(self):
        return [p.data.data.ptr for p in self.parameters]

    def _replay(self, given):
        return self.graph(given)[0]


class TapeReader(ReplayingReader):
    """On the CPU: a replay is a tape's."""

    def __init__(self, model):
        self.arrays = [p.data for p in model.parameters()]  # held, so that no others have their ids
        super().__init__(model)
        self.repeat = Repeat(partial(_step, self.model, self.cache))

    def _places(self):
        return [id(p.data) for p in self.parameters]

    def _replay(self, given):
        return self.repeat(given)[0].copy()  # the next token's will stand in the same array


def _step(model, cache, given):
    """The logits after one new token; given: that token and its position, where the model is."""
    cache.cut_to(given[1:])
    with no_grad():
        return [last_logits(model, as_tensor(given[:1].reshape(1, 1), model.device), cache).data]


_kept = weakref.WeakKeyDictionary()  # a model's ReplayingReader, while nobody reads with it


def _kind_of_reader(model) -> type[Reader]:
    """DeviceReader or TapeReader where the fused kernel of attention takes the model, else Reader."""
    kernel, on_gpu = lookup(model.device.name, "attention_decode"), model.device.name == "cuda"
    takes = kernel is not None and settings.use_fused and model.tokens.weight.dtype in kernel.DTYPES
    if not takes or not kernel.supports(model.config.head_size):
        return Reader
    return DeviceReader if on_gpu else TapeReader if settings.use_graph else Reader


@contextlib.contextmanager
def reading(model):
    """Inside, `next(text, known)` of a Reader of this model, whose weights may change meanwhile, even their type.

    Modules, parameters and other attributes in the place of others are seen where a text begins.

    A ReplayingReader is kept from one text to the next, for to capture a graph takes as long as some twenty tokens, and to
    record a tape and prove it as long as two.
    """
    reader = _kept.pop(model, None)  # two generators of a model that take turns have one each
    if reader is not None and not (_kind_of_reader(model) is type(reader) and reader.is_of(model)):
        reader = None

    def read(text, known):
        nonlocal reader
        if reader is None or not reader.fits():
            reader, known = _kind_of_reader(model)(model), 0
        return reader.next(text, known)

    try:
        yield read
    finally:
        if isinstance(reader, ReplayingReader):
            _kept[model] = reader
