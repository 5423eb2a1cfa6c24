"""The examples of docs/gradcheck.md run, and print what the guide shows."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import tinygrad_lite as tgl
from tinygrad_lite.ops.registry import OPS
from tinygrad_lite.tensor import functional

GUIDE = Path(__file__).parents[2] / "docs" / "gradcheck.md"


def _rounded(text):
    """The last digits are the processor's own."""
    return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda m: f"{float(m[0]):.4g}", text)


@pytest.fixture
def no_cube():
    yield
    OPS.pop("cube", None)
    tgl.ops.registry.Namespace.formulas.pop("cube", None)
    vars(functional).pop("cube", None)


def test_the_guide_shows_what_its_examples_print(no_cube):
    blocks = re.findall(r"```(python|text)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    scope, printed, shown = {}, [], []
    for kind, text in blocks:
        if kind == "text":
            shown.append(text)
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, str(GUIDE), "exec"), scope)
        printed += [out.getvalue()] if out.getvalue() else []
    scope["test_swish"]()
    assert len(shown) == 3 and list(map(_rounded, printed)) == list(map(_rounded, shown))
