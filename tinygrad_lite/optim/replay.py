"""Optimiser steps that a CUDA graph can replay: what changes from one to the next is an array of numbers.

A replay repeats the launches of its capture. The learning rate and the bias corrections, which the kernels else get as
arguments, therefore come from an array on the device, a row for each launch.
"""

from __future__ import annotations

import numpy as np

from ..config import settings
from ..kernels import lookup
from .adam import Adam, adam_update, can_use_kernel, step_scalars


class ReplayedSteps:
    """Steps of an Adam or AdamW over parameters that all get gradients: `advance`, then `apply`.

    Raises ValueError for another optimiser, or a setting, that has no kernel on the device.
    """

    def __init__(self, optimizer):
        self.optimizer, self.planned = optimizer, None
        if not isinstance(optimizer, Adam):
            raise ValueError(f"ReplayedSteps: {type(optimizer).__name__} has no kernel to replay: use AdamW")
        for group, flat in self._flats():
            kernel = lookup(flat.device.name, "adamw") if settings.use_fused else None
            if kernel is None or not can_use_kernel(kernel, group, flat, optimizer.decoupled):
                raise ValueError(
                    f"ReplayedSteps: no adamw kernel for {flat.dtype} on {flat.device.name} and these settings"
                )

    def _flats(self):
        for group, flats in zip(self.optimizer.param_groups, self.optimizer._flats, strict=True):
            for flat in flats:
                yield group, flat

    def advance(self) -> np.ndarray:
        """Count a step for every parameter, and return its numbers: float32 (launches, 4).

        What was assigned to a parameter since, `p.data = ...`, is brought to where a captured step reads it. Raises
        RuntimeError where module.to() has moved the parameters: a captured step would write where they were.
        """
        if any(flat.moved() for _, flat in self._flats()):
            raise RuntimeError("ReplayedSteps: parameters changed their type or device: build the step again")
        self.planned, rows = [], []
        for group, flat in self._flats():
            flat.gather()
            trained = [i for i, p in enumerate(flat.params) if p.node is not None]
            for first, last in flat.runs(trained, by_steps=True):
                self.optimizer.count(flat, first, last)
                self.planned.append((group, flat, first, last))
                rows.append(step_scalars(group, flat.steps[first]))
        return np.array(rows, np.float32)

    def fixed(self) -> list:
        """What a captured step goes by beside the numbers of `advance`: which parameters it updates, and how."""
        return [
            (first, last, *group["betas"], group["eps"], flat.key, group.get("amsgrad"))
            for group, flat, first, last in self.planned
        ]

    def withdraw(self):
        """Take the planned step's count back: it changed nothing."""
        for _, flat, first, last in self.planned:
            for i in range(first, last + 1):
                flat.steps[i] -= 1

    def apply(self, rows, grad_scale):
        """Update with the planned step's numbers, `rows` being advance()'s on the device, grad_scale a 0-d array there.

        Where grad_scale is not finite nothing changes. Raises RuntimeError if a parameter has no gradient.
        """
        missing = [i for _, flat in self._flats() for i in set(range(len(flat.params))) - set(flat.gather())
                   if flat.params[i].node is not None]  # fmt: skip
        if missing:
            raise RuntimeError(
                f"ReplayedSteps: {len(missing)} parameter(s) have no gradient, so no step can be replayed"
            )
        for i, (group, flat, first, last) in enumerate(self.planned):
            adam_update(group, flat, first, last, grad_scale, self.optimizer.decoupled, scalars=rows[i])
