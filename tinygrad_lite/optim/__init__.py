"""Optimisers over flat buffers, gradient clipping, learning-rate schedules."""

from .adam import Adam, AdamW
from .clip import clip_coefficient, clip_grad_norm_, grad_norm
from .groups import decay_groups, is_hidden_matrix, muon_groups
from .muon import Muon, MuonAdamW
from .optimizer import Optimizer
from .scaler import LossScaler
from .schedule import WSD, Constant, Schedule, WarmupCosine, schedule_from_dict
from .sgd import SGD

__all__ = [
    "Adam", "AdamW", "Constant", "LossScaler", "Muon", "MuonAdamW", "Optimizer", "SGD", "Schedule", "WSD", "WarmupCosine",
    "clip_coefficient", "clip_grad_norm_", "decay_groups", "grad_norm", "is_hidden_matrix", "muon_groups",
    "schedule_from_dict",
]  # fmt: skip
