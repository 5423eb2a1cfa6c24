"""Vocabularies of SentencePiece's kind: pieces with "\u2581" for a space, and "<0x0A>" for a byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .errors import SpecialTokenError, TokenizerError
from .normalizers import METASPACE

BYTE_TOKENS = tuple(f"<0x{value:02X}>" for value in range(256))
_BYTE_OF = {token: bytes([value]) for value, token in enumerate(BYTE_TOKENS)}


def byte_token_ids(tokens: Sequence[str | None], byte_fallback: bool) -> np.ndarray:
    """int32 (256,), the id of each byte's token; empty without byte_fallback.

    Raises:
        TokenizerError: byte_fallback is no truth value, or a byte has no token.
    """
    if not isinstance(byte_fallback, bool):
        raise TokenizerError(f"expected byte_fallback as true or false, got {byte_fallback!r}")
    if not byte_fallback:
        return np.empty(0, dtype=np.int32)
    id_of = {token: token_id for token_id, token in enumerate(tokens)}
    missing = [token for token in BYTE_TOKENS if token not in id_of]
    if missing:
        raise TokenizerError(
            f"byte_fallback needs a token for each byte, but {len(missing)} of the 256 are missing, the first is "
            f"{missing[0]}; add them, or set byte_fallback=False"
        )
    return np.array([id_of[token] for token in BYTE_TOKENS], dtype=np.int32)


def refuse_special_bytes(special_tokens: Iterable[str], byte_ids: np.ndarray) -> None:
    """Raise SpecialTokenError if a byte's token is also a special one: any text with a rare character would make it."""
    special = set(special_tokens).intersection(BYTE_TOKENS) if len(byte_ids) else ()
    if special:
        raise SpecialTokenError(
            f"the byte token {min(special)!r} is among the special tokens, but text makes it; leave the bytes out of "
            "special_tokens"
        )


def decoded_piece(token: str | None, byte_fallback: bool) -> bytes | None:
    """What a piece stands for in decoded text."""
    if not isinstance(token, str):
        return None
    if byte_fallback and token in _BYTE_OF:
        return _BYTE_OF[token]
    return token.replace(METASPACE, " ").encode("utf-8", "surrogatepass")
