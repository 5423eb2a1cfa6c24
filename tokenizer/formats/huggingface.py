"""Hugging Face's tokenizer.json: byte-level BPE, BPE over characters with "\u2581", WordPiece and Unigram.

A file is a pipeline: normalizer, pre_tokenizer, model, post_processor, decoder. Those pipelines are read whose ids the
tokenizers here give; any other component, field or setting is refused by its name. The post_processor only adds special
tokens around a text: ``encode`` here never does that by itself, so the ids are those of
``encode(text, add_special_tokens=False)``. Added tokens that are special become special tokens, which text makes only
where it is asked to; those that are not stay what they are, any text makes them (added.py), for byte-level BPE.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..added import AddedToken
from ..base import Tokenizer
from ..bpe import BPETokenizer
from ..errors import FormatError
from ..normalizer import Normalizer
from ..sentencepiece import SentencePieceTokenizer
from ..unigram import UnigramTokenizer
from ..wordpiece import PREFIX, WordPieceTokenizer
from . import gpt2
from .huggingface_steps import (
    FIELDS_OF_DECODER,
    decoder_of,
    read_normalizers,
    read_pre_tokenizer,
    write_byte_level,
    write_chain,
    write_normalizers,
)
from .refuse import check_fields, refuse

NAME = "huggingface"
_TOP = (
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
)
_POST_PROCESSORS = ("TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel", "Sequence")
_ADDED = ("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")


def gather(path: Path) -> dict[str, bytes]:
    """The file's bytes. OSError where it cannot be read."""
    return {"": path.read_bytes()}


def parse(files: dict[str, bytes], ignore: frozenset[str]) -> Tokenizer:
    """The tokenizer whose ids are those of Hugging Face's for this tokenizer.json.

    FormatError for what is damaged, and for what is not supported unless `ignore` has its name.
    """
    try:
        data = json.loads(files[""].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"expected JSON, found something else ({error})") from error
    check_fields(data, _TOP, "tokenizer.json")
    if data.get("version") != "1.0":
        raise FormatError(f"expected version '1.0' of tokenizer.json, found {data.get('version')!r}")
    for name in ("truncation", "padding"):
        if data.get(name) is not None:
            refuse(ignore, name, f"the file asks for {name}, which encode here never does")
    post = data.get("post_processor")
    if post is not None and post.get("type") not in _POST_PROCESSORS:
        raise FormatError(f"the post_processor {post.get('type')!r} is not supported")
    model = data["model"]
    if not isinstance(model, dict):
        raise FormatError(f"expected the model as a JSON object, found {type(model).__name__}")
    kind = model.get("type") or _kind_of(model)
    if kind not in _READERS:
        raise FormatError(f"the model {kind!r} is not supported; expected one of {sorted(_READERS)}")
    return _READERS[kind](data, model, ignore)


def _kind_of(model: dict[str, Any]) -> str | None:
    """Older files do not name the model."""
    if "merges" in model:
        return "BPE"
    if "unk_id" in model:
        return "Unigram"
    return "WordPiece" if "max_input_chars_per_word" in model else None


def _special_tokens(data: dict[str, Any], ignore: frozenset[str]) -> dict[str, int]:
    """The added tokens, all of them special."""
    special, added = _added_tokens(data, ignore)
    if added:
        refuse(
            ignore,
            "special",
            f"the added token {added[0].text!r} is not special, so any text would make it; with this model it would be a "
            "special token here, made only where that is allowed",
        )
    return special


def _added_tokens(data: dict[str, Any], ignore: frozenset[str]) -> tuple[dict[str, int], list[AddedToken]]:
    """Those that are special, and the others."""
    special: dict[str, int] = {}
    added: list[AddedToken] = []
    late: list[str] = []  # special and looked for after normalisation
    for token in data.get("added_tokens") or []:
        check_fields(token, _ADDED, "an added token")
        content = token["content"]
        for name in ("single_word", "lstrip", "rstrip"):
            if token.get(name):
                refuse(ignore, name, f"the added token {content!r} asks for {name}, which is not supported")
        if not token.get("special") and "special" not in ignore:
            added.append(AddedToken(content, token["id"], token["normalized"]))
            continue
        special[content] = token["id"]
        if token.get("normalized"):
            late.append(content)
    for content in late:
        others = [token.text for token in added if _can_overlap(content, token.text)]
        if data.get("normalizer") is not None or others:
            where = f"and so can overlap with {others[0]!r}" if others else "which is not supported for a special one"
            refuse(ignore, "normalized", f"the added token {content!r} is looked for in normalised text, {where}")
    return special, added


def _can_overlap(a: str, b: str) -> bool:
    """Whether both can be found in a text at places that have a character in common."""
    return a in b or b in a or any(a.endswith(b[:n]) or b.endswith(a[:n]) for n in range(1, min(len(a), len(b))))


def _vocabulary(model: dict[str, Any]) -> list[str | None]:
    ids = model["vocab"]
    if not isinstance(ids, dict) or not ids:
        raise FormatError("expected the model's vocab as an object of token to id")
    for token, token_id in ids.items():
        if not isinstance(token_id, int) or isinstance(token_id, bool) or not 0 <= token_id < 1 << 24:
            raise FormatError(f"token {token!r} has the id {token_id!r}; expected an integer from 0 to {(1 << 24) - 1}")
    tokens: list[str | None] = [None] * (max(ids.values()) + 1)
    for token, token_id in ids.items():
        if tokens[token_id] is not None:
            raise FormatError(f"the tokens {tokens[token_id]!r} and {token!r} have the same id, {token_id}")
        tokens[token_id] = token
    return tokens


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for number, merge in enumerate(model["merges"]):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2:
            raise FormatError(f"merge {number} is {merge!r}; expected two tokens")
        pairs.append(tuple(parts))
    return pairs


def _read_bpe(data: dict, model: dict, ignore: frozenset[str]) -> Tokenizer:
    known = ("type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk")
    check_fields(model, (*known, "byte_fallback", "ignore_merges", "vocab", "merges"), "the BPE model")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise FormatError(f"the BPE model has {name} {model[name]!r}, which is not supported")
    pre_tokenizer = read_pre_tokenizer(data.get("pre_tokenizer"))
    take_whole = bool(model.get("ignore_merges"))
    if pre_tokenizer.byte_level:
        decoder_of(data, "ByteLevel")
        special, added = _added_tokens(data, ignore)
        return gpt2.from_names(
            model["vocab"],
            _merges(model),
            special,
            pattern=pre_tokenizer.pattern,
            take_whole=take_whole,
            added=added,
            normalizers=_before_bytes(data.get("normalizer"), ignore),
        )
    if take_whole:
        raise FormatError("the BPE model has ignore_merges without ByteLevel, which is not supported")
    byte_fallback = bool(model.get("byte_fallback"))
    decoder_of(data, "Metaspace")
    return SentencePieceTokenizer(
        _vocabulary(model),
        _merges(model),
        special_tokens=_special_tokens(data, ignore),
        unknown_token=model.get("unk_token"),
        byte_fallback=byte_fallback,
        fuse_unknown=bool(model.get("fuse_unk")),
        normalizers=[*read_normalizers(data.get("normalizer")), *pre_tokenizer.steps],
        split=pre_tokenizer.split,
    )


def _before_bytes(normalizer: dict[str, Any] | None, ignore: frozenset[str]) -> list[Normalizer]:
    if "normalizer" in ignore:
        return []
    try:
        return read_normalizers(normalizer)
    except FormatError as error:
        refuse(ignore, "normalizer", str(error))
        raise


def _read_unigram(data: dict, model: dict, ignore: frozenset[str]) -> Tokenizer:
    check_fields(model, ("type", "unk_id", "vocab", "byte_fallback"), "the Unigram model")
    pre_tokenizer = read_pre_tokenizer(data.get("pre_tokenizer"))
    if pre_tokenizer.byte_level or pre_tokenizer.split == "bert":
        raise FormatError("a Unigram model after the pre_tokenizer ByteLevel or BertPreTokenizer is not supported")
    decoder_of(data, "Metaspace")
    unknown = model.get("unk_id")
    if unknown is not None and (isinstance(unknown, bool) or not 0 <= unknown < len(model["vocab"])):
        raise FormatError(f"the Unigram model has unk_id {unknown!r}, which is no id of its vocab")
    return UnigramTokenizer(
        model["vocab"],
        special_tokens=_special_tokens(data, ignore),
        unknown_token=None if unknown is None else model["vocab"][unknown][0],
        byte_fallback=bool(model.get("byte_fallback")),
        normalizers=[*read_normalizers(data.get("normalizer")), *pre_tokenizer.steps],
        split=pre_tokenizer.split,
    )


def _read_wordpiece(data: dict, model: dict, ignore: frozenset[str]) -> Tokenizer:
    known = ("type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab")
    check_fields(model, known, "the WordPiece model")
    if model.get("continuing_subword_prefix", PREFIX) != PREFIX:
        raise FormatError(f"the WordPiece model has another prefix than {PREFIX!r}, which is not supported")
    if read_pre_tokenizer(data.get("pre_tokenizer")).split != "bert":
        raise FormatError("a WordPiece model needs the pre_tokenizer BertPreTokenizer; another is not supported")
    decoder = decoder_of(data, "WordPiece")
    return WordPieceTokenizer(
        _vocabulary(model),
        special_tokens=_special_tokens(data, ignore),
        unknown_token=model.get("unk_token", "[UNK]"),
        normalizers=read_normalizers(data.get("normalizer")),
        longest_word=model.get("max_input_chars_per_word", 100),
        cleanup=decoder[0].get("cleanup", True) if decoder else True,
    )


_READERS: dict[str, Callable[..., Tokenizer]] = {
    "BPE": _read_bpe,
    "Unigram": _read_unigram,
    "WordPiece": _read_wordpiece,
}


def files(tokenizer: Tokenizer, ignore: frozenset[str]) -> dict[str, bytes]:
    """tokenizer.json in UTF-8. FormatError for what it cannot say."""
    if isinstance(tokenizer, BPETokenizer):
        parts = _write_byte_level(tokenizer)
    elif isinstance(tokenizer, SentencePieceTokenizer):
        parts = _write_sentencepiece(tokenizer)
    elif isinstance(tokenizer, UnigramTokenizer):
        parts = _write_unigram(tokenizer)
    elif isinstance(tokenizer, WordPieceTokenizer):
        parts = _write_wordpiece(tokenizer)
    else:
        raise FormatError(f"tokenizer.json has no model for a {type(tokenizer).__name__}")
    added = [
        *(_added(name, token_id, False, True) for name, token_id in tokenizer.special_tokens.items()),
        *(_added(token.text, token.token_id, token.normalized, False) for token in tokenizer.added_tokens),
    ]
    added.sort(key=lambda token: token["id"])
    head = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    return {"": json.dumps({**head, **parts}, ensure_ascii=False, indent=1).encode("utf-8")}


def _added(content: str, token_id: int, normalized: bool, special: bool) -> dict[str, Any]:
    nowhere = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    return {"id": token_id, "content": content, **nowhere, "normalized": normalized, "special": special}


def _ids(tokenizer: Any) -> dict[str, int]:
    return {token: token_id for token_id, token in enumerate(tokenizer.vocabulary) if token is not None}


def _bpe_model(vocab: dict[str, int], merges: list[tuple[str, str]], **settings: Any) -> dict[str, Any]:
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    return {**model, **settings, "vocab": vocab, "merges": [list(merge) for merge in merges]}


def _write_byte_level(tokenizer: BPETokenizer) -> dict[str, Any]:
    names, pairs = gpt2.names_and_pairs(tokenizer)
    return {
        "normalizer": write_chain(tokenizer.normalizers),
        "pre_tokenizer": write_byte_level(tokenizer.pattern),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", **FIELDS_OF_DECODER},
        "model": _bpe_model(_with_added(names, tokenizer), pairs, ignore_merges=tokenizer.vocabulary.take_whole),
    }


def _with_added(names: dict[str, int], tokenizer: BPETokenizer) -> dict[str, int]:
    """The vocab with the added tokens that Hugging Face would number otherwise than they are.

    Raises:
        FormatError: it would so whatever the file says.
    """
    added = [token for token in tokenizer.added_tokens if names.get(token.text) != token.token_id]
    ids = set(names.values())
    for token in added:
        if token.text in names or token.token_id in ids:
            raise FormatError(
                f"the added token {token.text!r} has an id, or a name, that another token has in tokenizer.json; it "
                "cannot be written there"
            )
    in_order = [token.token_id for token in added] == list(range(len(names), len(names) + len(added)))
    if tokenizer.vocabulary.take_whole and not in_order:
        raise FormatError(
            "the ids of the added tokens cannot be written: Hugging Face numbers those that are not in the vocab in "
            "order, and with ignore_merges what is in the vocab is taken whole"
        )
    return names if in_order else names | {token.text: token.token_id for token in added}


def _write_sentencepiece(tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    return {
        **write_normalizers(tokenizer),
        "model": _bpe_model(
            _ids(tokenizer),
            tokenizer.merges,
            unk_token=tokenizer.unknown_token,
            fuse_unk=tokenizer.fuse_unknown,
            byte_fallback=tokenizer.byte_fallback,
        ),
    }


def _write_unigram(tokenizer: UnigramTokenizer) -> dict[str, Any]:
    tokens = [token for token, _ in tokenizer.pieces]
    unknown = tokenizer.unknown_token
    added = sorted(set(tokenizer.special_tokens.values()) - set(range(len(tokens))))
    if added != list(range(len(tokens), tokenizer.vocab_size)):
        raise FormatError(
            "an id without a token cannot be written: Hugging Face numbers the tokens of Unigram in order"
        )
    return {
        **write_normalizers(tokenizer),
        "model": {
            "type": "Unigram",
            "unk_id": None if unknown is None else tokens.index(unknown),
            "vocab": [list(piece) for piece in tokenizer.pieces],
            "byte_fallback": tokenizer.byte_fallback,
        },
    }


def _write_wordpiece(tokenizer: WordPieceTokenizer) -> dict[str, Any]:
    return {
        **write_normalizers(tokenizer),
        "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": tokenizer.cleanup},
        "model": {
            "type": "WordPiece",
            "unk_token": tokenizer.unknown_token,
            "continuing_subword_prefix": PREFIX,
            "max_input_chars_per_word": tokenizer.longest_word,
            "vocab": _ids(tokenizer),
        },
    }


def options_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """None: the file holds everything."""
    return {}
