"""With NUMBA_DISABLE_JIT=1, as one steps through the kernels with a debugger, everything comes out the same."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
from tokenizer import BPETokenizer, SentencePieceTokenizer, UnigramTokenizer, WordPieceTokenizer
from tokenizer.pretokenize import make_pretokenizer

text = "It's the CAF\u00c9, caf\u00e9s \u0416\u0443\u043a \u4e2d\u6587\u5b57 \U0001f600!\\n\\n  they'll e\u0301  12345 \u0663x; don'T\\t(a)b " * 4
for name in ("gpt2", "cl100k", "o200k"):
    print(make_pretokenizer(name).split(text))
    print(BPETokenizer.train(text, 290, pattern=name).encode(text))
print(BPETokenizer.train(text, 270, pattern=None).encode(text.encode() + b"\\xff" + b"a" * 70))
for kind, size in ((SentencePieceTokenizer, 330), (UnigramTokenizer, 60), (WordPieceTokenizer, 90)):
    made = kind.train(text, size)
    print(made.encode(text), [made.decode(made.encode(text))])
"""


def run(**environment):
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],  # NumPy warns of the overflow that hashes are made of
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    return found.stdout.splitlines()


def test_kernels_that_are_not_compiled_give_the_same():
    compiled = run()
    assert len(compiled) == 10
    assert run(NUMBA_DISABLE_JIT="1") == compiled
