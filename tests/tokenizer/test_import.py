"""Importing the package is cheap, and it stands alone."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import sys
import tokenizer
tokenizer.CharTokenizer.train("plain text").encode("text")
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_import_and_characters_load_neither_numba_nor_regex_nor_the_other_packages():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(result.stdout.split())
    assert "tokenizer" in loaded
    assert not loaded & {"numba", "regex", "tinygrad_lite", "transformer"}
