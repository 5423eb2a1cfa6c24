"""With the merges of GPT-2, text falls into GPT-2's tokens."""

import json
import pathlib

import pytest

from tokenizer import BPETokenizer

DATA = pathlib.Path(__file__).parents[2].parent / "shared/data"
pytestmark = pytest.mark.skipif(
    not (DATA / "gpt2.vocab.bpe").exists() or not (DATA / "gpt2.encoder.json").exists(),
    reason="needs gpt2.vocab.bpe and gpt2.encoder.json in ../shared/data",
)


def byte_of_character():
    """GPT-2's files write each byte as one visible character: itself if visible, else the next one from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [value for value in range(256) if value not in visible]
    return {chr(value): value for value in visible} | {chr(0x100 + n): value for n, value in enumerate(hidden)}


def test_gpt2_merges_give_the_published_ids():
    byte_of = byte_of_character()
    lines = (DATA / "gpt2.vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    id_of = dict(byte_of)
    merges = []
    for number, line in enumerate(lines):
        left, right = line.split(" ")
        merges.append((id_of[left], id_of[right]))
        id_of[left + right] = 256 + number
    tokenizer = BPETokenizer(merges)
    published = json.loads((DATA / "gpt2.encoder.json").read_text(encoding="utf-8"))
    published_id = {ours: published[name] for name, ours in id_of.items()}

    ids = tokenizer.encode("Hello, I'm a language model,")
    assert [published_id[token_id] for token_id in ids] == [15496, 11, 314, 1101, 257, 3303, 2746, 11]

    # Every token that a piece can be is its own spelling.
    for name, ours in list(id_of.items())[::97]:
        text = bytes(byte_of[character] for character in name)
        assert tokenizer.decode_bytes(tokenizer.encode(text)) == text
        if ours >= 256 and text.isalpha():
            assert tokenizer.encode(text) == [ours]
