"""The peer's step on a GPU: the GPT of benchmarks/torch_gpt.py as PyTorch's experts train it, from our weights.

Flash attention, products of float32 in TF32, fused AdamW, either autocast to bfloat16 over float32 weights (nanoGPT's way)
or bfloat16 weights (no master: less work than ours, and less exact). The host never waits inside a round of steps.
"""

from __future__ import annotations

import torch

from ..torch_gpt import TorchGPT, copy_weights


def make_step(setup, mode: str, weights: str, device: str = "cuda"):
    """A function of tokens (B, T + 1) that trains on them and gives the loss, on the device.

    mode: "eager" or "compile"; weights: "autocast" or "bfloat16".
    """
    from tinygrad_lite import Generator
    from transformer.model import GPT

    from ..training import CLIP, DECAY

    torch.set_float32_matmul_precision("high")
    model = TorchGPT(setup.model)
    ours = GPT(setup.model, Generator(0)).to("bfloat16").float()  # both start from what bfloat16 can hold
    copy_weights(ours, model)
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
