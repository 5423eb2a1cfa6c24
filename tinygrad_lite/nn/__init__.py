"""Layers: Module and Parameter, the layers of a transformer, containers, starting values."""

from . import init
from .containers import ModuleList, Sequential
from .layers import (
    ELU,
    GELU,
    Dropout,
    Embedding,
    Identity,
    LayerNorm,
    LeakyReLU,
    Linear,
    ReLU,
    RMSNorm,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    SwiGLU,
    Tanh,
)  # fmt: skip
from .module import Module, Parameter

__all__ = [
    "ELU", "Dropout", "Embedding", "GELU", "Identity", "LayerNorm", "LeakyReLU", "Linear", "Module", "ModuleList",
    "Parameter", "RMSNorm", "ReLU", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "SwiGLU", "Tanh", "init",
]  # fmt: skip
