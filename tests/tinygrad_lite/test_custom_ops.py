"""Ops by users: the documented way works as it is written, and misuse is named when the op is declared."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_lite as tgl
from tinygrad_lite.ops import registry

ROOT = Path(__file__).resolve().parents[2]


def test_examples_of_the_page_on_custom_ops_run(tmp_path):
    text = (ROOT / "docs" / "custom-ops.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    assert code.count("@primitive") == 2
    # In a process of its own: an op stays registered.
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"], check=True, cwd=tmp_path
    )


@pytest.fixture
def registered():
    """Takes the ops that a test registers out again."""
    before = dict(registry.OPS), dict(registry.Namespace.formulas)
    yield
    for table, kept in zip((registry.OPS, registry.Namespace.formulas), before, strict=True):
        table.clear()
        table.update(kept)


def test_an_op_without_a_rule_never_records(registered):
    @tgl.primitive()
    def parity(xp, x):
        return xp.remainder(xp.floor(x), 2.0)

    out = parity(tgl.tensor([2.5, 3.5]).requires_grad_())
    assert out.tolist() == [0.0, 1.0] and not out.requires_grad


def test_declaring_an_op_wrongly_raises_naming_it(registered):
    @tgl.primitive()
    def twice(xp, x, *, scale=2.0):
        return x * scale

    with pytest.raises(ValueError, match=r"^twice.vjp: 'y' is not an input; its inputs are \('x',\)"):
        twice.vjp(y=lambda xp, g: g)
    with pytest.raises(ValueError, match=r"^twice.vjp: a rule asks for 'z'; it can ask for an input"):
        twice.vjp(x=lambda xp, g, z: g)
    with pytest.raises(ValueError, match="^op 'twice' is already registered"):
        tgl.primitive()(twice.forward)
    with pytest.raises(TypeError, match=r"^twice: parameters are \('scale',\); missing \[\], unknown \['size'\]"):
        twice(tgl.ones(2), size=1)
    with pytest.raises(TypeError, match=r"^twice\(\) takes 1 positional argument but 2 were given"):
        twice(tgl.ones(2), tgl.ones(2))


def test_a_rule_of_the_wrong_shape_or_type_raises_naming_the_op(registered):
    @tgl.primitive()
    def shifted(xp, x):
        return x + 1.0

    x = tgl.ones(2, 3).requires_grad_()
    shifted.vjp(x=lambda xp, g: xp.reshape(g, shape=(3, 2)))
    with pytest.raises(ValueError, match=r"^shifted: a gradient of shape \(3, 2\) does not reduce to .* \(2, 3\)"):
        shifted(x).sum().backward()
    shifted.vjp(x=lambda xp, g: xp.astype(g, dtype="float64"))
    with pytest.raises(TypeError, match="^shifted: a gradient must have its tensor's type float32, got float64"):
        shifted(x).sum().backward()
