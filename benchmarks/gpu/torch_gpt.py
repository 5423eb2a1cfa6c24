"""The peer on a GPU: the same GPT in PyTorch as its experts write it, from our weights.

Flash attention, products of float32 in TF32, fused AdamW, either autocast to bfloat16 over float32 weights (nanoGPT's way)
or bfloat16 weights (no master: less work than ours, and less exact). The host never waits inside a round of steps.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config):
        super().__init__()
        c, bias = config.channels, config.bias
        self.heads, self.p = config.heads, config.dropout
        self.norm1, self.norm2 = nn.LayerNorm(c, bias=bias), nn.LayerNorm(c, bias=bias)
        self.qkv, self.project = nn.Linear(c, 3 * c, bias=bias), nn.Linear(c, c, bias=bias)
        self.up, self.down = nn.Linear(c, 4 * c, bias=bias), nn.Linear(4 * c, c, bias=bias)
        self.dropout = nn.Dropout(config.dropout)

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
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(c, bias=config.bias)

    def forward(self, tokens, targets):
        """tokens, targets (B, T) to the mean cross-entropy."""
        x = self.dropout(self.tokens(tokens) + self.positions.weight[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]).float(), targets.reshape(-1))


def make_step(setup, mode: str, weights: str, device: str = "cuda"):
    """A function of tokens (B, T + 1) that trains on them and gives the loss, on the device.

    mode: "eager" or "compile"; weights: "autocast" or "bfloat16".
    """
    from tinygrad_lite import Generator
    from tinygrad_lite.dtypes import bfloat16
    from transformer.model import GPT

    from ..training import CLIP, DECAY

    torch.set_float32_matmul_precision("high")
    model = TorchGPT(setup.model)
    ours = {
        name.replace("attention.", "").replace("mlp.", ""): torch.from_numpy(
            p.numpy().astype(bfloat16).astype("float32")
        )
        for name, p in GPT(setup.model, Generator(0)).named_parameters()
    }
    ours.pop("head.weight", None)
    model.load_state_dict(ours)
    del ours
    model = model.to(device, torch.bfloat16 if weights == "bfloat16" else torch.float32)
    adam = torch.optim.AdamW([
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ], lr=setup.lr, betas=setup.betas, fused=True)  # fmt: skip
    forward = torch.compile(model) if mode == "compile" else model
    parameters = list(model.parameters())
    done = 0

    def step(tokens):
        nonlocal done
        for group in adam.param_groups:
            group["lr"] = setup.lr_at(done)
        tokens = torch.from_numpy(tokens)
        if device == "cuda":
            tokens = tokens.pin_memory().to(device, non_blocking=True)
        with torch.autocast(device, torch.bfloat16, enabled=weights == "autocast"):
            loss = forward(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()
        adam.zero_grad(set_to_none=True)
        done += 1
        return loss.detach()

    return step
