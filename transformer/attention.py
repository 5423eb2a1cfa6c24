"""Causal self-attention: one projection to queries, keys and values, heads, one projection back."""

from __future__ import annotations

import math
import operator

import numpy as np

from tinygrad_lite import as_tensor, nn
from tinygrad_lite import functional as F
from tinygrad_lite.kernels import lookup

from .config import GPTConfig


def add_to(residual, linear, x, dropout):
    """residual + dropout(linear(x)); the sum comes with the product where no dropout stands between."""
    if dropout.training and dropout.p > 0.0:
        return residual + dropout(linear(x))
    return linear(x, residual)


class Attention(nn.Module):
    """H query heads over kv_heads shared key-value heads, causal. arXiv:1706.03762, arXiv:2305.13245.

    With a window W a token sees the last W positions only, its own among them: arXiv:2004.05150.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        d = config.head_size
        self.qkv = nn.Linear(config.channels, (config.heads + 2 * config.kv_heads) * d, bias=config.bias)
        self.project = nn.Linear(config.channels, config.channels, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)
        self.scale, self.causal = 1.0 / math.sqrt(d), True

    def forward(self, x, residual, cache=None):
        """residual + attention(x), both (B, T, C)."""
        c = self.config
        qkv = self.qkv(x)  # (B, T, (H + 2 Hkv) D)
        if cache is not None and cache.is_in_array:
            return add_to(residual, self.project, self._decode(qkv, cache), self.dropout)
        if c.positions == "rope":
            start = 0 if cache is None else cache.length
            qkv = F.rotary(qkv, c.heads + c.kv_heads, c.head_size, start, c.rope_base)  # queries and keys
        dropout = self.dropout.p if self.training else 0.0, self.dropout.generator  # of the weights
        if cache is not None:
            out = self._with_cache(qkv, cache, dropout)
        else:
            out = F.attention_qkv(qkv, c.heads, c.kv_heads, self.causal, self.scale, c.window, *dropout)  # (B, T, C)
        return add_to(residual, self.project, out, self.dropout)

    def _with_cache(self, qkv, cache, dropout):
        """The new positions' queries over the keys and values of all; gradients end here.

        On arrays: heads as views of Tensors would cost 50 microseconds a layer, a tenth of a token's time at 124M.
        """
        c = self.config
        b, t, _ = qkv.shape
        heads = qkv.data.reshape(b, t, c.heads + 2 * c.kv_heads, c.head_size).swapaxes(1, 2)  # (B, H + 2 Hkv, T, D)
        q, k, v = heads[:, : c.heads], heads[:, c.heads : -c.kv_heads], heads[:, -c.kv_heads :]
        q, k, v = (as_tensor(x, qkv.device) for x in (q, *cache.append(k, v)))
        out = F.scaled_dot_product_attention(q, k, v, True, self.scale, c.window, *dropout)  # (B, H, T, D)
        return as_tensor(out.data.swapaxes(1, 2).reshape(b, t, c.channels), qkv.device)

    def _decode(self, qkv, cache):
        """The same of one new position, which stands in an array: what a replay does for every token."""
        c, row, device = self.config, qkv.data, qkv.device.name
        if c.positions == "rope":
            turned = dict(heads=c.heads + c.kv_heads, size=c.head_size, base=c.rope_base)
            row = lookup(device, "rotary").forward_at(row, cache.length, c.block_size, **turned)
        attend = lookup(device, "attention_decode").attend
        out = attend(row, cache.keys, cache.values, cache.length, heads=c.heads, window=c.window, scale=self.scale)
        return as_tensor(out, qkv.device)


class LayerCache:
    """Keys and values of one layer, (B, Hkv, T, D), in memory allocated once.

    length: how many positions it holds: an integer, or an int64 array (1,) where the model is.
    """

    __slots__ = ("keys", "values", "length")

    def __init__(self, batch: int, config: GPTConfig, like):
        shape = (batch, config.kv_heads, config.block_size, config.head_size)
        xp = like.device.xp
        self.keys, self.values, self.length = xp.empty(shape, like.dtype), xp.empty(shape, like.dtype), 0

    @property
    def is_in_array(self) -> bool:
        """Whether the length stands in an array, which only kernels read."""
        return not isinstance(self.length, int)

    def append(self, k, v):
        """Add the new positions, arrays (B, Hkv, T, D), and return views of all keys and values so far."""
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class Cache:
    """The keys and values of all layers of a model while generating, where the model is and in its type."""

    def __init__(self, batch: int, model):
        config, like = model.config, next(model.parameters())
        self.layers = [LayerCache(batch, config, like) for _ in range(config.layers)]
        self.length, self.most, self.device = 0, config.block_size, like.device

    def cut_to(self, length):
        """Hold the first `length` positions, an integer, or an int64 array (1,) where the model is; later ones are forgotten.

        Raises TypeError for anything else, ValueError for more positions than it holds.
        """
        if isinstance(length, self.device.xp.ndarray) and (self.device.xp.lib is not np or length.ndim):
            if (length.shape, length.dtype) != ((1,), np.int64):
                raise TypeError(f"cut_to: an array must be int64 (1,), got {length.dtype} {length.shape}")
        else:
            try:
                length = operator.index(length)  # of NumPy's integers too: `is_in_array` tells by the type
            except TypeError:
                raise TypeError(f"cut_to: expected an integer, or an int64 array (1,), got {length!r}") from None
            held = self.length if isinstance(self.length, int) else self.most
            if not 0 <= length <= held:
                raise ValueError(f"cut_to: expected a length from 0 to {held}, got {length}")
        self.hold(length)

    def hold(self, length):
        """Say that so many positions are held: a replay adds some that Python does not see."""
        for part in (self, *self.layers):
            part.length = length
