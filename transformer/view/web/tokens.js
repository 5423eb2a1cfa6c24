// The text: each token with its loss, and, while a head is looked at, how much a token attends to each.

import { css } from "view/heat";
import { make, number, percent, piece } from "view/words";

export class Tokens {
  constructor(view) {
    this.view = view;
    this.box = document.getElementById("tokens");
    this.chips = view.meta.tokens.map(([id, text], t) =>
      make("button", { class: "token", "data-t": t, onclick: () => view.store.set({ token: view.store.state.token === t ? null : t }),
        onmouseenter: (e) => view.tip(e.currentTarget, this.words(t)), onmouseleave: () => view.tip(null) },
      make("i"), make("span", {}, piece(text))));
    this.note = make("div", { class: "legend" });
    this.box.append(make("div", { class: "chips" }, ...this.chips), this.note);
    view.store.on(["token", "frame", "theme", "looking"], () => this.draw());
    this.draw();
  }

  words(t) {
    const { meta, store } = this.view, frame = meta.frames[store.state.frame], [id, text] = meta.tokens[t];
    const likely = frame.top[t].map((i, k) => `${piece(meta.vocabulary[i] ?? `#${i}`)} ${percent(frame.top_p[t][k])}`).join("   ");
    const p = Math.exp(-frame.losses[t]);
    return `token ${t}: “${piece(text)}”, id ${id}\nnext is “${piece(meta.targets[t][1])}”: given ${percent(p)}, loss ${number(frame.losses[t])}\nlikeliest: ${likely}`;
  }

  draw() {
    const { meta, store } = this.view, state = store.state, frame = meta.frames[state.frame];
    const most = Math.log(meta.config.vocab_size), looking = state.looking;
    this.chips.forEach((chip, t) => {
      chip.classList.toggle("chosen", state.token === t);
      const [tone, text] = chip.children;
      const loss = frame.losses[t];
      tone.style.height = `${Number.isNaN(loss) ? 100 : Math.min(100, (100 * loss) / most).toFixed(0)}%`;
      text.style.background = looking ? css("p", looking.weights[t] * 2 - 1) : "";
      text.classList.toggle("bright", Boolean(looking) && looking.weights[t] > 0.45);
    });
    this.note.innerHTML = looking
      ? `where <b>${looking.name}</b> looks from token ${looking.from} “${piece(meta.tokens[looking.from][1])}”`
      : `loss per token: the bar beside each, full at ${number(most)} nats, a uniform guess. Mean <b id="loss">${frame.loss.toFixed(4)}</b>`;
  }
}
