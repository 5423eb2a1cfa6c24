"""A model out of a folder as Hugging Face's `save_pretrained` writes it: config.json, weights, a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import numpy as np
from safetensors import safe_open

import tokenizer as tokenizers
from tokenizer import formats

from ..config import GPTConfig
from .formats import READ
from .weights import taken_from

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = "pytorch_model*.bin"  # one, or several with numbers


@dataclass
class Model:
    """What a folder holds, as ours.

    begin: the ids that its tokenizer puts before every text. start: what a text without a prompt begins with, if the
    folder says; end: the ids that end a text. left_out: rows of embeddings that no token has.
    """

    config: GPTConfig
    weights: dict[str, np.ndarray]
    tokenizer: tokenizers.Tokenizer
    begin: list[int]
    start: list[int]
    end: list[int]
    left_out: int


def load(
    folder,
    *,
    tokenizer=None,
    block_size: int | None = None,
    ignore: Collection[str] = (),
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Model:
    """Read a folder.

    tokenizer: its file, where the folder has none. block_size: a shorter context than the model's. ignore: what the
    tokenizer's file asks for and may be left out, by the names that the error about it gives. progress: called with how
    many weights are read, and of how many.

    Raises ValueError for what is missing, damaged or not supported, with the file's name.
    """
    folder = Path(folder)
    settings = _json(folder / "config.json")
    config = _config(folder / "config.json", settings)
    file = _tokenizers_file(folder) if tokenizer is None else Path(tokenizer)
    tok = formats.read(file, ignore=ignore)
    begin, ends = _begin(file, tok), _ends(folder, settings)
    weights = _weights(folder, progress)  # the large files last
    try:
        ours = taken_from(weights, config)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    if tok.vocab_size > config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has {tok.vocab_size:,} tokens, the model {config.vocab_size:,}: they are not of one model"
        )
    left_out, config = config.vocab_size - tok.vocab_size, replace(config, vocab_size=tok.vocab_size)
    for name in ("tokens.weight", "head.weight"):
        if name in ours:
            ours[name] = ours[name][: config.vocab_size]
    if block_size is not None:
        if not 1 <= block_size <= config.block_size:
            raise ValueError(
                f"{folder}: the context must be from 1 to the model's {config.block_size}, got {block_size}"
            )
        config = replace(config, block_size=block_size)
        if "positions.weight" in ours:
            ours["positions.weight"] = ours["positions.weight"][:block_size]
    start, end = begin or _ids(settings.get("bos_token_id"), config)[:1], _ids(ends, config)
    return Model(config, ours, tok, begin, start, end, left_out)


def _ids(given, config: GPTConfig) -> list[int]:
    """Ids as config.json has them: none, one or several."""
    given = given if isinstance(given, list) else [given]
    return [i for i in given if type(i) is int and 0 <= i < config.vocab_size]


def _ends(folder: Path, settings: dict):
    """eos_token_id; what generation_config.json says goes before: a model made to converse ends its turns too."""
    path = folder / "generation_config.json"
    said = _json(path).get("eos_token_id") if path.exists() else None
    return settings.get("eos_token_id") if said is None else said


def _json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{path} is not there: expected a folder as Hugging Face's save_pretrained writes it, with config.json, "
            f"{WEIGHTS} and tokenizer.json"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected an object, got {type(found).__name__}")
    return found


def _config(path: Path, settings: dict) -> GPTConfig:
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in READ:
        raise ValueError(f"{path}: models of type {kind!r} are not supported, but those of {', '.join(READ)}")
    if settings.get("quantization_config"):
        raise ValueError(f"{path}: quantization_config: weights of fewer bits are not supported")
    try:
        return READ[kind].config(settings)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _tokenizers_file(folder: Path) -> Path:
    """tokenizer.json, or the folder where GPT-2's two files are in it."""
    if (folder / "tokenizer.json").exists():
        return folder / "tokenizer.json"
    if formats.gpt2.pair_in(folder) is None:
        raise ValueError(
            f"{folder} has no tokenizer (tokenizer.json, or vocab.json and merges.txt): name one with --tokenizer FILE"
        )
    return folder


def _weights(folder: Path, progress) -> dict[str, np.ndarray]:
    """All arrays of a folder by name, in float32, from one file or from the several that an index names."""
    if (folder / WEIGHTS).exists():
        files = [folder / WEIGHTS]
    elif (folder / INDEX).exists():
        names = _json(folder / INDEX).get("weight_map")
        if not isinstance(names, dict) or not all(Path(str(name)).name == name for name in names.values()):
            raise ValueError(f"{folder / INDEX}: expected weight_map, an object of weights and the files they are in")
        files = [folder / name for name in sorted(set(names.values()))]
    elif pickles := sorted(folder.glob(PICKLES)):
        raise ValueError(
            f"{pickles[0]} is a pickle, which may run anything when it is read: where you trust it, load it with Hugging "
            f"Face's transformers, whose save_pretrained makes {WEIGHTS} of it"
        )
    else:
        raise ValueError(f"{folder} has no weights: expected {WEIGHTS}, or {INDEX} and the files it names")
    found, counts = {}, []
    for path in files:
        try:
            with safe_open(path, framework="np") as file:
                names = list(file.keys())
                counts.append(len(names))
                for name in names:
                    found[name] = file.get_tensor(name).astype(np.float32, copy=False)
                    progress(len(found), sum(counts) + (len(files) - len(counts)) * counts[0])
        except Exception as error:  # the library's own type for a damaged file, and what the system says
            raise ValueError(f"{path}: cannot be read: {error}") from None
    return found


def _begin(path: Path, tok) -> list[int]:
    """The ids before every text, by the post-processor of a tokenizer.json; other files say none."""
    post = _json(path).get("post_processor") if formats.recognise(path) == formats.huggingface.NAME else None
    ids = []
    try:
        for step in post.get("processors", [post]) if post else []:
            pieces = step["single"] if step["type"] == "TemplateProcessing" else []
            for piece in takewhile(lambda piece: "SpecialToken" in piece, pieces):
                ids += step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: its post_processor is damaged: {error!r}") from None
    if not all(type(i) is int and 0 <= i < tok.vocab_size for i in ids):
        raise ValueError(f"{path}: its post_processor has ids {ids}, and the tokenizer those below {tok.vocab_size}")
    return ids
