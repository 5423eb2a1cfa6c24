"""`tgl lens`: what a trained model does inside, as a table, a PNG and an HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tinygrad_lite import Generator

from ..data import load_corpus
from ..sampling import generate, start_of_text
from .inspect import From, encoded, load_model
from .lens_shared import Out, bar, console, ids_of, names_of, table, token_of, unicode, write

# Nothing of ..lens up here: `tgl train` loads this file and no more.
lens = typer.Typer(no_args_is_help=True, help="Look inside a trained model: heads, logits, patches, edits.")
LATEST, SHOWN = Path("runs/latest"), Path("lens")
Text = Annotated[str | None, typer.Option("--text", help="What the model reads. Default: its own sample.")]
READ_LAST, MOST_BARS = 16, 24  # columns and rows that can still be read in a picture
BACKGROUND_TOKENS = 2048


@lens.command()
def attention(directory: From = LATEST, text: Text = None, out: Out = SHOWN):
    """Where each head looks, from each token."""
    from ..lens import run_with_cache
    from ..lens.panels import Attention

    model, tok, _ = load_model(directory)
    ids = ids_of(model, tok, text, least=2)
    _, cache = run_with_cache(model, ids, "*attention.pattern")
    patterns = np.stack([cache[name].float().numpy()[0] for name in cache])  # (L, H, T, T)
    q = np.arange(1, len(ids))
    places = {"itself": q, "the one before": q - 1, "the first": np.zeros_like(q)}
    rows = [("head", *places, "entropy")]
    for i, layer in enumerate(patterns):
        for h, pattern in enumerate(layer):
            entropy = -(pattern * np.log(np.maximum(pattern, 1e-30))).sum(1)[1:].mean()
            rows.append((f"{i}.{h}", *(f"{pattern[q, k].mean():.0%}" for k in places.values()), f"{entropy:.2f} nats"))
    console.say("Mean attention of each head, from a token to")
    table(rows)
    note = "rows look at columns; each row adds up to 1"
    write("attention", [Attention("Attention by layer.head", names_of(tok, ids), patterns, note)], out,
           f"Attention of {directory}")  # fmt: skip


@lens.command("logit-lens")
def logit_lens_command(directory: From = LATEST, text: Text = None, out: Out = SHOWN):
    """What the model would say next, if it stopped at each depth."""
    from ..lens import logit_lens
    from ..lens.panels import HeatMap

    model, tok, _ = load_model(directory)
    ids = ids_of(model, tok, text)
    readings, names, last = logit_lens(model, ids, 5), names_of(tok, ids), slice(-READ_LAST, None)
    rows = [("depth", "likeliest next tokens", "", "", "entropy", "rank of the final choice")]
    for r in readings:
        best = [f"{names_of(tok, [t])[0]} {p:.1%}" for t, p in zip(r.tokens[-1][:3], r.probabilities[-1])]
        rows.append((r.name, *(best + [""] * (3 - len(best))), f"{r.entropy[-1]:.2f} nats", f"{r.rank[-1] + 1}"))
    console.say(f"After the last token, {names[-1]}:")
    table(rows)
    texts = [[names_of(tok, [t])[0] for t in r.tokens[last, 0]] for r in readings]
    values = np.stack([r.probabilities[last, 0] for r in readings])
    note = "the likeliest next token at each depth and position; colour: its probability"
    heat = HeatMap("Logit lens", [r.name for r in readings], names[last], values, texts=texts, note=note,
                   column_name="after the token")  # fmt: skip
    write("logit-lens", [heat], out, f"Logit lens of {directory}")


@lens.command()
def attribution(
    directory: From = LATEST, text: Text = None,
    target: Annotated[str | None, typer.Option(help="The token whose logit is taken apart. Default: the likeliest next one.")] = None,
    versus: Annotated[str | None, typer.Option(help="Take apart the lead over this token. Default: the second likeliest.")] = None,
    position: Annotated[int, typer.Option(help="After which token of the text; -1 is the last.")] = -1,
    out: Out = SHOWN,
):  # fmt: skip
    """What each head and MLP adds to one logit's lead over another."""
    from ..lens import direct_logit_attribution
    from ..lens.edit import predict
    from ..lens.panels import Bars, by_head

    model, tok, _ = load_model(directory)
    ids = ids_of(model, tok, text)
    if not -len(ids) <= position < len(ids):
        raise ValueError(f"--position {position} is outside the {len(ids)} tokens")
    best = [i for i, _ in predict(model, ids[: position % len(ids) + 1]).top(2)]
    a = token_of(tok, target, "--target") if target is not None else best[0]
    b = token_of(tok, versus, "--versus") if versus is not None else next(i for i in best if i != a)
    if a == b:
        raise ValueError("--target and --versus are the same token: name another, or leave --versus out")
    found = direct_logit_attribution(model, ids, a, b, position)
    first, second, after = names_of(tok, [a, b, ids[position]])
    lead = f"Logit of {first} less that of {second}, after {after}: {found.logit:+.3f}"
    console.say(f"{lead}. The parts add up to {found.shares.sum():+.3f}; the largest:")
    order = np.argsort(-np.abs(found.shares), kind="stable")
    table([("part", "share")] + [(found.parts[i], f"{found.shares[i]:+.3f}") for i in order[:10]])
    if len(order) > MOST_BARS:
        kept = sorted(order[:MOST_BARS])
        rest = found.shares.sum() - found.shares[kept].sum()
        labels, values = [found.parts[i] for i in kept] + ["all others"], np.append(found.shares[kept], rest)
    else:
        labels, values = found.parts, found.shares
    heads = np.array([s for p, s in zip(found.parts, found.shares) if ".head." in p]).reshape(model.config.layers, -1)
    largest = max(float(np.abs(heads).max()), 1e-9)
    matrix = by_head("By head", heads, diverging=True)._replace(low=-largest, high=largest)
    panels = [Bars(lead, labels, values, "each part's direct share; the final norm's scale as in this run"), matrix]
    write("attribution", panels, out, f"Direct logit attribution in {directory}")


@lens.command()
def patch(
    clean: Annotated[str, typer.Option(help="A prompt whose answer is right.")],
    corrupted: Annotated[str, typer.Option(help="The same, but for a token or so: as many tokens.")],
    directory: From = LATEST,
    answer: Annotated[str | None, typer.Option(help="The clean prompt's next token. Default: what the model says.")] = None,
    wrong: Annotated[str | None, typer.Option(help="The corrupted prompt's. Default: what the model says.")] = None,
    site: Annotated[str, typer.Option(help="What is carried over by position: resid_pre, attention.out or mlp.out.")] = "resid_pre",
    out: Out = SHOWN,
):  # fmt: skip
    """Which values, carried from one prompt's run into another's, bring its answer along."""
    from ..lens import answer_lead, patch_heads, patch_positions
    from ..lens.edit import predict
    from ..lens.panels import HeatMap, by_head, layer_names

    model, tok, _ = load_model(directory)
    one, other = (ids_of(model, tok, t, o) for t, o in ((clean, "--clean"), (corrupted, "--corrupted")))
    names, others = names_of(tok, one), names_of(tok, other)
    if len(one) != len(other):
        raise ValueError(
            f"the prompts must have as many tokens, position for position: --clean has {len(one)} ({' '.join(names)}), "
            f"--corrupted {len(other)} ({' '.join(others)})"
        )
    a = token_of(tok, answer, "--answer") if answer is not None else predict(model, one).top(1)[0][0]
    b = token_of(tok, wrong, "--wrong") if wrong is not None else predict(model, other).top(1)[0][0]
    right, mistaken = names_of(tok, [a, b])
    if a == b:
        raise ValueError(
            f"both prompts are answered by {right}: choose prompts with other answers, or name --answer and --wrong"
        )
    with bar("patching positions") as advance:
        places = patch_positions(model, one, other, answer_lead(a, b), site, advance)
    with bar("patching heads") as advance:
        heads = patch_heads(model, one, other, answer_lead(a, b), advance)
    lead = f"Lead of {right} over {mistaken}: {places.clean:+.2f} after the clean prompt, {places.corrupted:+.2f} after the other."
    console.say(f"{lead} 1 below is all of it brought back, 0 none.")
    columns = [f"{i} {n}" if n == m else f"{i} {n}/{m}" for i, (n, m) in enumerate(zip(names, others))]
    note = f"{site} of the clean run in one layer and position; columns: the token, clean/corrupted where they differ"
    heat = HeatMap("By layer and position", layer_names(model.config.layers), columns, places.recovered, -1.0, 1.0, True,
                   note=note)  # fmt: skip
    matrix = by_head("By layer and head", heads.recovered, "attention.z of the clean run, one head at all positions",
                     diverging=True)  # fmt: skip
    for title, panel in (("Positions", heat), ("Heads", matrix)):
        order = np.argsort(-np.abs(panel.values), axis=None, kind="stable")[:6]
        console.say(f"{title} that carry most:")
        table([(f"{panel.rows[i]}, {panel.columns[j]}", f"{round(panel.values[i, j], 2) + 0.0:+.2f}")
                for i, j in zip(*np.unravel_index(order, panel.values.shape))])  # fmt: skip
    write("patch", [heat, matrix], out, f"Activation patching in {directory}", [lead])


@lens.command()
def heads(
    directory: From = LATEST,
    period: Annotated[int | None, typer.Option(min=2, help="Random tokens before they repeat. Default: 20, or what the context holds twice.")] = None,
    out: Out = SHOWN,
):  # fmt: skip
    """Score all heads on repeated random tokens: previous-token, duplicate-token and induction heads."""
    from ..lens import head_scores

    model, _, _ = load_model(directory)
    scores = head_scores(model, period)
    write("heads", _scored(scores), out, f"Heads of {directory}", _said(scores))


def _said(scores) -> list[str]:
    """Print the best head of each kind, and all scores; returns the sentences."""
    from ..lens.heads import KINDS

    said = []
    for kind in KINDS:
        layer, head, score = scores.best(kind)
        said.append(
            f"Best {KINDS[kind]} head: {layer}.{head}, score {score:.2f} (even attention: {scores.chance[kind]:.2f})."
        )
        console.say(said[-1])
    layers, count = scores.induction.shape
    if layers * count <= 48:
        table([("head", *KINDS)] + [(f"{i}.{h}", *(f"{getattr(scores, k)[i, h]:.2f}" for k in KINDS))
                                     for i in range(layers) for h in range(count)])  # fmt: skip
    return said


def _scored(scores) -> list:
    from ..lens.heads import KINDS
    from ..lens.panels import by_head

    notes = {"previous": "mean weight on the token before", "duplicate": "mean weight on the first copy of the token",
             "induction": "mean weight on what followed the first copy"}  # fmt: skip
    return [by_head(f"{KINDS[kind].capitalize()} score", getattr(scores, kind), note) for kind, note in notes.items()]


@lens.command()
def edit(
    prompt: Annotated[str, typer.Option(help="What the edited model is to continue with --target.")],
    target: Annotated[str, typer.Option(help="The next token that it shall say; one token.")],
    directory: From = LATEST,
    layer: Annotated[int | None, typer.Option(min=0, help="Whose MLP is edited. Default: the middle one.")] = None,
    subject: Annotated[str | None, typer.Option(help="A part of the prompt, at whose last token the edit acts. Default: the prompt's last token.")] = None,
    largest: Annotated[float, typer.Option(min=0.1, help="Norm to which the MLP's value may change, in norms of what it was.")] = 4.0,
    also: Annotated[list[str] | None, typer.Option(help="Another prompt to compare before and after; may be given several times.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Text by which usual keys are measured. Default: the model's own samples.")] = None,
    out: Out = SHOWN,
):  # fmt: skip
    """Change one thing that an MLP knows by a matrix of rank one, and compare before and after."""
    from ..lens.edit import drift, predict, rank_one_edit
    from ..lens.panels import Curves, HeatMap

    model, tok, _ = load_model(directory)
    ids, wanted = ids_of(model, tok, prompt, "--prompt"), token_of(tok, target, "--target")
    prompts = [(prompt, ids)] + [(p, ids_of(model, tok, p, "--also")) for p in also or []]
    position, layers = _end_of(tok, ids, subject), model.config.layers
    if layer is None:  # what the last layer writes at an earlier token reaches no prediction
        layer = layers // 2 if position == len(ids) - 1 else max(0, min(layers // 2, layers - 2))
    if layer >= layers:
        raise ValueError(f"--layer must be from 0 to {layers - 1}, got {layer}")
    background = _background(model, tok, data)
    unseen, background = np.split(background, [max(1, len(background) // 4)])
    with bar("looking for the value") as advance:
        change = rank_one_edit(model, ids, wanted, layer, position, background, largest=largest, progress=advance)
    before = [predict(model, i) for _, i in prompts]
    with change:
        after = [predict(model, i) for _, i in prompts]
    shown, share = names_of(tok, [wanted])[0], np.linalg.norm(change.update) / np.linalg.norm(change.weight.numpy())
    console.say(
        f"MLP of layer {layer}, key of token {change.position} {names_of(tok, ids)[change.position]}: its output weight "
        f"changes by {share:.1%} of its norm, rank one."
    )
    if after[0].probabilities[wanted] < 0.5:
        console.say(
            f"No value was found that makes {shown} likely: try a larger --largest, another --layer or --subject."
        )
    panels = []
    for (text, _), old, new in zip(prompts, before, after):
        console.say(
            f"\nAfter {text!r}, {shown}: {old.probabilities[wanted]:.2%} before, {new.probabilities[wanted]:.2%} after."
        )
        for word, p in (("before", old), ("after", new)):
            console.say(f"  {word:<7}" + ", ".join(f"{names_of(tok, [t])[0]} {v:.0%}" for t, v in p.top()))
        both = sorted({t for p in (old, new) for t, _ in p.top()} | {wanted}, key=lambda t: -new.probabilities[t])
        values = np.array([[p.probabilities[t] for t in both] for p in (old, new)])
        panels.append(HeatMap(f"Next token after {text!r}", ["before", "after"], names_of(tok, both), values,
                              texts=[[f"{v:.0%}" for v in row] for row in values]))  # fmt: skip
    divergence, same = drift(model, change, unseen)
    said = f"On {unseen.size:,} tokens of other text: {divergence:.4f} nats a token of divergence, the likeliest token stays in {same:.1%}."
    console.say("\n" + said)
    panels.append(Curves("Looking for the value", list(range(1, len(change.probabilities) + 1)),
                         {f"probability of {shown}": change.probabilities}, "step of Adam"))  # fmt: skip
    write("edit", panels, out, f"A rank-one edit of {directory}", [said])
    console.say("The run itself is as it was: the edit is in memory only.")


def _end_of(tok, ids, subject: str | None) -> int:
    """The position of the last token of a part of the prompt."""
    if subject is None:
        return len(ids) - 1
    subject = unicode(subject)
    start = tok.decode([int(i) for i in ids]).rfind(subject)
    if start < 0 or not subject:
        raise ValueError(f"--subject {subject!r} is not in what the model reads of --prompt")
    said = tok.decode([int(i) for i in ids])[: start + len(subject)]
    for i in range(len(ids)):  # the first token with which all of it is said: a sign may be several
        if tok.decode([int(j) for j in ids[: i + 1]]).startswith(said):
            return i
    return len(ids) - 1


def _background(model, tok, data) -> np.ndarray:
    """Ids (B, T) of other text: from files, or the model's own samples."""
    size = model.config.block_size
    rows = max(2, BACKGROUND_TOKENS // size)
    if data:
        ids = encoded(tok, load_corpus(data).train[: 40 * BACKGROUND_TOKENS], "--data")
        if len(ids) < 2 * size:
            raise ValueError(f"--data has {len(ids)} tokens and needs {2 * size}, two contexts: give more text")
        starts = np.linspace(0, len(ids) - size, min(rows, len(ids) // size)).astype(int)
        return np.stack([ids[s : s + size] for s in starts]).astype(np.int64)
    start, found = start_of_text(tok), []
    with bar("sampling other text") as advance:
        for row in range(rows):
            drawn = [*start, *generate(model, start, size - len(start), generator=Generator(row))]
            found.append(drawn[:size])
            advance(row + 1, rows)
    return np.array(found, np.int64)


@lens.command()
def induction(
    train: Annotated[bool, typer.Option("--train", help="Train a small model first, into --from; a minute or two.")] = False,
    directory: Annotated[Path, typer.Option("--from", help="The run's directory.")] = Path("runs/induction"),
    steps: Annotated[int, typer.Option(min=1, help="Of --train.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Of --train.")] = 1,
    out: Out = SHOWN,
):  # fmt: skip
    """Find induction heads: with --train, watch them form in a two-layer model on repeated random letters."""
    from ..lens import head_scores, run_with_cache
    from ..lens import induction as model_of
    from ..lens.heads import repeated_tokens
    from ..lens.panels import Attention

    panels, seconds = [], None
    if not train and not directory.exists():
        raise ValueError(f"{directory}: no run here: add --train to train a small model into it")
    if train:
        if directory.is_file():
            raise ValueError(f"--from {directory} is a file: a run needs a directory")
        panels, seconds = _train_induction(directory, model_of.induction_config(steps, seed))
    model, tok, _ = load_model(directory)
    scores = head_scores(model)
    said = _said(scores)
    if seconds is not None:
        said.append(f"Trained {steps:,} steps in {seconds:.0f} s.")
        console.say(said[-1])
    panels += _scored(scores)
    period = min(12, model.config.block_size // 2)
    ids = repeated_tokens(model.config.vocab_size, period, 1)[0]
    _, cache = run_with_cache(model, ids, "*attention.pattern")
    patterns = np.stack([cache[name].float().numpy()[0] for name in cache])
    note = "an induction head draws a stripe: from the second copy to one after the first"
    panels.append(
        Attention(f"On {period} random tokens, twice", names_of(tok, ids), patterns, note, scores.best("induction")[:2])
    )
    write("induction", panels, out, f"Induction heads of {directory}", said)


def _train_induction(directory: Path, config):
    """(panels, seconds): trains into a run's directory, as `tgl train` does."""
    import time

    from .. import checkpoint
    from ..lens import head_scores
    from ..lens import induction as model_of
    from ..lens.panels import Curves
    from .run_view import RunView, quoted, run

    seen = {"step": [], "nats a token": [], "best induction score": [], "best previous-token score": []}

    class View(RunView):
        """Says of each evaluation also how far the heads have come."""

        def __call__(self, kind, values):
            super().__call__(kind, values)
            if kind != "eval":
                return
            scores = head_scores(trainer.model)
            row = values["step"], values["val_loss"], scores.best("induction")[2], scores.best("previous")[2]
            for into, value in zip(seen.values(), row):
                into.append(value)
            console.say(f"             best induction score {row[2]:.2f}, best previous-token score {row[3]:.2f}")

    with checkpoint.lock(directory):
        if (kept := checkpoint.move_aside(directory)) is not None:
            console.say(f"The run that was in {directory} is now in {kept}.")
        with console.status("Writing random letters"):
            trainer = model_of.induction_trainer(directory, config, view := View())
        console.say(
            f"A model of {trainer.model.num_parameters():,} parameters reads random letters, each stretch four times over: "
            "the loss falls at once when heads find the stretch again."
        )
        began = time.perf_counter()
        run(trainer, view)
        seconds = time.perf_counter() - began
    if not trainer.finished:
        console.say(
            f"Stopped at step {trainer.progress.step}; all is saved. Go on with:",
            f"tgl train --resume --out {quoted(directory)}",
        )
        raise typer.Exit(130)
    x, loss = seen.pop("step"), {"nats a token": seen.pop("nats a token")}
    return [Curves("Held-out loss", x, loss, "step"), Curves("Heads forming", x, seen, "step")], seconds
