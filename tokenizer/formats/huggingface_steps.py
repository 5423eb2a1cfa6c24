"""The steps of a tokenizer.json around its model: normalizers, pre_tokenizers and decoders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import normalizers as steps
from ..errors import FormatError
from ..normalizers import METASPACE, Normalizer
from ..patterns import PATTERNS
from ..words import WordTokenizer
from .refuse import check_fields

# What these files say for the patterns that have names here. Their engine, Oniguruma, reads \Z and the possessive
# {1,3}+ otherwise than the regex package does.
_WRITTEN = {
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+\z|\s*[\r\n]|\s+(?!\S)|\s",
    "o200k": PATTERNS["o200k"],
}
_NAMED = {
    **{expression: name for name, expression in _WRITTEN.items()},
    PATTERNS["gpt2"]: "gpt2",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
}
# Any other expression is taken if it has only what both engines read alike; a "[" within [...] is not. No two of
# these can match the same, so that a match takes no second try.
_ESCAPE = r"\\[pP]\{\^?[A-Z][a-z]?\} | \\[sSrnt] | \\[^\w\s]"
_COMMON = re.compile(
    rf"""(?: {_ESCAPE} | \[\^? (?: {_ESCAPE} | [^\\\[\]&] )+ \] | \(\?(?:i?:|[=!]) | \((?!\?) | \)
    | (?:[?*+] | \{{\d+(?:,\d*)?\}} ) (?![+]) | [^\\\[\](){{}}?*+.^$&] )*""",
    re.VERBOSE,
)
_SPACES = {"Regex": " {2,}"}
# Digits, each a piece, between what GPT-2's pattern makes of the text before and after them, which ends there.
_DIGITS_APART = r"\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"
FIELDS_OF_DECODER = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BERT_FIELDS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")


class PreTokenizer(NamedTuple):
    """What a pre_tokenizer does in the terms of this package: either byte_level with a pattern, or the steps and split
    of a words.WordTokenizer."""

    byte_level: bool
    pattern: str | None
    steps: tuple[Normalizer, ...]
    split: str


def read_pre_tokenizer(data: dict[str, Any] | None) -> PreTokenizer:
    """Raises FormatError for one that is not supported."""
    if data is None:
        return PreTokenizer(False, None, (), "none")
    kind = data.get("type")
    if kind == "ByteLevel":
        return PreTokenizer(True, "gpt2" if _byte_level(data) else None, (), "none")
    if kind == "BertPreTokenizer":
        check_fields(data, ("type",), "BertPreTokenizer")
        return PreTokenizer(False, None, (), "bert")
    if kind == "Metaspace":
        return _metaspace(data)
    if kind == "Sequence":
        check_fields(data, ("type", "pretokenizers"), "the pre_tokenizer Sequence")
        parts = data["pretokenizers"]
        if len(parts) == 1:
            return read_pre_tokenizer(parts[0])
        kinds = [part.get("type") for part in parts]
        if kinds == ["Split", "ByteLevel"] and not _byte_level(parts[1]):
            return PreTokenizer(True, _split_expression(parts[0]), (), "none")
        if kinds == ["Digits", "ByteLevel"] and _digits(parts[0]) and _byte_level(parts[1]):
            return PreTokenizer(True, _DIGITS_APART, (), "none")
        if kinds == ["WhitespaceSplit", "Metaspace"]:
            return _words_and_metaspace(*parts)
        raise FormatError(
            f"the pre_tokenizer Sequence of {', '.join(map(str, kinds))} is not supported as it is set; of Split and "
            "ByteLevel, of Digits (each by itself) and ByteLevel, and of WhitespaceSplit and Metaspace it is"
        )
    raise FormatError(
        f"the pre_tokenizer {kind!r} is not supported; expected ByteLevel, Split and ByteLevel, Metaspace or "
        "BertPreTokenizer"
    )


def _byte_level(data: dict[str, Any]) -> bool:
    """Whether it splits with GPT-2's pattern."""
    check_fields(data, ("type", "add_prefix_space", "trim_offsets", "use_regex"), "ByteLevel")
    if data.get("add_prefix_space", True):
        raise FormatError("ByteLevel with add_prefix_space is not supported: it changes the text before encoding")
    return bool(data.get("use_regex", True))


def _split_expression(data: dict[str, Any]) -> str:
    check_fields(data, ("type", "pattern", "behavior", "invert"), "Split")
    if data.get("behavior") != "Isolated" or data.get("invert"):
        raise FormatError(
            f"Split with behavior {data.get('behavior')!r} and invert {data.get('invert')!r} is not supported; "
            "expected 'Isolated' and false"
        )
    pattern = data["pattern"]
    if list(pattern) == ["String"]:
        return re.escape(pattern["String"])
    expression = pattern["Regex"]
    if expression in _NAMED:
        return _NAMED[expression]
    if not _COMMON.fullmatch(expression):
        raise FormatError(
            f"the pattern {expression!r} of Split has something that Hugging Face's engine and the regex package may "
            "read differently; it is not supported"
        )
    return expression


def _metaspace(data: dict[str, Any]) -> PreTokenizer:
    check_fields(data, ("type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"), "Metaspace")
    if data.get("replacement", METASPACE) != METASPACE:
        raise FormatError(
            f"Metaspace with the replacement {data['replacement']!r} is not supported; only {METASPACE!r}"
        )
    scheme = data.get("prepend_scheme", "always" if data.get("add_prefix_space", True) else "never")
    return PreTokenizer(False, None, (steps.Metaspace(scheme),), "metaspace" if data.get("split", True) else "none")


def _digits(data: dict[str, Any]) -> bool:
    """Whether each digit is a piece of its own."""
    return bool(check_fields(data, ("type", "individual_digits"), "Digits").get("individual_digits"))


def _words_and_metaspace(words: dict[str, Any], metaspace: dict[str, Any]) -> PreTokenizer:
    check_fields(words, ("type",), "WhitespaceSplit")
    found = _metaspace(metaspace)
    if found != PreTokenizer(False, None, (steps.Metaspace("always"),), "metaspace"):
        raise FormatError(
            "Metaspace after WhitespaceSplit is supported with the prepend_scheme 'always' and with split only"
        )
    return found._replace(steps=(steps.WhitespaceSplit(), *found.steps))


def write_byte_level(pattern: str | None) -> dict[str, Any]:
    """The pre_tokenizer for byte-level BPE with this pattern."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": pattern == "gpt2"}
    if pattern in ("gpt2", None):
        return byte_level
    expression = _WRITTEN.get(pattern, pattern)
    if expression not in _NAMED and not _COMMON.fullmatch(expression):
        raise FormatError(
            f"the pattern {pattern!r} has something that Hugging Face's engine may read differently; it cannot be written"
        )
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**byte_level, "use_regex": False}]}


def read_normalizers(data: dict[str, Any] | None) -> list[Normalizer]:
    """Raises FormatError for one that is not supported."""
    if data is None:
        return []
    kind = data.get("type")
    if kind == "Sequence":
        check_fields(data, ("type", "normalizers"), "the normalizer Sequence")
        return [step for part in data["normalizers"] for step in read_normalizers(part)]
    if kind in ("NFC", "NFD", "NFKC", "NFKD"):
        check_fields(data, ("type",), kind)
        return [steps.Unicode(kind)]
    if kind in ("Lowercase", "StripAccents"):
        check_fields(data, ("type",), kind)
        return [getattr(steps, kind)()]
    if kind == "Prepend":
        return [steps.Prepend(check_fields(data, ("type", "prepend"), kind)["prepend"])]
    if kind == "Strip":
        check_fields(data, ("type", "strip_left", "strip_right"), kind)
        return [steps.Strip(data["strip_left"], data["strip_right"])]
    if kind == "Replace":
        check_fields(data, ("type", "pattern", "content"), kind)
        if data["pattern"] == _SPACES:
            return [steps.CollapseSpaces(data["content"])]
        if list(data["pattern"]) != ["String"]:
            raise FormatError(f"the normalizer Replace with the expression {data['pattern']!r} is not supported")
        return [steps.Replace(data["pattern"]["String"], data["content"])]
    if kind == "Precompiled":
        return [steps.Precompiled(check_fields(data, ("type", "precompiled_charsmap"), kind)["precompiled_charsmap"])]
    if kind == "BertNormalizer":
        check_fields(data, ("type", *_BERT_FIELDS), kind)
        return [steps.Bert(**{name: data[name] for name in _BERT_FIELDS})]
    raise FormatError(f"the normalizer {kind!r} is not supported")


def write_normalizers(tokenizer: WordTokenizer) -> dict[str, Any]:
    """normalizer, pre_tokenizer, post_processor and decoder of a tokenizer that works on words.

    Raises:
        FormatError: the steps stand in an order that such a file cannot have.
    """
    chain = list(tokenizer.normalizers)
    pre_tokenizer = {"type": "BertPreTokenizer"} if tokenizer.split == "bert" else None
    if chain and isinstance(chain[-1], steps.Metaspace):
        pre_tokenizer = {
            "type": "Metaspace",
            "replacement": METASPACE,
            "prepend_scheme": chain.pop().scheme,
            "split": tokenizer.split == "metaspace",
        }
        if chain and isinstance(chain[-1], steps.WhitespaceSplit):
            if pre_tokenizer["prepend_scheme"] != "always" or not pre_tokenizer["split"]:
                raise FormatError("after WhitespaceSplit, tokenizer.json needs Metaspace('always') and its split")
            chain.pop()
            pre_tokenizer = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, pre_tokenizer]}
    elif tokenizer.split == "metaspace":
        raise FormatError(
            "the split at metaspaces needs the normaliser Metaspace as the last; tokenizer.json joins them"
        )
    if any(isinstance(step, steps.Metaspace) for step in chain):
        raise FormatError("the normaliser Metaspace can only be the last one in tokenizer.json, where it pre-tokenises")
    return {
        "normalizer": write_chain(chain),
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": _decoder(tokenizer),
    }


def write_chain(chain: Sequence[Normalizer]) -> dict[str, Any] | None:
    """The normalizer that applies these. Raises FormatError for one that such a file cannot have."""
    parts = [_write_normalizer(step) for step in chain]
    return {"type": "Sequence", "normalizers": parts} if len(parts) > 1 else parts[0] if parts else None


def _write_normalizer(step: Normalizer) -> dict[str, Any]:
    match step:
        case steps.Unicode(form):
            return {"type": form}
        case steps.Lowercase() | steps.StripAccents():
            return {"type": type(step).__name__}
        case steps.Prepend(prepend):
            return {"type": "Prepend", "prepend": prepend}
        case steps.Strip(left, right):
            return {"type": "Strip", "strip_left": left, "strip_right": right}
        case steps.Replace(pattern, content):
            return {"type": "Replace", "pattern": {"String": pattern}, "content": content}
        case steps.CollapseSpaces(content):
            return {"type": "Replace", "pattern": _SPACES, "content": content}
        case steps.Precompiled(charsmap):
            return {"type": "Precompiled", "precompiled_charsmap": charsmap}
        case steps.Bert():
            return {"type": "BertNormalizer", **{name: getattr(step, name) for name in _BERT_FIELDS}}
    raise FormatError(f"tokenizer.json has no normalizer for {step!r}")


def _decoder(tokenizer: WordTokenizer) -> dict[str, Any]:
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": METASPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if tokenizer.first_space_is_added:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": decoders}


# Fields of a decoder that change the text, and the values that say what the tokenizers here do.
_DECODERS = {
    "ByteLevel": {"ByteLevel": {}},
    "WordPiece": {"WordPiece": {"prefix": ("##",)}},
    "Metaspace": {
        "Metaspace": {"replacement": (METASPACE,)},
        "Replace": {"pattern": ({"String": METASPACE},), "content": (" ",)},
        "ByteFallback": {},
        "Fuse": {},
        "Strip": {"content": (" ",), "start": (0, 1), "stop": (0,)},
    },
}


def decoder_of(data: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The parts of the decoder, if they are those that this model's tokenizer has here. It does not change ids, only text.

    Raises:
        FormatError: it is another one.
    """
    decoder = data.get("decoder")
    if decoder is None:
        return []
    parts = decoder["decoders"] if decoder.get("type") == "Sequence" else [decoder]
    for part in parts:
        if part.get("type") not in _DECODERS[kind]:
            raise FormatError(f"the decoder {part.get('type')!r} is not supported for this model")
        for field, values in _DECODERS[kind][part["type"]].items():
            if part.get(field, values[0]) not in values:
                raise FormatError(f"the decoder {part['type']} with {field} {part[field]!r} is not supported")
    return parts
