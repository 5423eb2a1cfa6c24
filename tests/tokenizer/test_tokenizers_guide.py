"""The examples of docs/tokenizers.md run, and print what the guide shows."""

import contextlib
import io
import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "tokenizers.md"
CORPUS = "the cat sat on the mat, and the cats sat on the mats. " * 20


def test_the_guide_shows_what_its_examples_print(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("corpus.txt").write_text(CORPUS, encoding="utf-8")
    blocks = re.findall(r"```(python|text)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    scope, printed, shown = {}, "", ""
    for kind, text in blocks:
        if kind == "text":
            shown += text
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, str(GUIDE), "exec"), scope)
        printed += out.getvalue()
    assert printed == shown


def test_the_guide_names_every_class_and_format():
    from tokenizer import Tokenizer, formats
    from tokenizer.base import _subclasses

    text = GUIDE.read_text(encoding="utf-8")
    kinds = [
        kind for kind in _subclasses(Tokenizer) if "kind" in vars(kind) and kind.__module__.startswith("tokenizer.")
    ]
    assert len(kinds) >= 5
    for name in [*(kind.__name__ for kind in kinds), *formats.FORMATS]:
        assert f"`{name}`" in text


def test_the_guide_names_what_can_be_ignored():
    source = "".join(path.read_text(encoding="utf-8") for path in (GUIDE.parents[1] / "tokenizer/formats").glob("*.py"))
    names = set(re.findall(r'refuse\(\s*ignore,\s*"(\w+)"', source)) | {"truncation", "padding"}
    text = GUIDE.read_text(encoding="utf-8")
    assert len(names) >= 5
    for name in names:
        assert f"`{name}`" in text
