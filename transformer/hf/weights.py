"""A model's weights under Hugging Face's names, both ways. No Hugging Face code is needed.

Biases that we have not and they have are zeros there; those that they have not and we have are zeros here.
"""

from __future__ import annotations

import numpy as np

from ..config import GPTConfig
from .formats import Format, Place, format_of

HEAD = "lm_head.weight"
MOST_NAMED = 20  # weights in an error: of a model of another kind none fits


def _shapes(config: GPTConfig, where: Format) -> dict:
    """Our names and their shapes, for a model with biases."""
    c, wide = config.channels, config.hidden
    up = 2 * wide if config.mlp == "swiglu" else wide
    qkv = (config.heads + 2 * config.kv_heads) * config.head_size
    block = {
        "attention.qkv.weight": (qkv, c), "attention.qkv.bias": (qkv,), "attention.project.weight": (c, c),
        "mlp.up.weight": (up, c), "mlp.up.bias": (up,), "mlp.down.weight": (c, wide),
    }  # fmt: skip
    shapes = {place.ours: (c,) for place in where.places(config)}  # norms, and biases of what adds to the residual
    shapes["tokens.weight"] = config.vocab_size, c
    if "positions.weight" in shapes:
        shapes["positions.weight"] = config.block_size, c
    return shapes | {f"blocks.{i}.{ours}": shape for i in range(config.layers) for ours, shape in block.items()}


def _cuts(place: Place, config: GPTConfig) -> list[int]:
    """Where the rows of the second, third of theirs begin."""
    if len(place.theirs) == 3:
        return [config.channels, config.channels + config.kv_heads * config.head_size]
    return [config.hidden] if len(place.theirs) == 2 else []


def _is_made_up(place: Place, config: GPTConfig) -> bool:
    """Whether they have this bias and our model has not."""
    return not config.bias and place.ours.endswith(".bias")


def to_huggingface(weights: dict, config: GPTConfig) -> dict:
    """Our named arrays as a state_dict of arrays, of the type that holds the model.

    Raises ValueError where none does.
    """
    where, out = format_of(config), {}
    shapes = _shapes(config, where)
    for place in where.places(config):
        if _is_made_up(place, config):
            if where.lacks_biases:
                continue
            array = np.zeros(shapes[place.ours], np.float32)
        else:
            array = weights[place.ours]
        parts = np.split(array.T if place.transposed else array, _cuts(place, config))
        out |= {name: np.ascontiguousarray(part) for name, part in zip(place.theirs, parts, strict=True)}
    out[HEAD] = out[_embedding(where, config)] if config.tied else np.ascontiguousarray(weights["head.weight"])
    return out


def from_huggingface(weights: dict, config: GPTConfig) -> dict:
    """A model's state_dict of arrays, with its head or without, under our names.

    Raises ValueError that lists the weights that are missing, of another shape, or have no place in the model.
    """
    return taken_from({name: np.asarray(array) for name, array in weights.items()}, config)


def taken_from(arrays: dict, config: GPTConfig) -> dict:
    """The same, of a dict that is emptied on the way: what was joined or transposed is not held twice."""
    where = format_of(config)
    shapes, out, wrong = _shapes(config, where), {}, []
    prefix = "" if _embedding(where, config) in arrays else where.prefix
    for name in list(filter(where.is_ignored, arrays)):
        del arrays[name]
    for place in where.places(config):
        out |= _taken(place, arrays, prefix, shapes[place.ours], config, where, wrong)
    head, embedding = arrays.pop(HEAD, None), out.get("tokens.weight")
    if not config.tied:
        if head is None:
            wrong.append(f"{HEAD} is missing")
        elif head.shape != shapes["tokens.weight"]:
            wrong.append(f"{HEAD} must be {shapes['tokens.weight']}, is {head.shape}")
        else:
            out["head.weight"] = head
    elif head is not None and embedding is not None and not np.array_equal(head, embedding):
        name = _embedding(where, config).rpartition(".")[0].rpartition(".")[2]
        wrong.append(f"{HEAD} is not equal to {name}.weight, to which the config ties it")
    wrong += [f"{name} has no place in the model" for name in arrays]
    if wrong:
        shown = wrong[:MOST_NAMED] + ([f"and {len(wrong) - MOST_NAMED} more"] if len(wrong) > MOST_NAMED else [])
        raise ValueError(f"from_huggingface: {len(wrong)} weights do not fit {config}:\n  " + "\n  ".join(shown))
    return out


def _taken(place, arrays, prefix, shape, config, where, wrong) -> dict:
    """One of our weights, taken out of theirs; what does not fit is said in `wrong`."""
    cuts = _cuts(place, config)
    rows = np.diff([0, *cuts, shape[0]]) if cuts else shape[:1]
    parts, has_all = [], True
    for theirs, count in zip(place.theirs, rows, strict=True):
        name, expected = theirs.removeprefix(prefix), (int(count), *shape[1:])
        expected = expected[::-1] if place.transposed else expected
        array = arrays.pop(name, None)
        if array is None and where.lacks_biases and name.endswith(".bias"):
            array = np.zeros(expected, np.float32)
        elif array is None:
            wrong.append(f"{name} is missing")
        elif array.shape != expected:
            wrong.append(f"{name} must be {expected}, is {array.shape}")
            array = None
        elif _is_made_up(place, config) and array.any():
            wrong.append(f"{name} is not zero: the config must say bias=True")
        has_all = has_all and array is not None
        parts.append(array)
    if not has_all or _is_made_up(place, config):
        return {}
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return {place.ours: np.ascontiguousarray(whole.T if place.transposed else whole)}


def _embedding(where: Format, config: GPTConfig) -> str:
    return next(place.theirs[0] for place in where.places(config) if place.ours == "tokens.weight")
