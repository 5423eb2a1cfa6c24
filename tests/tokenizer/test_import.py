"""Importing the package is cheap, and it stands alone."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import sys
import tokenizer
tokenizer.CharTokenizer.train("plain text").encode("text" * 50_000)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_import_and_characters_load_neither_numba_nor_regex_nor_the_other_packages():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(result.stdout.split())
    assert "tokenizer" in loaded
    assert not loaded & {"numba", "regex", "tinygrad_lite", "transformer"}


SHORT_TEXTS = """
import sys
from tokenizer import BPETokenizer
tokenizer = BPETokenizer([(64, 64)])
loaded = []
for text in ["a short text"] * 3 + [sys.argv[1]] * int(sys.argv[2]):
    tokenizer.encode(text)
    loaded.append("numba" in sys.modules)
print(loaded[2], loaded[-1])
"""


@pytest.mark.parametrize("text, times", [("a" * 300, 1), ("some words " * 9, 30)])
def test_compiled_code_is_loaded_for_a_long_piece_and_after_a_few_short_texts(text, times):
    command = [sys.executable, "-c", SHORT_TEXTS, text, str(times)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.split() == ["False", "True"]


COMPARED = """
import sys
from tokenizer import BPETokenizer
from tokenizer.compare import compare
compare("name", lambda: BPETokenizer([(64, 64)]), "a short text")
print("numba" in sys.modules)
"""


def test_tokenizers_are_compared_by_their_compiled_code():
    result = subprocess.run([sys.executable, "-c", COMPARED], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "True\n"
