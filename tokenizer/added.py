"""Added tokens: texts that are one token wherever they stand, as ``<tool_call>`` or runs of spaces are for some models.

They are no special tokens: nobody need allow them, so nothing that text from outside must not control may hang on them,
and decoding gives them back as text. Hugging Face's tokenizer.json has them among added_tokens, with special false.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import TokenizerError
from .special import MAX_IDS, as_integer


@dataclass(frozen=True, slots=True)
class AddedToken:
    """One added token.

    Attributes:
        text: what it stands for.
        token_id: its id.
        normalized: whether it is looked for after normalisation, as what the normalisers make of its text, in what the
            special tokens and the other added tokens leave over; else in the text as it comes.

    Raises:
        TokenizerError: the text is empty or no text in UTF-8, or the id is none.
    """

    text: str
    token_id: int
    normalized: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text:
            raise TokenizerError(f"expected an added token's text as a non-empty string, got {self.text!r}")
        if any("\ud800" <= character <= "\udfff" for character in self.text):
            raise TokenizerError(f"added token {self.text!r} holds a lone surrogate; use text that UTF-8 can express")
        token_id = as_integer(self.token_id)
        if token_id is None or not 0 <= token_id < MAX_IDS:
            raise TokenizerError(
                f"added token {self.text!r} has id {self.token_id!r}; expected an integer from 0 to {MAX_IDS - 1}"
            )
        if not isinstance(self.normalized, bool):
            raise TokenizerError(f"expected normalized as true or false, got {self.normalized!r}")
        object.__setattr__(self, "token_id", token_id)


def check_added_tokens(added_tokens: Iterable[AddedToken]) -> tuple[AddedToken, ...]:
    """The tokens in the order of their ids. Raises TokenizerError where two have one text or one id."""
    tokens = tuple(added_tokens)
    for token in tokens:
        if not isinstance(token, AddedToken):
            raise TokenizerError(f"expected added tokens as AddedToken, got {token!r}; write AddedToken(text, id)")
    for name in ("text", "token_id"):
        values = [getattr(token, name) for token in tokens]
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise TokenizerError(f"two added tokens have the {name} {twice!r}; expected each once")
    return tuple(sorted(tokens, key=lambda token: token.token_id))
