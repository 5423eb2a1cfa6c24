"""Lessons of the walk: in what order, and that gradients add up: within a walk, over walks, over training steps."""

from __future__ import annotations

from ... import optim
from ...autograd.walk import Walk
from ...tensor import Tensor
from .engine import run_on, slope
from .lesson import Curve, Lesson, Outcome, Row, no_progress

# -- "=" in place of "+=" --------------------------------------------------------------------------------


def shared_inputs():
    """f = a b (a + b), of scalars; gives the gradients of a and b."""
    a = Tensor(-2.0, requires_grad=True)
    b = Tensor(3.0, requires_grad=True)
    d = a * b
    e = a + b
    f = d * e
    f.backward()
    return a.grad, b.grad


class Overwriting(Walk):
    """What has arrived at a node is thrown away when the next gradient comes: grad = g, not grad += g."""

    def _arrive(self, node, g, op, fresh=False):
        self.pending.pop(node, None)
        self.owned.discard(node)
        super()._arrive(node, g, op, fresh)


def _overwrite(progress=no_progress):
    (right_a, right_b), _ = run_on(Walk, shared_inputs)
    (wrong_a, wrong_b), engine = run_on(Overwriting, shared_inputs)
    first = [float(sent) for step in engine.steps for sent in step.sent][2:]  # f sends two, then e, then d
    through_e, through_d = first[0], first[2]
    judge = slope(lambda a: (a * 3.0) * (a + 3.0), -2.0)
    is_last = wrong_a.item() in (through_e, through_d)
    return Outcome(
        rows=[
            Row("a.grad", right_a, wrong_a), Row("b.grad", right_b, wrong_b),
            Row("a.grad by finite differences", judge, judge),
        ],
        answer=1 if is_last and right_a.item() == through_e + through_d else 2,
        happened=f"a is used twice. Through e comes {through_e:.4g}, through d comes {through_d:.4g}. Their sum is "
        f"{right_a.item():.4g}; the wrong engine keeps the one that came last, {wrong_a.item():.4g}.",
        why="If a moves, d and e both move, and f feels both: the chain rule for a value that is used in several places "
        "is a sum over them. So a gradient is added to what is there. With values that are used only once, the bug is "
        "invisible, and that is why it survives so long in first engines.",
    )  # fmt: skip


OVERWRITE = Lesson(
    name="overwrite",
    title="= in place of +=",
    question="What will a.grad be with the wrong engine?",
    choices=(
        "the same: the order does not matter",
        "the gradient through only one of the two uses of a",
        "twice the right one",
    ),
    code=(shared_inputs,),
    change=(Overwriting,),
    run=_overwrite,
    then=(
        "tgl step 'a=-2.0; b=3.0; d=a*b; e=a+b; f=d*e' and watch the sum at a before and after each arrival.",
        "Write an f where every value is used once. Does the wrong engine still fail?",
        "tgl lesson order: the sum is there, but it is passed on too early.",
    ),
)

# -- no topological order --------------------------------------------------------------------------------


def early_and_late():
    """d = b + b b, where b = 2 a, of scalars; gives the tensors by name."""
    a = Tensor(3.0, requires_grad=True)
    b = a * 2
    c = b * b
    d = b + c
    d.backward()
    return {"a": a, "b": b, "c": c, "d": d}


class FirstMetFirst(Walk):
    """Nodes in the order in which they are met from the output on, each once: no topological order."""

    def __iter__(self):
        met = list(self.pending)  # the output
        for node in met:  # the list grows while we walk along it
            met.extend(p for p in dict.fromkeys(node.parents) if p is not None and p not in met)
        self.order = met
        return super().__iter__()


def _order(progress=no_progress):
    right, right_engine = run_on(Walk, early_and_late)
    wrong, engine = run_on(FirstMetFirst, early_and_late)
    orders, left = [], []
    for tensors, e in ((right, right_engine), (wrong, engine)):
        names = {x.node: name for name, x in tensors.items()}
        orders.append(" ".join(names[step.node] for step in e.steps))
        left.append(float(e.walks[-1].pending.get(tensors["b"].node, 0.0)))
    good, bad, late = right["a"].grad.item(), wrong["a"].grad.item(), left[1]
    judge = slope(lambda a: a * 2 + (a * 2) ** 2, 3.0)
    return Outcome(
        rows=[
            Row("order of the walk", *orders),
            Row("a.grad", good, bad),
            Row("left behind at b", *left),
            Row("a.grad by finite differences", judge, judge),
        ],
        answer=0 if bad < good else 1 if bad > good else 2,
        happened=f"The wrong engine came to b while c had not yet been visited. It passed on what b had, and when c sent "
        f"its {late:.4g}, b was done. a is short by {late:.4g} * 2 = {good - bad:.4g}.",
        why="A node may pass its gradient on only when all of its consumers have sent theirs, since what it passes on is "
        "the sum. An order in which every node comes after all its consumers is a topological order. Our engine sorts by "
        "when a value was made: what was made later can only be a consumer, never an input. Micrograd builds one "
        "by recursion.",
    )


ORDER = Lesson(
    name="order",
    title="No topological order",
    question="b is used by c and by d. What happens to a.grad if b is visited before c?",
    choices=("it is too small", "it is too large: something is counted twice", "nothing: sums do not mind the order"),
    code=(early_and_late,),
    change=(FirstMetFirst,),
    run=_order,
    then=(
        "tgl step 'a=3.0; b=a*2; c=b*b; d=b+c' and type `why` at each step of backward: it counts who has yet to send.",
        "Write d = c + b instead. The wrong engine is suddenly right: by luck. Why?",
        "A residual stream, x + f(x), is this very graph: without the order, no layer below the topmost learns rightly.",
    ),
)

# -- gradients not zeroed --------------------------------------------------------------------------------


def fit_a_line(zero: bool, steps: int = 30):
    """SGD on the one weight of y = w x; gives w after each step. zero: whether gradients are zeroed before each."""
    x = Tensor([1.0, 2.0, 3.0])
    y = Tensor([2.0, 4.0, 6.0])  # y = 2 x: w should become 2
    w = Tensor(0.0, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.02)
    weights = []
    for _ in range(steps):
        if zero:
            optimizer.zero_grad()
        loss = ((w * x - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        weights.append(w.item())
    return weights


def _zero_grad(progress=no_progress):
    right, wrong = fit_a_line(True), fit_a_line(False)
    crossings = sum((p - 2.0) * (q - 2.0) < 0 for p, q in zip(wrong, wrong[1:]))
    far = max(abs(w - 2.0) for w in wrong[len(wrong) // 2 :])
    return Outcome(
        rows=[
            Row("w after 5 steps", right[4], wrong[4]),
            Row("w after 10 steps", right[9], wrong[9]),
            Row(f"w after {len(right)} steps", right[-1], wrong[-1]),
            Row("farthest from 2, second half", max(abs(w - 2.0) for w in right[len(right) // 2 :]), far),
        ],
        answer=2 if crossings >= 2 and far > 1.0 else 1 if abs(wrong[-1] - 2.0) < 0.1 else 0,
        happened=f"The right run settles at {right[-1]:.4g}. The wrong one runs past the goal {crossings} times in "
        f"{len(wrong)} steps, and is still {far:.3g} away from it at times in the second half.",
        why="backward() adds to .grad: that is what lets one step sum several batches. Not zeroed, .grad is the sum of all "
        "gradients since the start. A step by a sum of all past gradients is momentum with a coefficient of 1: the weight "
        "rolls through the valley like a ball without friction, and never stops.",
        curves=[Curve("w", right, wrong)],
    )


ZERO_GRAD = Lesson(
    name="zero-grad",
    title="Gradients not zeroed",
    question="w should go from 0 to 2. Where does it go if zero_grad() is left out?",
    choices=(
        "straight to infinity",
        "to 2, only faster, since the steps are larger",
        "to 2 and past it, back and past it, without end",
    ),
    code=(fit_a_line,),
    change=("fit_a_line(zero=False)  # zero_grad() is never called",),
    run=_zero_grad,
    then=(
        "Andrej Karpathy left zero_grad out in his own lecture on micrograd, and the network learned all the same. Why?",
        "Halve lr. Does the wrong run calm down, or only swing more slowly?",
        "Sum the gradients of two halves of a batch on purpose: call backward() on each, then step once.",
    ),
)

# -- backward twice --------------------------------------------------------------------------------------


def three_products(retain: bool, times: int = 2):
    """d = 8 a in three products, and backward() so many times; gives a.grad. retain: as backward()'s retain_graph."""
    a = Tensor(1.0, requires_grad=True)
    b = a * 2
    c = b * 2
    d = c * 2
    for _ in range(times):
        d.backward(retain_graph=retain)
    return a.grad.item()


class SumsStay(Walk):
    """What nodes have received stays for the next backward(), inside the graph too: as in micrograd."""

    def __iter__(self):
        for node, g in self.earlier.pending.items() if self.earlier else ():
            if node.parents and node not in self.pending:  # the output starts at 1
                self.pending[node] = g
        self.pending = _NotTaken(self.pending)
        return super().__iter__()


class _NotTaken(dict):
    """A dict whose pop leaves the value there."""

    def pop(self, key, default=None):
        return self.get(key, default)


def _twice(progress=no_progress):
    once, wrong_once = (run_on(kind, three_products, True, 1)[0] for kind in (Walk, SumsStay))
    right, wrong = (run_on(kind, three_products, True)[0] for kind in (Walk, SumsStay))
    refusals = [_refusal(kind) for kind in (Walk, SumsStay)]
    return Outcome(
        rows=[
            Row("a.grad, backward() once", once, wrong_once),
            Row("a.grad, backward() twice", right, wrong),
            Row("... times that of once", right / once, wrong / wrong_once),
            Row("twice without retain_graph", *(type(r).__name__ if r else "allowed" for r in refusals)),
        ],
        answer=2 if wrong > right == 2 * once else 1 if wrong == right else 0,
        happened=f"The right engine gives {right / once:.4g} times the gradient, and only when asked to: leaves add up. "
        f"The wrong one gives {wrong / wrong_once:.4g} times. Without retain_graph=True the engine says: {refusals[0]}.",
        why="Two kinds of sums must not be mixed up. In a leaf's .grad, gradients of several backward() calls add up, so "
        "twice is twice. Inside the graph, sums belong to one walk. If they stay, then c, which has its share of the first "
        "walk, gets a second and sends 2; b adds them to its 1 and sends 3; a ends at 4: an error that grows with depth. "
        "And a walk frees what it no longer needs, which is why a second one must be announced.",
    )


def _refusal(kind):
    try:
        run_on(kind, three_products, False)
    except RuntimeError as error:
        return error
    return None


TWICE = Lesson(
    name="backward-twice",
    title="backward() twice",
    question="d = a * 2 * 2 * 2, so a.grad is 8. What is it after a second backward() where the graph's inner sums stay?",
    choices=("8 again", "16: twice is twice", "more than 16"),
    code=(three_products,),
    change=(SumsStay,),
    run=_twice,
    then=(
        "Call it with times=3. Then with a fourth product. How does the wrong engine's error grow?",
        "Sum two losses that share a graph: (l1 + l2).backward() once is cheaper than two walks, and the same.",
    ),
)
