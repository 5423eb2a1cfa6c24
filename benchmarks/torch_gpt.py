"""The peer: the same GPT in PyTorch, as its users write it (fused attention, fused AdamW), with our weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def dropout_of(config) -> nn.Module:
    """Nothing where the probability is 0: PyTorch's dropout would draw and multiply all the same."""
    return nn.Dropout(config.dropout) if config.dropout else nn.Identity()


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config):
        super().__init__()
        c, bias = config.channels, config.bias
        self.heads, self.p = config.heads, config.dropout
        self.norm1, self.norm2 = nn.LayerNorm(c, bias=bias), nn.LayerNorm(c, bias=bias)
        self.qkv, self.project = nn.Linear(c, 3 * c, bias=bias), nn.Linear(c, c, bias=bias)
        self.up, self.down = nn.Linear(c, 4 * c, bias=bias), nn.Linear(4 * c, c, bias=bias)
        self.dropout = dropout_of(config)

    def forward(self, x):
        """x (B, T, C) to (B, T, C)."""
        b, t, c = x.shape
        q, k, v = (
            y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(c, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.p if self.training else 0.0)
        x = x + self.dropout(self.project(y.transpose(1, 2).reshape(b, t, c)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")))


class TorchGPT(nn.Module):
    """GPT-2's architecture with a tied head."""

    def __init__(self, config):
        super().__init__()
        c = config.channels
        self.tokens, self.positions = nn.Embedding(config.vocab_size, c), nn.Embedding(config.block_size, c)
        self.dropout = dropout_of(config)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(c, bias=config.bias)

    def forward(self, tokens, targets):
        """tokens, targets (B, T) to the mean cross-entropy."""
        x = self.dropout(self.tokens(tokens) + self.positions.weight[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))


def copy_weights(ours, peer: TorchGPT):
    """Give the peer our weights, by name."""
    state = {
        n.replace("attention.", "").replace("mlp.", ""): torch.from_numpy(p.numpy().copy())
        for n, p in ours.named_parameters()
    }
    state.pop("head.weight", None)
    peer.load_state_dict(state)
