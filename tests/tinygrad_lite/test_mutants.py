"""Every backward rule made wrong in every way: the checks must find each one.

    pytest -m slow -s tests/tinygrad_lite/test_mutants.py

prints the table: what was caught, by kind of fault, and by name what was not.
"""

import pytest
from support.mutants import Outcome, judge, mutants_of, summary, table

from tinygrad_lite.gradcheck.registry import differentiable

# Each is seen in another way: the size, one element of many, the dependence on g, the second order.
QUICK = ("times 1.01",)
SLOW_OPS = ("attention", "attention_qkv", "layer_norm", "linear_cross_entropy")

# The faults whose effect is nil: proven so by comparing gradients, and counted here so that the list cannot grow unseen.
EQUIVALENT_AT_MOST = 60


def _survivors(outcomes: list[Outcome]) -> list[str]:
    return [f"{o.mutant}: {o.detail}" for o in outcomes if o.status == "survived"]


@pytest.mark.parametrize("op", [op for op in differentiable() if op.name not in SLOW_OPS], ids=lambda op: op.name)
def test_quick_mutants_are_caught(op):
    outcomes = [judge(m) for m in mutants_of(op) if m.kind in QUICK]
    assert _survivors(outcomes) == []
    assert any(o.status == "caught" for o in outcomes) or all(o.mutant.install is None for o in outcomes)
    assert all(o.status != "raised" for o in outcomes)


@pytest.mark.slow
def test_all_mutants_are_caught():
    outcomes = [judge(m) for op in differentiable() for m in mutants_of(op)]
    print("\n" + table(outcomes))
    assert _survivors(outcomes) == []
    # Only arithmetic on shapes and axes may break a run; a wrong figure must be seen as one.
    assert [str(o.mutant) for o in outcomes if o.status == "raised" and "a term dropped" not in o.mutant.kind] == []
    counts = summary(outcomes)
    for kind in ("negated", "times 2", "times 1.01", "all zeros", "rolled by one", "one element zeroed"):
        assert set(counts[kind]) <= {"caught", "not applicable"}, (kind, counts[kind])
    assert sum(o.status == "equivalent" for o in outcomes) <= EQUIVALENT_AT_MOST


def test_a_removed_mutant_leaves_the_op_as_it_was():
    for op in differentiable(["multiply", "softmax", "einsum"]):
        rules, reads = dict(op.rules), op.reads
        for mutant in mutants_of(op):
            if mutant.install is not None:
                with mutant.install():
                    pass
        assert op.rules == rules and op.reads == reads
