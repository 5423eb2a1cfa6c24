"""Why the walk takes one node now and not another: the topological order, with this moment's counts."""

from __future__ import annotations

from .formula import INLINE, number

LISTED = 8  # nodes that an explanation names


def why(steps, moment) -> str:
    """Why the walk takes this node now and not another: which are ready, and what the others wait for."""
    if not moment.is_backward:
        return _why_forward(steps, moment)
    waiting, uses = steps.waiting(moment), steps.uses
    node = moment.step.node
    position = {n: i for i, n in enumerate(steps.order)}
    arrived = uses.get(node, 0)
    lines = [
        "A node passes its gradient on once, so it must not be taken before all of its shares have come.",
        "Taking the nodes in the reverse of the order in which they were made sees to that: whatever used a value was",
        "made after it. (The reverse of a topological order of the graph.)",
        "",
        f"Now:      {steps.label(node)}: "
        + (f"all {arrived} of its shares are there" if arrived > 1 else "its only share is there" if arrived else
           "the result, where backward starts: it waits for nothing")
        + ", and it is the newest of those that are left.",
    ]  # fmt: skip
    others = [n for n in sorted(waiting, key=position.get) if n is not node]
    ready = [n for n in others if not waiting[n]]
    begun = [n for n in others if waiting[n] and waiting[n] < uses[n]]
    rest = [n for n in others if waiting[n] and waiting[n] == uses[n]]
    if ready:
        names = ", ".join(steps.label(n) for n in ready[:LISTED]) + (" ..." if len(ready) > LISTED else "")
        lines += [
            f"Ready:    {names}: older, so later. (Any order of the ready ones gives the same sums, but for rounding.)"
        ]
    passed = {step.node for step in steps.steps[: moment.number]}
    for n in begun[:LISTED]:
        left = [user for user in steps.users_of(n) if user not in passed]
        names = ", ".join(steps.label(user) for user in dict.fromkeys(left[:3])) + (" ..." if len(left) > 3 else "")
        lines.append(
            f"Not yet:  {steps.label(n)}: {uses[n] - waiting[n]} of {uses[n]} shares are there; it waits for "
            f"{waiting[n]}, from {names}. Taken now, it would pass on {_so_far(steps, moment, n)}."
        )
    for n in rest[:LISTED]:
        lines.append(f"Not yet:  {steps.label(n)}: nothing has come; it waits for {waiting[n]}")
    if (hidden := len(begun[LISTED:]) + len(rest[LISTED:])) > 0:
        lines.append(f"          and {hidden} more that wait")
    return "\n".join(lines)


def _so_far(steps, moment, node) -> str:
    """What has come to a node before this step."""
    for step in reversed(steps.steps[: moment.number]):
        if node in step.node.parents:
            held = step.after[step.node.parents.index(node)]
            return f"{number(held)} only" if held.size <= INLINE else "a part of its gradient only"
    return "nothing"


def _why_forward(steps, moment):
    event = moment.event
    uses = steps.uses.get(event.node, 0) if event.node is not None else 0
    lines = ["Forward runs in the order of your program: what an op needs was made before it."]
    if event.node is None:
        lines.append(f"{steps.label(event.out)} needs no gradient: backward will not come here.")
    elif steps.output is None:
        lines.append("The function raised an error and returned nothing: there is no backward pass.")
    elif event.node not in set(steps.order) and any(n.op is not None and n.op.replay for n in steps.order):
        lines.append(
            f"Backward does not come to {steps.label(event.out)} itself: the result does not depend on it, or it"
        )
        lines.append("ran within a checkpoint, which runs again in backward and is walked back as one step.")
    elif event.node not in set(steps.order):
        lines.append(f"The result does not depend on {steps.label(event.out)}: backward will not come here.")
    else:
        lines.append(
            f"Backward comes the other way: {steps.label(event.out)} "
            + (
                f"will wait for {uses} gradients, one from each use."
                if uses > 1
                else "will wait for one gradient."
                if uses
                else "is the result, where it begins."
            )
        )
    return "\n".join(lines)
