"""The notebooks in tutorials/ run from the first cell to the last, and their own asserts hold."""

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_checks_its_claims(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "clear its outputs before a commit"
    assert any("assert " in "".join(cell["source"]) for cell in code)
    assert "".join(cells[0]["source"]).startswith("# ")
    assert path.name in (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")


def test_the_topics_go_from_a_scalar_to_a_gpt():
    assert [path.stem[0] for path in NOTEBOOKS] == list("12345")
    assert "scalar" in NOTEBOOKS[0].stem and "gpt" in NOTEBOOKS[-1].stem


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_through(path, tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install 'tinygrad-lite[notebook]'")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install 'tinygrad-lite[notebook]'")
    import nbformat
    from nbclient import NotebookClient

    known = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{known}" if known else str(ROOT))  # the kernel's, too
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises where a cell does
    printed = [o.text for c in notebook.cells for o in c.get("outputs", ()) if o.get("name") == "stderr"]
    assert not any("Warning" in text for text in printed), printed
