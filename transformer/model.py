"""The GPT: token and position embeddings, pre-norm blocks of attention and MLP, a head.

Radford et al. 2019 (GPT-2). Shapes: B batch, T time, C channels, H heads, D head size, V vocabulary.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_lite import Generator, Tensor, as_tensor, nn
from tinygrad_lite import functional as F

from .attention import Attention, add_to
from .config import GPTConfig


def make_norm(config: GPTConfig):
    """The normalisation that the config names."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.channels, eps=config.norm_eps)
    return nn.LayerNorm(config.channels, eps=config.norm_eps, bias=config.bias)


class MLP(nn.Module):
    """Two linear layers with an activation between; for swiglu the first makes gate and value side by side."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.activation = config.mlp
        wide = 2 * config.hidden if config.mlp == "swiglu" else config.hidden
        self.up = nn.Linear(config.channels, wide, bias=config.bias)
        self.down = nn.Linear(config.hidden, config.channels, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, residual):
        """residual + mlp(x), both (B, T, C)."""
        if self.activation == "gelu" and not (self.up.has_hooks or self.down.has_hooks):
            return add_to(residual, self._gelu_mlp, x, self.dropout)
        hidden = self.up(x)  # (B, T, hidden), twice that for swiglu
        if self.activation == "gelu":
            hidden = F.gelu(hidden, approximate="tanh")
        else:
            hidden = F.relu(hidden) if self.activation == "relu" else F.swiglu(hidden)
        return add_to(residual, self.down, hidden, self.dropout)

    def _gelu_mlp(self, x, residual=None):
        return F.gelu_mlp(x, self.up.weight, self.up.bias, self.down.weight, self.down.bias, residual)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm1 = make_norm(config)
        self.attention = Attention(config)
        self.norm2 = make_norm(config)
        self.mlp = MLP(config)

    def forward(self, x, cache=None):
        """x (B, T, C) to (B, T, C); cache: this layer's keys and values, when generating."""
        x = self.attention(self.norm1(x), x, cache)
        return self.mlp(self.norm2(x), x)


class GPT(nn.Module):
    """A GPT-2 style language model; weights are drawn from `generator` on the CPU."""

    def __init__(self, config: GPTConfig, generator: Generator | None = None):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.channels)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.block_size, config.channels)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = make_norm(config)
        self.head = nn.Linear(config.channels, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.tokens.weight
        self._initialise(generator or Generator(0))

    def _initialise(self, generator: Generator):
        """GPT-2's: weights normal of 0.02, residual projections scaled by 1/sqrt(2 layers), biases zero."""
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                if name.endswith("bias"):
                    parameter.data[...] = 0.0
                continue  # norm weights stay ones
            std = 0.02
            if name.endswith(("attention.project.weight", "mlp.down.weight")):
                std /= math.sqrt(2 * self.config.layers)
            nn.init.normal_(parameter, 0.0, std, generator)

    def hidden(self, tokens, cache=None):
        """tokens (B, T) of integers to the last hidden states (B, T, C).

        cache: keys and values of earlier tokens, for generation: gradients do not pass through attention then.
        """
        b, t = tokens.shape
        start = 0 if cache is None else cache.length
        is_known = isinstance(start, int)  # else on the device alone, which whoever cut the cache there answers for
        if is_known and start + t > self.config.block_size:
            raise ValueError(
                f"GPT: {start + t} positions exceed the context of {self.config.block_size}: crop the tokens"
            )
        x = self.tokens(tokens)  # (B, T, C)
        if self.config.positions == "learned":
            of = self.positions
            x = x + (of.weight[start : start + t] if is_known else of(as_tensor(start, x.device)))
        x = self.dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, None if cache is None else cache.layers[i])
        if cache is not None and is_known:
            cache.length += t
        return self.norm(x)

    def forward(self, tokens, targets=None, cache=None):
        """Logits (B, T, V); with targets (B, T), the mean cross-entropy in nats instead, without keeping logits."""
        x = self.hidden(tokens, cache)
        if targets is None:
            return self.head(x)
        b, t, c = x.shape
        return F.linear_cross_entropy(x.reshape(b * t, c), self.head.weight, targets.reshape(b * t))

    @property
    def device(self):
        """Where the model is, and its tokens must be."""
        return self.tokens.weight.device

    def num_parameters(self, embeddings: bool = True) -> int:
        """Parameters, tied ones counted once; without embeddings if asked."""
        total = sum(p.size for p in self.parameters())
        if not embeddings:
            total -= self.tokens.weight.size
            if self.config.positions == "learned":
                total -= self.positions.weight.size
        return total


def as_tokens(ids, device=None) -> Tensor:
    """Token ids of any integer type as an int64 Tensor, on the CPU or a given device."""
    return Tensor(np.asarray(ids, dtype=np.int64), device=device)
