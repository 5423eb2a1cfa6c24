"""`tgl view`: one training step of a text in one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import Progress

from .inspect import From, encoded
from .screen import Screen

console = Screen()
EXAMPLE = "class Stack:\n    def push(self, item):\n        self.items.append(item)\n\n    def pop(self):\n        return self.items.pop()\n"


def view(
    directory: From = Path("runs/latest"),
    text: Annotated[str | None, typer.Option(help="What the model reads. Default: a few lines of Python.")] = None,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("step.html"),
    checkpoints: Annotated[
        list[Path] | None,
        typer.Option(
            help="An earlier checkpoint for the slider; may be given several times. Default: those that the run kept (tgl train --keep)."
        ),
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the page on this machine until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; 0 takes a free one.")] = 8000,
):
    """Show one training step: forward, backward and the update, in one HTML file that needs no network."""
    from ..view import collect, frames, page, twin  # here: `tgl train` loads nothing of it

    if out.is_dir():
        raise ValueError(f"--out {out} is a directory: name a file, {out / 'step.html'} say")
    source = collect.load(directory)
    text = EXAMPLE if text is None else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    ids = np.asarray(encoded(source.tokenizer, text, "--text"), dtype=np.int64)
    if len(ids) < 2:
        raise ValueError(f"--text has {len(ids)} token(s), and a step needs two: one to read and one to foretell")
    most = min(collect.MOST_TOKENS, source.model.config.block_size)
    if len(ids) > most + 1:
        console.say(f"The text has {len(ids)} tokens; the page shows the first {most} and what follows them.")
        ids = ids[: most + 1]
    earlier = frames.frames_for(source, directory, checkpoints or [])
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Running the step", total=len(earlier) + 1)
        seen = []
        for one in earlier:
            seen.append(collect.collect(one, ids, twins=twin.ATTENTION))
            bar.advance(task)
        collected = collect.collect(source, ids)
        bar.update(task, advance=1, description="Writing the page")
        html = page.build(collected, seen)
    page.write(out, html)
    console.say(f"{out}: {len(html.encode()) / 1e6:.1f} MB, {len(ids) - 1} tokens, {len(seen) + 1} checkpoints.")
    console.say(f"Loss {collected.loss:.4f} nats a token. Open the file in a browser.")
    if serve:
        _serve(html, port)


def _serve(html: str, port: int):
    from ..view.serve import server

    with server(html, port) as running:
        console.say(f"http://127.0.0.1:{running.server_address[1]}/ until Ctrl-C")
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            console.say("Stopped.")
