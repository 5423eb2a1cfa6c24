"""Which parameters get which treatment."""

from __future__ import annotations


def _pairs(owner: str, named_parameters) -> list:
    pairs = list(named_parameters)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            kind = type(pair).__name__
            raise TypeError(f"{owner}: expected (name, Tensor) pairs, got {kind}: pass module.named_parameters()")
    return pairs


def decay_groups(named_parameters, weight_decay: float) -> list[dict]:
    """Two groups for an optimiser: matrices, which decay, and vectors (biases, norms' gains), which do not.

    Decay limits what a product can grow to; on a gain or a bias it only pulls the function away from the data.
    named_parameters: (name, Tensor) pairs. Empty groups are left out.
    """
    matrices, vectors = [], []
    for _, p in _pairs("decay_groups", named_parameters):
        (matrices if p.ndim >= 2 else vectors).append(p)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def is_hidden_matrix(name: str, p) -> bool:
    """Whether Muon is meant for p: a matrix that is neither an embedding nor the output head, going by its name."""
    outer = ("emb", "wte", "wpe", "head", "unembed")
    return p.ndim == 2 and not any(word in part for part in name.lower().split(".") for word in outer)


def muon_groups(named_parameters, weight_decay: float = 0.0, hidden=is_hidden_matrix) -> list[dict]:
    """Groups for MuonAdamW: hidden matrices to Muon, the rest to AdamW, of which matrices decay.

    hidden(name, p) decides; embeddings and the head are matrices too, but their rows are looked up and not mixed,
    and Muon is not for them (Jordan et al. 2024).
    """
    ours, others = [], []
    for name, p in _pairs("muon_groups", named_parameters):
        (ours if hidden(name, p) else others).append((name, p))
    groups = [{"params": [p for _, p in ours], "use_muon": True, "weight_decay": weight_decay}] if ours else []
    return groups + [{**group, "use_muon": False} for group in decay_groups(others, weight_decay)]
