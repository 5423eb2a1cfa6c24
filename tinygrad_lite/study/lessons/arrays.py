"""Lessons of tensors: broadcasting undone, arrays that backward still needs, exponentials that overflow."""

from __future__ import annotations

import numpy as np

from ... import functional as F
from ...autograd.mode import no_grad
from ...autograd.walk import Walk
from ...ops.registry import At
from ...tensor import Tensor
from .engine import run_on, slope
from .lesson import Lesson, Outcome, Row, no_progress

# -- un-summed broadcast ---------------------------------------------------------------------------------


def add_a_bias():
    """A bias (2,) added to x (3, 2); gives the bias and its gradient."""
    x = Tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])  # (3, 2): three examples
    bias = Tensor([0.5, 0.0], requires_grad=True)  # (2,): one for all of them
    loss = ((x + bias) ** 2).sum()
    loss.backward()
    return bias, bias.grad


class Unsummed(Walk):
    """A gradient stays in the shape in which it comes: the rows that broadcasting made are not summed."""

    def _arrive(self, node, g, op, fresh=False):
        if type(g) is At or g.shape == node.shape:  # At: the gradient of a slice, which goes to its place
            super()._arrive(node, g, op, fresh)
        else:
            self.pending[node] = self.pending.get(node, 0.0) + g


def _broadcast(progress=no_progress):
    (bias, right), _ = run_on(Walk, add_a_bias)
    (_, wrong), _ = run_on(Unsummed, add_a_bias)
    right, wrong, old = right.numpy(), wrong.numpy(), bias.detach().numpy()
    x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    judge = slope(lambda b: ((x + np.array([b, 0.0])) ** 2).sum(), 0.5)
    return Outcome(
        rows=[
            Row("bias.grad", right, wrong),
            Row("its shape", str(right.shape), str(wrong.shape)),
            Row("bias - 0.1 * grad, its shape", str((old - 0.1 * right).shape), str((old - 0.1 * wrong).shape)),
            Row("first bias by finite differences", judge, judge),
        ],
        answer=1 if wrong.shape != right.shape and np.allclose(wrong.sum(0), right) else 0,
        happened=f"The gradient has shape {wrong.shape} where the bias has {right.shape}. Its columns sum to "
        f"{shown_list(wrong.sum(0))}, which is the right gradient. NumPy does not complain about bias - 0.1 * grad: it "
        f"broadcasts again, and the bias silently becomes {(old - 0.1 * wrong).shape}, one for each example. Only an update in "
        "place, such as that of our optimisers, is refused.",
        why="To broadcast is to copy: the bias is used once for each row. A value that is used several times gets the sum "
        "of its gradients, and here the uses are the rows. So what broadcasting repeats on the way forward, a sum over "
        "the same axes gathers on the way back. Our engine does this in one place for all ops, where a gradient arrives.",
    )  # fmt: skip


def shown_list(values) -> str:
    """Numbers in a sentence."""
    return ", ".join(f"{v:.4g}" for v in values)


BROADCAST = Lesson(
    name="broadcast",
    title="A broadcast that is not summed",
    question="bias (2,) is added to x (3, 2). What comes back, if nobody sums?",
    choices=("an error at once, from backward()", "a gradient of shape (3, 2)", "the gradient of the first row"),
    code=(add_a_bias,),
    change=(Unsummed,),
    run=_broadcast,
    then=(
        "What would x (3, 1) + y (1, 2) send to x, and what to y? Along which axes is each sum?",
        "tgl step 'x=[[1,2],[3,4],[5,6]]; b=[0.5,0.0]; ((x+b)**2).sum()' and look at what reaches b, before and after.",
    ),
)

# -- in place, after it was saved ------------------------------------------------------------------------


def write_before_backward():
    """x and w (2,); w is written to in place after their product; gives the gradient of x."""
    x = Tensor([1.0, 2.0], requires_grad=True)
    w = Tensor([3.0, 4.0], requires_grad=True)
    y = (x * w).sum()
    with no_grad():
        w += 10.0  # after the product, before backward()
    y.backward()
    return x.grad


class Unwatched(Walk):
    """Nobody compares the version of what was saved with its version now."""

    def _check_versions(self, node):
        pass


def _in_place(progress=no_progress):
    try:
        right = run_on(Walk, write_before_backward)[0]
        refused = False
    except RuntimeError as error:
        right, refused = f"refused. {error}", True
    wrong = run_on(Unwatched, write_before_backward)[0].numpy()
    true = [slope(lambda v: v * 3.0 + 2.0 * 4.0, 1.0), slope(lambda v: 1.0 * 3.0 + v * 4.0, 2.0)]
    error = wrong - np.array(true)
    return Outcome(
        rows=[
            Row("x.grad", right, wrong),
            Row("x.grad by finite differences", np.array(true), np.array(true)),
        ],
        answer=1 if refused and np.allclose(error, 10.0, atol=1e-3) else 0,
        happened=f"dy/dx is w as it was in the product, {shown_list(true)}. The wrong engine reads w when it walks back, "
        f"and finds {shown_list(wrong)}: off by {shown_list(error)}, the very number that was written. Nothing is NaN, "
        "nothing crashes: training would go on with it.",
        why="The rule for x of x * w needs w, so the node keeps it: not a copy, for copies of everything would double the "
        "memory, but the array itself. Each array therefore has a version that every write raises. A node notes the "
        "version at the time of the product, and backward compares.",
    )


IN_PLACE = Lesson(
    name="in-place",
    title="Written in place after backward has saved it",
    question="y = sum(x * w), then w += 10, then backward(). What is x.grad without the check?",
    choices=("the old w: it was saved", "the new w, without a word", "NaN"),
    code=(write_before_backward,),
    change=(Unwatched,),
    run=_in_place,
    then=(
        "Use w.clone() in the product, and the write is allowed. Why?",
        "Write to w after y = (x + w).sum() instead. No error: what does the rule of a sum need to keep?",
        "optimizer.step() writes to every weight in place. Why is that no problem after backward(), and one before it?",
    ),
)

# -- softmax without the maximum -------------------------------------------------------------------------


def cross_entropy_of(softmax, offset):
    """Logits 0, 1, 2 moved by offset, in float32: their softmax and the gradient of -log of the last, arrays (3,)."""
    logits = Tensor(np.float32([0.0, 1.0, 2.0]) + np.float32(offset), requires_grad=True)
    p = softmax(logits)
    loss = -p[2].log()
    loss.backward()
    return p.numpy(), logits.grad.numpy()


def softmax_without_maximum(x):
    """exp(x) over its sum along the last axis: the formula as it is in books."""
    e = x.exp()  # ops/normalise.py says exp(x - max(x))
    return e / e.sum(-1, keepdim=True)


def _softmax(progress=no_progress):
    limit = float(np.log(np.finfo(np.float32).max))
    offsets, rows, failed = (0.0, 80.0, 90.0, 1000.0, -200.0), [], []
    with np.errstate(all="ignore"):
        for offset in offsets:
            right, wrong = cross_entropy_of(F.softmax, offset), cross_entropy_of(softmax_without_maximum, offset)
            rows.append(Row(f"p of logits 0, 1, 2 {offset:+.0f}", right[0], wrong[0]))
            if not np.isfinite(wrong[0]).all():
                failed.append(offset)
            if offset == 90.0:
                rows.append(Row("  and their gradient", right[1], wrong[1]))
    least = min((o for o in failed if o > 0), default=None)
    return Outcome(
        rows=rows,
        answer=2 if least == 90.0 else 1 if least == 1000.0 else 0,
        happened=f"Softmax knows only differences: adding the same number to all logits changes nothing, and the right "
        f"column is the same in every row. The wrong one holds NaN or infinity at {shown_list(failed)}.",
        why=f"exp(x) leaves float32 at x = {limit:.1f}; infinity / infinity is NaN. Far below zero all exponentials are 0, "
        "and 0 / 0 is NaN too. exp(x - max) / sum(exp(x - max)) is the same number, since exp(-max) cancels, and its largest "
        "exponential is 1: it cannot overflow, and the sum cannot be 0. One NaN in one row makes NaN "
        "of every weight that led to it, in one step, and of all where gradients are clipped by their common norm.",
    )


SOFTMAX = Lesson(
    name="softmax-max",
    title="Softmax without the maximum subtracted",
    question="float32, logits 0, 1, 2 plus some offset. From which offset on does the wrong softmax fail?",
    choices=("never: the offset cancels", "somewhere around 1000", "already below 100"),
    code=(cross_entropy_of,),
    change=(softmax_without_maximum,),
    run=_softmax,
    then=(
        "In float16 exp leaves the range at 11.1. How large are the logits of a trained model?",
        "log(softmax(x)) of a very unlikely class is log(0). What does log_softmax do instead? See ops/normalise.py.",
        "A row that is masked everywhere is all -infinity, and so is its maximum. What then?",
    ),
)
