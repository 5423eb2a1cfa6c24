"""The vocabulary of a tokenizer of words, checked: its tokens' ids, and where the special tokens stand among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .errors import SpecialTokenError, TokenizerError
from .special import check_special_tokens


def ids_of(tokens: Sequence[str | None]) -> dict[str, int]:
    """Token to id. Raises TokenizerError for a vocabulary that is empty or holds what is no token, or one twice."""
    ids: dict[str, int] = {}
    for token_id, token in enumerate(tokens):
        if token is None:
            continue
        if not isinstance(token, str) or not token:
            raise TokenizerError(f"token {token_id} is {token!r}; expected a str that is not empty, or None")
        if any("\ud800" <= character <= "\udfff" for character in token):
            raise TokenizerError(f"token {token_id} holds a lone surrogate; use text that UTF-8 can express")
        if token in ids:
            raise TokenizerError(f"token {token!r} has two ids, {ids[token]} and {token_id}; expected one")
        ids[token] = token_id
    if not ids:
        raise TokenizerError("the vocabulary is empty; expected at least one token")
    return ids


def place_special_tokens(
    special_tokens: Iterable[str] | Mapping[str, int], tokens: Sequence[str | None], id_of: Mapping[str, int]
) -> dict[str, int]:
    """Name to id: a name that the vocabulary has keeps its id there."""
    if not isinstance(special_tokens, Mapping):
        names = check_special_tokens(special_tokens, len(tokens))
        fresh = iter(range(len(tokens), len(tokens) + len(names)))
        special_tokens = {name: id_of[name] if name in id_of else next(fresh) for name in names}
    for name, token_id in special_tokens.items():
        if name in id_of and id_of[name] != token_id:
            raise SpecialTokenError(
                f"special token {name!r} has id {token_id!r}, but {id_of[name]} in the vocabulary; give it that one"
            )
    free = {id_of[name] for name in special_tokens if name in id_of}
    free |= {token_id for token_id, token in enumerate(tokens) if token is None}
    return check_special_tokens(special_tokens, len(tokens), free)
