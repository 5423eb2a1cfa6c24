"""Loss scaling for float16, whose smallest number is 6e-8. Micikevicius et al. 2018, arXiv:1710.03740."""

from __future__ import annotations

import math


class LossScaler:
    """A factor on the loss that keeps small gradients above float16's smallest number; it adapts to what overflows.

        (loss * scaler.scale).backward()
        norm = grad_norm(parameters) / scaler.scale
        if scaler.update(norm):  # finite
            optimizer.step(grad_scale=clip_coefficient(norm, 1.0) / scale)

    scale is halved when a gradient overflowed, a step to be skipped, and doubled after `growth_interval` steps without.
    A scaler that is not `enabled` has scale 1 for ever.
    """

    def __init__(self, enabled: bool = True, scale: float = 2.0**16, growth_interval: int = 2000):
        if not (scale > 0.0 and math.isfinite(scale)):
            raise ValueError(f"LossScaler: scale must be above 0 and finite, got {scale}")
        self.enabled, self.growth_interval = enabled, growth_interval
        self.scale, self.good_steps = scale if enabled else 1.0, 0

    def update(self, norm: float) -> bool:
        """Whether the gradient's norm is finite, so that the step may be taken; adapts the scale for the next one."""
        finite = math.isfinite(norm)
        if self.enabled and not finite:
            self.scale, self.good_steps = max(self.scale / 2.0, 2.0**-24), 0
        elif self.enabled:
            self.good_steps += 1
            if self.good_steps == self.growth_interval:
                self.scale, self.good_steps = min(self.scale * 2.0, 2.0**24), 0
        return finite

    def state_dict(self) -> dict:
        """What a checkpoint keeps."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict):
        """Continue from a state_dict()."""
        self.scale, self.good_steps = float(state["scale"]), int(state["good_steps"])
