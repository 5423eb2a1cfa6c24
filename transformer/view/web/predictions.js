// What the model expects after a token, from the page's logits, and what the gradient says to them.

import { css, layout } from "view/heat";
import { make, number, percent, piece, safe } from "view/words";

const SHOWN = 8;

// Probabilities of one token from the newest frame's logits: softmax in double precision.
export function probabilities(view, t) {
  const logits = view.arrays.get(view.meta.logits);
  if (!logits) return null;
  const V = logits.shape[1], row = logits.data.subarray(t * V, (t + 1) * V);
  let most = -Infinity, sum = 0;
  for (const x of row) if (x > most) most = x;
  const p = Float64Array.from(row, (x) => Math.exp(x - most));
  for (const x of p) sum += x;
  const kept = logits.picks && logits.picks[1];
  return { p: p.map((x) => x / sum), row, id: (k) => (kept ? kept[k] : k), loss: (target) => {
    const k = kept ? kept.indexOf(target) : target;
    return most + Math.log(sum) - row[k];
  } };
}

// The mean loss that the page's own logits give: held against the engine's in the parity line.
export function lossOfLogits(view) {
  if (view.meta.logits === null || (view.arrays.get(view.meta.logits).picks)) return null;
  const { targets } = view.meta;
  return targets.reduce((sum, [id], t) => sum + probabilities(view, t).loss(id), 0) / targets.length;
}

export function predictions(view) {
  const { meta, store, arrays } = view, state = store.state, t = state.token ?? view.tokenCount - 1;
  const frame = meta.frames[state.frame], newest = state.frame === meta.frames.length - 1, target = meta.targets[t][0];
  let rows;
  if (newest && arrays && meta.logits !== null) {
    const found = probabilities(view, t), g = arrays.get(meta.logits_g), V = found.p.length;
    const order = Array.from(found.p.keys()).sort((a, b) => found.p[b] - found.p[a]);
    const shown = order.slice(0, SHOWN), at = order.findIndex((k) => found.id(k) === target);
    if (at >= SHOWN) shown.push(order[at]);
    rows = shown.map((k) => ({ id: found.id(k), p: found.p[k], rank: order.indexOf(k), logit: found.row[k], g: g ? g.data[t * V + k] : null }));
  } else {
    rows = frame.top[t].map((id, k) => ({ id, p: frame.top_p[t][k], rank: k, logit: null, g: null }));
    if (!frame.top[t].includes(target)) rows.push({ id: target, p: Math.exp(-frame.losses[t]), rank: null, logit: null, g: null });
  }
  const most = Math.max(...rows.map((r) => r.p)), mostG = Math.max(...rows.map((r) => Math.abs(r.g ?? 0)));
  const body = rows.map((r) => `<tr class="${r.id === target ? "target" : ""}"><td class="rank">${r.rank === null ? "…" : r.rank + 1}</td>
    <td class="word"><code>${safe(piece(meta.vocabulary[r.id] ?? `#${r.id}`))}</code></td>
    <td class="p"><i style="width:${(100 * r.p) / most}%;background:${css("out", 0.8)}"></i><span>${percent(r.p)}</span></td>
    ${r.logit === null ? "" : `<td class="n">${number(r.logit)}</td>`}${r.g === null ? "" : `<td class="g"><i style="width:${mostG ? (100 * Math.abs(r.g)) / mostG : 0}%;background:${css("g", r.g < 0 ? -0.85 : 0.85)}"></i><span>${number(r.g, 2)}</span></td>`}</tr>`);
  return make("div", { class: "predictions" },
    make("p", { class: "hint", html: `After token ${t} <code>${safe(piece(meta.tokens[t][1]))}</code> comes <code>${safe(piece(meta.targets[t][1]))}</code> (marked). ${state.token === null ? "Choose another token above." : ""}` }),
    make("table", { html: `<thead><tr><th></th><th>next token</th><th>probability</th>${rows[0].logit === null ? "" : "<th>logit</th>"}${rows[0].g === null ? "" : '<th title="Of the mean loss: (p − 1 at the true token) / T">gradient of the logit</th>'}</tr></thead><tbody>${body.join("")}</tbody>` }));
}
