"""An explanation as one HTML file: nothing is fetched, and no script but the one below may run in it.

The tokens are buttons: pointing at one, or moving to it with the keyboard, shows the merges that made it; a click or
Enter keeps them there. Without scripts the page lists them all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape

from .bpe_steps import MergeStep
from .explanation import Explanation, Piece
from .visible import visible

COLOURS = 4  # that tokens take in turn, so that neighbours differ

_STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1b1f24; --soft: #59636e; --line: #d1d9e0; --new: #0b6bcb;
  --tie: #9a5b00; --c0: #cfe4ff; --c1: #ffe3b8; --c2: #d3f0d0; --c3: #f3d6f0; --special: #ffd3cf; }
@media (prefers-color-scheme: dark) {
  :root { --back: #12161b; --text: #e6edf3; --soft: #9aa5b1; --line: #363e48; --new: #6cb6ff; --tie: #e3b341;
    --c0: #1f3f63; --c1: #5a4215; --c2: #1f4a2a; --c3: #53304f; --special: #6b2a26; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1rem 4rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 0 0 .25rem; }
p { margin: .25rem 0; } .soft { color: var(--soft); }
code, .t, .symbols { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.text { margin: 1rem 0; padding: .75rem; border: 1px solid var(--line); border-radius: .5rem; line-height: 2;
  max-height: 45vh; overflow: auto; overflow-wrap: anywhere; }
.t { font-size: 1rem; color: var(--text); border: 0; border-radius: .2rem; padding: .1rem .05rem; margin: 0 1px 0 0;
  cursor: pointer; max-width: 100%; overflow-wrap: anywhere; white-space: pre-wrap; text-align: left; }
.piece + .piece .t:first-child { margin-left: 5px; }
.c0 { background: var(--c0); } .c1 { background: var(--c1); } .c2 { background: var(--c2); } .c3 { background: var(--c3); }
.special { background: var(--special); }
.t:focus-visible, .t[aria-pressed=true] { outline: 2px solid var(--new); outline-offset: 1px; }
.js article { display: none; } .js article.on { display: block; }
article { border-top: 1px solid var(--line); padding: .75rem 0; }
ol { margin: .5rem 0 0; padding: 0; list-style: none; }
li { display: grid; grid-template-columns: minmax(8rem, 38%) 1fr; gap: 0 1rem; padding: .3rem 0;
  border-top: 1px dotted var(--line); align-items: baseline; }
.symbols { overflow-wrap: anywhere; }
.symbols span { display: inline-block; border: 1px solid var(--line); border-radius: .2rem; padding: 0 .25rem;
  margin: 0 2px 2px 0; }
.symbols .new { border-color: var(--new); color: var(--new); font-weight: 600; }
.tie { color: var(--tie); font-weight: 600; }
@media (max-width: 40rem) { li { grid-template-columns: 1fr; } }
""".strip()

_SCRIPT = """
document.documentElement.classList.add("js");
const tokens = [...document.querySelectorAll(".t")], where = document.getElementById("where");
let shown = null, kept = null;
function show(token) {
  if (shown) document.getElementById(shown.dataset.of).classList.remove("on");
  shown = token;
  where.textContent = token ? token.dataset.where : where.dataset.hint;
  if (token) document.getElementById(token.dataset.of).classList.add("on");
}
function keep(token) {
  if (kept) kept.setAttribute("aria-pressed", "false");
  kept = kept === token ? null : token;
  if (kept) { kept.setAttribute("aria-pressed", "true"); show(kept); }
}
tokens.forEach((token, number) => {
  token.tabIndex = number ? -1 : 0;
  token.addEventListener("pointerenter", () => kept || show(token));
  token.addEventListener("focus", () => {
    tokens.forEach(other => { other.tabIndex = -1; });
    token.tabIndex = 0;
    if (kept && kept !== token) keep(kept);
    show(token);
  });
  token.addEventListener("click", () => keep(token));
  token.addEventListener("keydown", event => {
    const to = { ArrowRight: number + 1, ArrowDown: number + 1, ArrowLeft: number - 1, ArrowUp: number - 1, Home: 0,
      End: tokens.length - 1 }[event.key];
    if (event.key === "Escape" && kept) keep(kept);
    if (tokens[to]) { tokens[to].focus(); event.preventDefault(); }
  });
});
where.textContent = where.dataset.hint;
""".strip()

_HINT = "Point at a token, or move with Tab and the arrow keys, to see what made it; click or Enter keeps it."


def to_html(explanation: Explanation, title: str = "A text and its tokens") -> str:
    """The explanation as a whole HTML page."""
    return "\n".join(_page(explanation, title)) + "\n"


def _page(explanation: Explanation, title: str) -> Iterator[str]:
    policy = f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}"
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title>"
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>{escape(title)}</h1>"
    yield from (f"<p>{escape(sentence)}</p>" for sentence in explanation.about)
    yield '<div class="text" role="group" aria-label="The text, token by token">'
    number = 0
    for piece in explanation.pieces:
        yield _piece(piece, number)
        number += len(piece.tokens)
    yield "</div>"
    yield f'<p id="where" class="soft" aria-live="polite" data-hint="{_HINT}"></p>'
    seen = set()
    for token in explanation.tokens:
        if token.token_id not in seen:
            seen.add(token.token_id)
            yield f'<article id="t{token.token_id}"><h2><code>{escape(visible(token.token))}</code></h2>'
            yield f'<p class="soft">id {token.token_id:,}</p>'
            if token.steps:
                yield "<ol>" + "".join(map(_step, token.steps)) + "</ol>"
            yield "</article>"
    yield f"<script>{_SCRIPT}</script>"
    yield "</body></html>"


def _piece(piece: Piece, number: int) -> str:
    parts = []
    for token in piece.tokens:
        colour = "special" if piece.special else f"c{number % COLOURS}"
        place = f"Characters {token.start:,} to {token.stop:,}"
        place += f", {token.note}" if token.note else ""
        place += f". The piece: {piece.note}" if piece.note else ""
        place += f": /{piece.rule}/" if piece.rule else ""
        shown = visible(token.token)
        parts.append(
            f'<button type="button" class="t {colour}" aria-pressed="false" data-of="t{token.token_id}" '
            f'data-where="{escape(place)}" title="id {token.token_id:,}">{escape(shown)}</button>'
            + "<br>"
            * token.token.count(b"\n")
        )
        number += 1
    return f'<span class="piece">{"".join(parts)}</span>'


def _step(step: MergeStep) -> str:
    symbols = "".join(
        f'<span class="new">{escape(visible(symbol))}</span>'
        if n == step.new
        else f"<span>{escape(visible(symbol))}</span>"
        for n, symbol in enumerate(step.symbols)
    )
    kind = ' class="tie"' if step.tie_broken else ""
    return (
        f'<li><div class="symbols">{symbols}</div><div><code>{escape(step.title(visible))}</code> '
        f"<span{kind}>{escape(step.sentence(visible))}</span></div></li>"
    )


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
