"""Lessons of training: no warm-up, and weights drawn too wide."""

from __future__ import annotations

import numpy as np

from tinygrad_lite import no_grad
from tinygrad_lite.study.lessons.lesson import Curve, Lesson, Outcome, Row, no_progress

from ..model import as_tokens
from .small import SETTINGS, SHOWN, STEPS, last, small_trainer, train, train_both

# -- no warm-up ------------------------------------------------------------------------------------------


def length_of_weights(model) -> float:
    """The norm of all matrices of the blocks, as one long vector."""
    squares = [float((p.detach().numpy() ** 2).sum()) for p in model.blocks.parameters() if p.ndim == 2]
    return float(np.sqrt(sum(squares)))


def _first_steps(trainer, steps: int = 10) -> tuple[float, float]:
    """(length of the first update, length of the weights after some steps), over the weights' length at the start."""
    start = [p.detach().numpy().copy() for p in trainer.model.blocks.parameters() if p.ndim == 2]
    length, update = length_of_weights(trainer.model), 0.0
    for step in range(steps):
        trainer.train_step(step)
        if step == 0:
            now = [p.detach().numpy() for p in trainer.model.blocks.parameters() if p.ndim == 2]
            update = float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(now, start)))) / length
    return update, length_of_weights(trainer.model) / length


def _warm_up(progress=no_progress):
    with_it, without = {}, {"warmup": 0}
    curves = train_both(small_trainer(**with_it), small_trainer(**without), progress)
    first = [_first_steps(small_trainer(**settings)) for settings in (with_it, without)]
    (right_update, right_growth), (wrong_update, wrong_growth) = first
    early = tuple(last(curve[:20]) for curve in curves)
    late = tuple(map(last, curves))
    return Outcome(
        rows=[
            Row("first update / weights", right_update, wrong_update),
            Row("weights after 10 steps / at start", right_growth, wrong_growth),
            Row("loss, steps 11 to 20", *early),
            Row("loss, last 10 steps", *late),
        ],
        answer=2 if early[1] < early[0] and late[1] > late[0] else 0 if late[1] > late[0] else 1,
        happened=f"Without warm-up the loss is ahead at first, {early[1]:.2f} to {early[0]:.2f}, and behind at the end, "
        f"{late[1]:.2f} to {late[0]:.2f}. Its first step moved the weights by {wrong_update:.0%} of their length, "
        f"that of the warm-up by {right_update:.1%}.",
        why="Adam divides the gradient by its own size, and in the first step that is all it knows: every single weight moves "
        "by the whole learning rate, up or down, however small its gradient, on the word of one batch. What is easy, how "
        f"often each character occurs, is learned at once. But after 10 steps the weights are {wrong_growth:.1f} times as "
        "long as at the start, and the layers are thrown far into a place that they do not leave in so short a run. Warm-up "
        "keeps the first updates small; that their size is what matters is the finding of Ma & Yarats 2019, arXiv:1910.04209.",
        curves=[Curve("nats a character", *curves, every=5)],
    )


WARM_UP = Lesson(
    name="warm-up",
    title="No warm-up",
    question=f"AdamW with a learning rate of {SETTINGS['lr']} at full size from the first step. How does it compare after "
    f"{STEPS} steps?",
    choices=(
        "slower from the start to the end",
        "faster: it loses no steps at small rates",
        "ahead at first, behind at the end",
    ),
    code=(SHOWN, train),
    change=(f"small_trainer(warmup=0)  # right: the rate rises linearly over {SETTINGS['warmup']} steps",),
    run=_warm_up,
    then=(
        "With lr=1e-3, does warm-up still matter? When would you leave it out?",
        "Clipping is on (clip=1.0). Why does it not help against Adam's first steps?",
        "tgl train logs update/weight ratios of each layer: what is usual once training is under way?",
    ),
)

# -- weights too wide ------------------------------------------------------------------------------------


def too_wide(model):
    """Make the matrices of a GPT 50 times as large, in place."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data[...] *= 50.0  # deviation 1.0 where GPT-2 draws 0.02, and 0.5 before a sum


def _logits(trainer):
    with no_grad():
        return float(trainer.model(as_tokens(trainer.loader.batch(0)[0])).numpy().std())


def _initialisation(progress=no_progress):
    right, wrong = small_trainer(), small_trainer()
    too_wide(wrong.model)
    spread = _logits(right), _logits(wrong)
    curves = train_both(right, wrong, progress)
    guess = float(np.log(right.tokenizer.vocab_size))
    first = tuple(curve[0] for curve in curves)
    lost = next((i for i, loss in enumerate(curves[1]) if loss < guess), None)
    spent = (
        f"It took {lost} steps to come down to where guessing begins"
        if lost is not None
        else "It never reached what guessing costs"
    )
    late = tuple(map(last, curves))
    return Outcome(
        rows=[
            Row("deviation of the logits", *spread),
            Row("loss of the first step", *first),
            Row("uniform guess, log V", guess, guess),
            Row("loss, last 10 steps", *late),
        ],
        answer=2 if first[1] > 1.5 * guess else 1 if first[1] < guess - 0.3 else 0,
        happened=f"The first loss is {first[1]:.1f} where a uniform guess costs log V = {guess:.2f}. {spent}, and it ends "
        f"at {late[1]:.2f}, against {late[0]:.2f}.",
        why=f"Before it has learned anything, a model should say that it does not know: all logits near 0, and the loss log V. "
        f"Here the logits have a deviation of {spread[1]:.2g}, so the model is sure of itself, and wrong; a confident error "
        "costs as many nats as the logits lie apart. The first steps only unlearn. So the first number to look at in any "
        "training is the loss of step 1: it should be close to log V. Radford et al. 2019 (GPT-2) draw with a deviation of 0.02, and "
        "divide by sqrt(2 layers) what is added to the residual stream.",
        curves=[Curve("nats a character", *curves, every=5)],
    )


INITIALISATION = Lesson(
    name="initialisation",
    title="Weights drawn too wide",
    question="All matrices 50 times wider than GPT-2 draws them. What is the loss before anything was learned?",
    choices=(
        "log V, the cost of a uniform guess: it knows nothing either way",
        "a little lower: larger weights say more",
        "far above log V",
    ),
    code=(SHOWN, train),
    change=(too_wide,),
    run=_initialisation,
    then=(
        "And all weights 0? Which parameters get a gradient then, and do any two of them ever become different?",
        "Your own run: is its first loss the log of its vocabulary? tgl train warns where the loss is far above.",
        "Which of the two hurts more: wide embeddings, or wide matrices in the blocks? Change too_wide and see.",
    ),
)
