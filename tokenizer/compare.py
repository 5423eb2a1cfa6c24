"""Several tokenizers on the same text: how many tokens, how much of the vocabulary, how fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .base import Tokenizer

Load = Callable[[], Tokenizer]
PASSES = 3


@dataclass(frozen=True)
class Comparison:
    """One tokenizer on a text.

    Attributes:
        name, kind, vocab_size: of the tokenizer.
        tokens: of the text.
        bytes_per_token: of its UTF-8. A larger vocabulary and a text that is like the training text raise it.
        tokens_per_word: of what white space separates; "fertility". None if there is no word.
        used: the number of ids that occur.
        lossless: whether decoding gives the text back.
        mb_per_s: encoding into an array, one thread; the fastest of three passes, each by a tokenizer just loaded.
    """

    name: str
    kind: str
    vocab_size: int
    tokens: int
    bytes_per_token: float
    tokens_per_word: float | None
    used: int
    lossless: bool
    mb_per_s: float

    @property
    def used_share(self) -> float:
        return self.used / self.vocab_size

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "used_share": self.used_share}


def compare(name: str, load: Load, text: str, progress: Callable[[int], None] = lambda passes: None) -> Comparison:
    """Measure one tokenizer.

    Args:
        name: to report.
        load: gives the tokenizer anew, with nothing kept from the last text.
        text: not empty.
        progress: called with the number of passes done, of PASSES.

    Raises:
        ValueError: the text is empty.
        TokenizerError: the text has something that the tokenizer has no token for.
    """
    if not text:
        raise ValueError("the text to compare on is empty: there is nothing to count")
    from . import native  # noqa: F401  until Numba is loaded, short texts are spelt by the readable twins

    size = len(text.encode("utf-8", "surrogatepass"))
    load().encode_to_array(text[:1000])  # what is compiled or loaded once a process is no part of the time
    fastest = float("inf")
    for done in range(1, PASSES + 1):
        tokenizer = load()
        began = time.perf_counter()
        ids = tokenizer.encode_to_array(text)
        fastest = min(fastest, time.perf_counter() - began)
        progress(done)
    words = len(text.split())
    count = max(len(ids), 1)  # a tokenizer may have none for a text of blanks
    return Comparison(
        name=name,
        kind=tokenizer.kind,
        vocab_size=tokenizer.vocab_size,
        tokens=len(ids),
        bytes_per_token=size / count,
        tokens_per_word=len(ids) / words if words else None,
        used=len(np.unique(ids)),
        lossless=tokenizer.decode(ids) == text,
        mb_per_s=size / 1e6 / max(fastest, 1e-9),
    )
