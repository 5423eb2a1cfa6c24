"""GPT-2's two files: vocab.bpe, the merges in order, and encoder.json, the ids. Also as merges.txt and vocab.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..added import AddedToken
from ..base import Tokenizer
from ..bpe import BPETokenizer
from ..bpe_vocabulary import BPEVocabulary
from ..errors import FormatError
from ..normalizer import Normalizer
from .byte_characters import CHARACTERS, to_bytes, to_characters
from .refuse import refuse_preparation

NAME = "gpt2"
_PAIRS = (("vocab.bpe", "encoder.json"), ("merges.txt", "vocab.json"))
_HEADER = "#version: 0.2"


def companion(path: Path) -> tuple[Path, Path] | None:
    """The file of merges and that of ids, of which path is one; a prefix such as "gpt2." may stand before both names."""
    for pair in _PAIRS:
        for name in pair:
            if path.name.endswith(name):
                prefix = path.name.removesuffix(name)
                merges, ids = (path.with_name(prefix + other) for other in pair)
                if merges.is_file() and ids.is_file():
                    return merges, ids
    return None


def pair_in(folder: Path) -> tuple[Path, Path] | None:
    """The two files in a folder."""
    return next((pair for name, _ in _PAIRS if (pair := companion(folder / name)) is not None), None)


def gather(path: Path) -> dict[str, bytes]:
    """Both files' bytes, by their names in the original release, of either or of their folder.

    FormatError where one is missing, OSError where one cannot be read.
    """
    pair = pair_in(path) if path.is_dir() else companion(path)
    if pair is None:
        raise FormatError(
            "expected the two files vocab.bpe and encoder.json (or merges.txt and vocab.json) side by side"
        )
    return {name: file.read_bytes() for name, file in zip(_PAIRS[0], pair, strict=True)}


def parse(files: dict[str, bytes], ignore: frozenset[str], *, pattern: str | None = "gpt2") -> BPETokenizer:
    """The tokenizer of merges in order and of ids. FormatError for what is damaged or contradicts itself."""
    ids = json.loads(files["encoder.json"])
    if not isinstance(ids, dict) or not ids:
        raise FormatError("expected encoder.json to hold an object of token to id")
    lines = files["vocab.bpe"].decode("utf-8").split("\n")
    pairs = []
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise FormatError(f"line {number} of the merges is {line!r}; expected two tokens with a space between")
        pairs.append(tuple(parts))
    return from_names(ids, pairs, None, pattern=pattern, take_whole=False)


def from_names(
    ids: dict[str, int],
    pairs: list[tuple[str, str]],
    special: dict[str, int] | None,
    *,
    pattern: str | None,
    take_whole: bool,
    added: Sequence[AddedToken] = (),
    normalizers: Sequence[Normalizer] = (),
) -> BPETokenizer:
    """The tokenizer of such a vocabulary. special: name to id; None: what is neither a byte nor made by a merge."""
    made = {left + right for left, right in pairs}
    if special is None:
        special = {name: token_id for name, token_id in ids.items() if len(name) > 1 and name not in made}
    for name, token_id in [*special.items(), *((token.text, token.token_id) for token in added)]:
        if ids.get(name, token_id) != token_id:
            raise FormatError(f"the added token {name!r} has id {token_id!r}, but {ids[name]!r} in the model's vocab")
    names = {token_id: name for name, token_id in ids.items()}
    for token in added:
        if token.text not in ids and token.token_id in names:
            raise FormatError(f"the added token {token.text!r} has the id of {names[token.token_id]!r} in the vocab")
    # Where merges make an added token's text, too, they make that id; the others are in the vocab for their id alone.
    apart = {token.text for token in added if token.text not in made and not _is_found(token.text, take_whole)}
    ordinary = {name: token_id for name, token_id in ids.items() if name not in special and name not in apart}
    for name, token_id in ids.items():
        if not isinstance(token_id, int) or isinstance(token_id, bool) or not 0 <= token_id < 1 << 24:
            raise FormatError(f"token {name!r} has the id {token_id!r}; expected an integer from 0 to {(1 << 24) - 1}")
    if len(set(ids.values())) < len(ids):
        raise FormatError("two tokens have the same id; expected each id once")
    tokens: list[bytes | None] = [None] * (max(ordinary.values(), default=-1) + 1)
    for name, token_id in ordinary.items():
        tokens[token_id] = to_bytes(name)
    rows = []
    for number, (left, right) in enumerate(pairs):
        for name in (left, right, left + right):
            if name not in ordinary:
                raise FormatError(f"merge {number}, {left!r} with {right!r}: {name!r} is no ordinary token with an id")
        rows.append((ordinary[left], ordinary[right], ordinary[left + right]))
    return BPETokenizer(
        BPEVocabulary(tokens, rows, take_whole=take_whole),
        pattern=pattern,
        special_tokens=special,
        added_tokens=added,
        normalizers=normalizers,
    )


def _is_found(name: str, take_whole: bool) -> bool:
    """Whether a piece becomes the token of this name without a merge."""
    return set(name) <= CHARACTERS and (take_whole or len(name) == 1)


def names_and_pairs(tokenizer: BPETokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token to id, special tokens included, and the merges, as such files write them."""
    vocabulary = tokenizer.vocabulary
    names: dict[str, int] = {}
    entries = [(to_characters(token), n) for n, token in enumerate(vocabulary.tokens) if token is not None]
    for name, token_id in [*entries, *tokenizer.special_tokens.items()]:
        if name in names:
            raise FormatError(
                f"ids {names[name]} and {token_id} would both be written {name!r}; this format needs one id"
            )
        names[name] = token_id
    names = dict(sorted(names.items(), key=lambda item: item[1]))
    name_of = {token_id: name for name, token_id in names.items()}
    merges = vocabulary.merges
    if vocabulary.any_split:
        # tiktoken's rule has no order among the splits of one token; this one is that of transformers' converter.
        merges = sorted(merges.tolist(), key=lambda row: (row[2], row[0], row[1]))
    return names, [(name_of[int(left)], name_of[int(right)]) for left, right, _ in merges]


def files(tokenizer: Tokenizer, ignore: frozenset[str]) -> dict[str, bytes]:
    """vocab.bpe and encoder.json. FormatError for what they cannot say."""
    if not isinstance(tokenizer, BPETokenizer):
        raise FormatError(f"GPT-2's files hold byte-level BPE, not a {type(tokenizer).__name__}")
    refuse_preparation(tokenizer, "GPT-2's files")
    if tokenizer.vocabulary.take_whole:
        raise FormatError('GPT-2\'s files cannot say that whole pieces are taken (take_whole); write "huggingface"')
    names, pairs = names_and_pairs(tokenizer)
    text = "\n".join([_HEADER, *(f"{left} {right}" for left, right in pairs), ""])
    return {"vocab.bpe": text.encode("utf-8"), "encoder.json": json.dumps(names).encode("ascii")}


def options_of(tokenizer: BPETokenizer) -> dict[str, Any]:
    """The pattern, which `parse` needs beside the files."""
    return {"pattern": tokenizer.pattern}
