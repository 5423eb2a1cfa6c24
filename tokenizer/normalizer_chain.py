"""Normalisers one after the other: which there are, how a chain is saved, and where a text can be cut before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from . import normalizers as steps
from .errors import FormatError, TokenizerError
from .normalizers import Normalizer

_NAMED_STEPS = (
    steps.Unicode,
    steps.Lowercase,
    steps.StripAccents,
    steps.Prepend,
    steps.Metaspace,
    steps.Replace,
    steps.Strip,
    steps.Bert,
    steps.Precompiled,
    steps.CollapseSpaces,
    steps.WhitespaceSplit,
)
_KINDS = {kind.__name__: kind for kind in _NAMED_STEPS}
_BEFORE_SPACE = re.compile(r".*[!-~](?= )", re.DOTALL)


def check_chain(normalizers: Iterable[Normalizer]) -> tuple[Normalizer, ...]:
    """The chain as a tuple. Raises TokenizerError for what is no normaliser of this package."""
    chain = tuple(normalizers)
    for normalizer in chain:
        if not isinstance(normalizer, _NAMED_STEPS):
            raise TokenizerError(f"expected normalisers of tokenizer.normalizers, got {normalizer!r}")
    return chain


def chain_state(chain: Iterable[Normalizer]) -> list[dict[str, Any]]:
    """The chain as JSON values."""
    return [{"type": type(step).__name__, **asdict(step)} for step in chain]


def chain_from_state(state: Iterable[Mapping[str, Any]]) -> list[Normalizer]:
    """Rebuild from what chain_state gave. Raises FormatError, KeyError or TypeError on damaged values."""
    chain = []
    for step in state:
        kind = _KINDS.get(step["type"])
        if kind is None:
            raise FormatError(f"expected a normaliser among {sorted(_KINDS)}, found {step['type']!r}")
        chain.append(kind(**{key: value for key, value in step.items() if key != "type"}))
    return chain


def chain_cut(chain: Sequence[Normalizer], text: str) -> int:
    """The last place where text can be cut so that both parts, normalised apart, give the whole's normal form, whatever
    text follows; 0 if no such place is known."""
    if len(chain) == 1 and isinstance(chain[0], steps.Unicode):
        return chain[0].last_border(text)
    if any(
        isinstance(step, steps.Prepend | steps.Metaspace | steps.WhitespaceSplit) or not step.local for step in chain
    ):
        return 0
    # Of a visible ASCII character before the space, no local step makes a space or nothing.
    match = _BEFORE_SPACE.match(text)
    return match.end() if match else 0
