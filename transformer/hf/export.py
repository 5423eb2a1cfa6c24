"""A trained model as a folder that Hugging Face's `from_pretrained` reads."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from tokenizer import formats

from .. import checkpoint
from ..config import GPTConfig
from ..files import replace, save_arrays
from .formats import format_of
from .weights import HEAD, to_huggingface


def huggingface_config(config: GPTConfig) -> dict:
    """What config.json says of this model. Raises ValueError where no type of Hugging Face's holds it."""
    where = format_of(config)
    beside = {"bos_token_id": None, "eos_token_id": None}
    return {"model_type": where.name, "architectures": [where.architecture], **where.settings(config), **beside}


def export(directory, weights: dict, config: GPTConfig, tokenizer=None, marks=None):
    """Write a directory that `AutoModelForCausalLM.from_pretrained` reads, and `AutoTokenizer`'s where a tokenizer is
    given: whole, or not at all. marks: as checkpoint.marks, where texts begin and end.

    Raises FileExistsError if it is there already, ValueError if no type of Hugging Face's holds the model; its subclass
    tokenizer.FormatError if tokenizer.json cannot hold the tokenizer.
    """
    directory, settings, marks = Path(directory), huggingface_config(config), checkpoint.marks(marks or {})
    settings |= {"bos_token_id": next(iter(marks["start"]), None)}
    settings |= {"eos_token_id": marks["end"] if len(marks["end"]) > 1 else next(iter(marks["end"]), None)}
    if directory.exists():
        raise FileExistsError(f"export: {directory} is there already: name a directory that is not")
    directory.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(directory)
    writing = directory.with_name(f".writing-{directory.name}-{os.getpid()}")
    writing.mkdir()
    try:
        renamed = to_huggingface(weights, config)
        if config.tied:
            del renamed[HEAD]
        save_arrays(writing / "model.safetensors", renamed, metadata={"format": "pt"})
        (writing / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        if tokenizer is not None:
            formats.write(tokenizer, writing / "tokenizer.json", formats.huggingface.NAME)
            if marks["begin"]:
                _put_before_texts(writing / "tokenizer.json", marks["begin"], tokenizer)
        replace(writing, directory)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _put_before_texts(path: Path, begin: list[int], tokenizer):
    """Let a tokenizer.json put these ids before every text."""
    data = json.loads(path.read_text(encoding="utf-8"))
    special = {i: name for name, i in tokenizer.special_tokens.items()}
    names = {i: special.get(i, str(i)) for i in begin}  # a template may name others too

    def one(sequence, type_id):
        before = [{"SpecialToken": {"id": names[i], "type_id": type_id}} for i in begin]
        return [*before, {"Sequence": {"id": sequence, "type_id": type_id}}]

    data["post_processor"] = {
        "type": "TemplateProcessing", "single": one("A", 0), "pair": one("A", 0) + one("B", 1),
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for i, name in names.items()},
    }  # fmt: skip
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _remove_left_overs(directory: Path):
    """Remove what exports to the same place left that were killed; one that still runs keeps its own."""
    left_over = re.compile(rf"\.writing-{re.escape(directory.name)}(?:-(\d+))?")
    for path in directory.parent.iterdir():
        match = left_over.fullmatch(path.name)
        if match and not (match[1] and _runs(int(match[1]))):
            shutil.rmtree(path, ignore_errors=True)


def _runs(pid: int) -> bool:
    """Whether another process of this number runs."""
    import psutil  # os.kill(pid, 0) would end it on Windows

    try:
        return pid != os.getpid() and psutil.pid_exists(pid)
    except OverflowError:  # no system has such numbers
        return False
