"""Causal self-attention: one projection to queries, keys and values, heads, one projection back."""

from __future__ import annotations

import math

import numpy as np

from tinygrad_lite import Tensor, nn, ones
from tinygrad_lite import functional as F

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
        self.scale = 1.0 / math.sqrt(d)

    def forward(self, x, residual, cache=None):
        """residual + attention(x), both (B, T, C)."""
        c = self.config
        b, t, _ = x.shape
        qkv = self.qkv(x)  # (B, T, (H + 2 Hkv) D)
        if c.positions == "rope":
            start = 0 if cache is None else cache.length
            qkv = F.rotary(qkv, c.heads + c.kv_heads, c.head_size, start)  # queries and keys; values stay
        drops = self.training and c.dropout > 0.0
        if cache is None and not drops:
            out = F.attention_qkv(qkv, c.heads, c.kv_heads, True, self.scale, c.window)  # (B, T, C)
        else:
            q, k, v = self._heads(qkv, b, t)
            if cache is not None:
                k, v = cache.append(k, v)
            if drops:
                out = self._with_dropout(q, k, v)
            else:
                out = F.scaled_dot_product_attention(q, k, v, True, self.scale, c.window)  # (B, H, T, D)
            out = out.transpose(1, 2).reshape(b, t, c.channels)
        return add_to(residual, self.project, out, self.dropout)

    def _heads(self, qkv, b, t):
        c, d = self.config, self.config.head_size
        q, k, v = qkv.split([c.heads * d, c.kv_heads * d, c.kv_heads * d], dim=2)
        q = q.reshape(b, t, c.heads, d).transpose(1, 2)  # (B, H, T, D)
        k = k.reshape(b, t, c.kv_heads, d).transpose(1, 2)  # (B, Hkv, T, D)
        v = v.reshape(b, t, c.kv_heads, d).transpose(1, 2)
        return q, k, v

    def _with_dropout(self, q, k, v):
        """Dropout on the attention weights needs them in full: the plain form."""
        c = self.config
        b, h, t, d = q.shape
        s = k.shape[2]  # T, and what a cache held before
        if c.kv_heads != c.heads:
            k, v = (x.unsqueeze(2).expand(b, c.kv_heads, h // c.kv_heads, s, d).reshape(b, h, s, d) for x in (k, v))
        scores = q @ k.transpose(2, 3) * self.scale  # (B, H, T, S)
        seen = ones(t, s).tril(s - t)  # the queries are the last T of the S positions
        if c.window is not None:
            seen = seen - ones(t, s).tril(s - t - c.window)
        weights = F.softmax(scores.masked_fill(seen == 0.0, -math.inf), dim=-1)
        return self.dropout(weights) @ v


class LayerCache:
    """Keys and values of one layer, (B, Hkv, T, D), in memory allocated once."""

    __slots__ = ("keys", "values", "length")

    def __init__(self, batch: int, config: GPTConfig):
        shape = (batch, config.kv_heads, config.block_size, config.head_size)
        self.keys, self.values, self.length = np.empty(shape, np.float32), np.empty(shape, np.float32), 0

    def append(self, k, v):
        """Add the new positions and return all keys and values so far."""
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end] = k.data
        self.values[:, :, self.length : end] = v.data
        self.length = end
        return Tensor(self.keys[:, :, :end]), Tensor(self.values[:, :, :end])


class Cache:
    """The keys and values of all layers while generating."""

    def __init__(self, batch: int, config: GPTConfig):
        self.layers = [LayerCache(batch, config) for _ in range(config.layers)]
        self.length = 0
