"""The model's configuration, and the one registry of architectural choices."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

# What may be chosen, and what each choice means. A new variant is a line here and a branch in one module.
CHOICES = {
    "positions": {
        "learned": "a learned vector for each position, added to the embeddings (GPT-2)",
        "rope": "rotary embedding of queries and keys, arXiv:2104.09864",
        "none": "no positions: only the causal mask tells order, arXiv:2203.16634",
    },
    "norm": {
        "layernorm": "mean and variance removed, arXiv:1607.06450",
        "rmsnorm": "divided by the root mean square, arXiv:1910.07467",
    },
    "mlp": {
        "gelu": "two layers with GELU (tanh) between, as GPT-2",
        "relu": "two layers with ReLU between",
        "swiglu": "gated by SiLU, hidden size 8/3 C so that the parameters stay as many, arXiv:2002.05202",
    },
}


@dataclass(frozen=True)
class GPTConfig:
    """Sizes and choices of a GPT.

    vocab_size V; block_size T, the longest context; layers; heads H; kv_heads, from one (multi-query) to H (None
    means H); channels C, a multiple of H; window: how many positions a token
    sees, its own among them (None: all before it); dropout probability; bias: in linear layers and norms; tied: the head
    shares the token embedding; mlp_size: width of the MLP's hidden layer (None: as `hidden` says); rope_base: how slowly
    the slowest pair turns; norm_eps: added to a norm's variance (None: 1e-5, of rmsnorm 1e-6).
    """

    vocab_size: int
    block_size: int = 64
    layers: int = 4
    heads: int = 4
    kv_heads: int | None = None
    channels: int = 128
    window: int | None = None
    dropout: float = 0.0
    bias: bool = True
    tied: bool = True
    positions: str = "learned"
    norm: str = "layernorm"
    mlp: str = "gelu"
    mlp_size: int | None = None
    rope_base: float = 10000.0
    norm_eps: float | None = None

    def __post_init__(self):
        for name in ("vocab_size", "block_size", "layers", "heads", "channels"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"GPTConfig: {name} must be a positive integer, got {value!r}")
        if self.kv_heads is None:
            object.__setattr__(self, "kv_heads", self.heads)
        if self.norm_eps is None:
            object.__setattr__(self, "norm_eps", 1e-5 if self.norm == "layernorm" else 1e-6)
        for name in ("rope_base", "norm_eps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < math.inf:
                raise ValueError(f"GPTConfig: {name} must be a positive number, got {value!r}")
        if self.mlp_size is not None and (type(self.mlp_size) is not int or self.mlp_size < 1):
            raise ValueError(f"GPTConfig: mlp_size must be a positive integer or None, got {self.mlp_size!r}")
        if self.window is not None and (type(self.window) is not int or self.window < 1):
            raise ValueError(f"GPTConfig: window must be a positive integer or None, got {self.window!r}")
        if self.channels % self.heads:
            raise ValueError(f"GPTConfig: channels {self.channels} must be a multiple of heads {self.heads}")
        if not 1 <= self.kv_heads <= self.heads or self.heads % self.kv_heads:
            raise ValueError(f"GPTConfig: heads {self.heads} must be a multiple of kv_heads, got {self.kv_heads}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"GPTConfig: dropout must be in [0, 1), got {self.dropout}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"GPTConfig: {name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.positions == "rope" and self.head_size % 2:
            raise ValueError(f"GPTConfig: rope rotates pairs, so the head size must be even, got {self.head_size}")

    @property
    def head_size(self) -> int:
        """Channels of one head, D."""
        return self.channels // self.heads

    @property
    def hidden(self) -> int:
        """Width of the MLP's hidden layer: unless mlp_size says, 4 C; for swiglu 8/3 C rounded up to a multiple of 8."""
        if self.mlp_size is not None:
            return self.mlp_size
        return 4 * self.channels if self.mlp != "swiglu" else -(-8 * self.channels // 24) * 8

    def to_dict(self) -> dict:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> GPTConfig:
        """The config that `to_dict` gave; a key that is not known is an error."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"GPTConfig: unknown settings {unknown}: the checkpoint is of another version")
        return cls(**values)
