"""Lessons of attention: its scale, and its mask."""

from __future__ import annotations

import numpy as np

from tinygrad_lite import Generator, Tensor, no_grad
from tinygrad_lite import functional as F
from tinygrad_lite.study import Trace
from tinygrad_lite.study.lessons.lesson import Curve, Lesson, Outcome, Row, no_progress

from ..evaluation import evaluate
from ..model import as_tokens
from ..sampling import generate
from .small import SHOWN, last, small_trainer, train_both

# -- missing scale ---------------------------------------------------------------------------------------


def attend(head_size, scale):
    """Attention of random q, k, v (1, 8, 32, head_size): the trace of its ops, and a loss to walk back from."""
    rng = np.random.default_rng(0)
    shape = (1, 8, 32, head_size)  # (B, H, T, D): 32 tokens
    q, k, v = (Tensor(rng.standard_normal(shape), requires_grad=True) for _ in range(3))
    with Trace(open_fused=True) as trace:  # every op inside attention can be seen
        out = F.scaled_dot_product_attention(q, k, v, scale=scale)
        loss = (out * rng.standard_normal(shape)).sum()
    return trace, loss


def _inside(head_size, scale):
    """(deviation of the scores, mean of each row's largest weight, median size of the gradient at a score)."""
    trace, loss = attend(head_size, scale)
    scores = next(event for event in trace if event.op.name == "multiply")  # q k^T * scale
    weights = next(event for event in trace if event.op.name == "divide")  # exp / sum
    arrived = next(step.g for step in trace.backward(loss) if step.event is scores)
    largest = weights.out.detach().numpy().max(-1).mean()
    return float(scores.out.detach().numpy().std()), float(largest), float(np.median(np.abs(arrived)))


def _scale(progress=no_progress):
    rows, sizes = [], (4, 64, 256)
    for done, size in enumerate(sizes):
        progress(done, len(sizes))
        right, wrong = _inside(size, None), _inside(size, 1.0)
        names = ("deviation of the scores", "largest weight of a row, mean", "gradient at a score, median")
        rows += [Row(f"D = {size}: {name}", *pair) for name, *pair in zip(names, right, wrong)]
    outcome = {row.what: row for row in rows}
    largest = outcome["D = 64: largest weight of a row, mean"]
    gradient = outcome[f"D = {sizes[-1]}: gradient at a score, median"]
    deviations = [outcome[f"D = {size}: deviation of the scores"].wrong for size in sizes]
    return Outcome(
        rows=rows,
        answer=0 if largest.wrong < 0.1 else 1 if largest.wrong < 0.5 else 2,
        happened=f"With D = 64 the largest of 32 weights is {largest.wrong:.2f} on average, with the scale "
        f"{largest.right:.2f}: attention sees little but one token. With D = {sizes[-1]} half of all scores "
        f"get a gradient below {gradient.wrong:.2g}, where {gradient.right:.2g} is usual: they cannot be learned any more.",
        why=f"A score is a sum of D products of independent numbers, so its variance grows as D and its deviation as "
        f"sqrt(D): {', '.join(f'{d:.3g}' for d in deviations)} for D = {', '.join(map(str, sizes))}. Divided by sqrt(D) it is 1 "
        "for every D. Softmax of numbers that far apart is all but a hard choice, and where a weight p is nearly 0 or 1, its "
        "derivative p (1 - p) is nearly 0. Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1.",
    )


SCALE = Lesson(
    name="attention-scale",
    title="Attention without 1 / sqrt(D)",
    question="32 keys, D = 64, q and k random with deviation 1. Without the scale, how large is the largest weight of a row?",
    choices=("about as the others: 1/32", "up to a half", "over a half: nearly all goes to one key"),
    code=(attend,),
    change=("attend(head_size, scale=1.0)  # right: scale=None, which is 1 / sqrt(head_size)",),
    run=_scale,
    then=(
        "A GPT draws its weights with deviation 0.02. Are its scores large at the start? And after training?",
        "In Python: trainer = small_trainer(), set block.attention.scale = 1.0 in its blocks, and train. What does it cost, if "
        "anything, at D = 16?",
        "Why sqrt(D), and not D? Compute the deviation of the scores for scale=1 / D.",
    ),
)

# -- no causal mask --------------------------------------------------------------------------------------


def without_mask(model):
    """Take the causal mask from every block of a GPT, in place."""
    for block in model.blocks:
        block.attention.causal = False  # every token sees every other: also those to come


def leak(model, tokens) -> float:
    """How much the logits of the first positions move when the last token changes."""
    tokens = np.array(tokens)
    changed = tokens.copy()
    changed[-1] = (changed[-1] + 1) % model.config.vocab_size
    with no_grad():
        before, after = (model(as_tokens(ids[None])).numpy()[0, :-1] for ids in (tokens, changed))
    return float(np.abs(before - after).max())


def _foresee(trainer):
    """(held-out loss where only the past is seen, 60 characters that follow "def ")."""
    model = trainer.model
    for block in model.blocks:
        block.attention.causal = True  # as it is used: when writing, there is no future
    loss = evaluate(model, trainer.val, trainer.tokenizer, limit=100).loss
    prompt = trainer.tokenizer.encode("    def ")
    ids = list(generate(model, prompt, 60, temperature=0.8, generator=Generator(3)))
    return loss, repr(trainer.tokenizer.decode(prompt + ids))


def _causal(progress=no_progress):
    right, wrong = small_trainer(), small_trainer()
    without_mask(wrong.model)
    curves = train_both(right, wrong, progress)
    tokens = right.val[: right.model.config.block_size]
    leaks = leak(right.model, tokens), leak(wrong.model, tokens)
    honest, texts = zip(_foresee(right), _foresee(wrong))
    trained = tuple(map(last, curves))
    guess = float(np.log(right.tokenizer.vocab_size))
    return Outcome(
        rows=[
            Row("training loss at the end", *trained),
            Row("held out, seeing only the past", *honest),
            Row("logits moved by a later token", *leaks),
            Row("it writes", *texts),
        ],
        answer=2 if trained[1] < trained[0] / 2 and honest[1] > honest[0] else 1 if trained[1] < trained[0] else 0,
        happened=f"Training falls to {trained[1]:.2f} nats a character, far below the right model's {trained[0]:.2f}. Then it "
        f"has to write, with no future to look at, and its loss is {honest[1]:.2f}; to guess uniformly costs {guess:.2f}.",
        why="The target of position i is the token at i + 1, and without the mask position i can look at it. So the model "
        "learns to copy its right neighbour, which costs next to nothing, and nothing about language. A training loss that falls "
        "far too well is a leak until the contrary is proven. The test takes two lines: change the last token, and no "
        "earlier logit may move.",
        curves=[Curve("nats a character", *curves, every=5)],
    )


CAUSAL_MASK = Lesson(
    name="causal-mask",
    title="No causal mask",
    question="The same small GPT, trained without the mask. How does it do?",
    choices=(
        "training gets worse: it is distracted by what comes later",
        "training gets better, and so does what it writes: it has seen more",
        "training gets much better, and what it writes much worse",
    ),
    code=(SHOWN, leak),
    change=(without_mask,),
    run=_causal,
    then=(
        "BERT has no causal mask and learns a lot. What does it do about the leak?",
        "tgl lens attention shows the patterns of your own run: is anything above the diagonal?",
        "Shift the targets by one more: can a model without mask still cheat?",
    ),
)
