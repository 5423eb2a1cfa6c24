"""Whether two tokenizers give the same ids, on texts chosen to bring differences out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import FormatError, UnknownCharacterError

PROBES = (
    "",
    " ",
    "a",
    " a",
    "a ",
    "Hello, world! It's 2024; they'll say 'twas HE'D've I'M.",
    "  two spaces,   three,\ttab\r\nline\n\n  indented\n\n\n",
    "trailing spaces   ",
    "\n  \n",
    "1 12 123 1234 12345678901234567890 3.14 1e-9 \u0664\u0665 \u00bd \u2167",
    "def f(x):\n    return x**2  # comment\n\tif x != None: raise ValueError('no')\n",
    "CamelCase HTTPServer snake_case kebab-case ALLCAPS \u01c5 \u02b0",
    "caf\u00e9 cafe\u0301 na\u00efve \u0130stanbul stra\u00dfe \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2 \u0391\u03a3",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\u4e2d\u6587\uff0c\u6587\u5b57 \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "\uff21\uff22\uff23 \uff1c\uff5c\uff55\uff53\uff45\uff52\uff5c\uff1e \ufb01 \u2460 \u3000 \u00a0 \u2003 \u0085 \u200b\u200d \u2581",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f \U00020000",
    "\u0000\u0007\u001b[0m\u001c\u007f\ufffd\ufeff",
    "<s> </s> <unk> <|endoftext|> [CLS] [SEP] [UNK] [MASK] <0x41> ## ##ing",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "supercalifragilisticexpialidocious antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
)


def check_same(a: Any, b: Any, probes: Iterable[str] = PROBES) -> None:
    """Encode each text with both.

    Args:
        a, b: tokenizers, of this package or of another: what has ``encode`` that gives ids, or an object with ``ids``.
        probes: the texts.

    Raises:
        FormatError: the ids differ; it names the first such text and place.
    """
    for text in probes:
        one, other = _ids(a, text), _ids(b, text)
        if one != other:
            place = next((n for n, (x, y) in enumerate(zip(one, other)) if x != y), min(len(one), len(other)))
            raise FormatError(
                f"the two tokenizers differ on {text!r} at token {place}: {one[place : place + 5]} against "
                f"{other[place : place + 5]}; the conversion would not be faithful"
            )


def _ids(tokenizer: Any, text: str) -> list:
    try:
        found = tokenizer.encode(text)
    except UnknownCharacterError as error:
        return [f"no token for {error.character!r}"]
    return list(getattr(found, "ids", found))
