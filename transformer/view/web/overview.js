// What is shown while the whole model is chosen: how to read the page, attention, losses, residual stream, update.

import { gallery } from "view/attention";
import { css } from "view/heat";
import { lossOfLogits, predictions } from "view/predictions";
import { count, make, number, piece, safe } from "view/words";

const MOST_ROWS = 40; // of a list: the tree shows all

export function section(title, content, hint) {
  if (!content) return null;
  return make("section", {}, make("h3", {}, title), hint ? make("p", { class: "hint", html: hint }) : null, content);
}

export function overview(view) {
  const { meta, store } = view, frame = meta.frames[store.state.frame];
  const box = make("div", {});
  box.append(
    make("p", { class: "lead", html: `The model reads <b>${view.tokenCount}</b> tokens and is told after each what comes next. Values flow <span class="c-out">down</span>, gradients flow back <span class="c-g">up</span>, the optimiser <span class="c-d">moves the weights</span>. Unfold a row, choose it, or press <kbd>.</kbd> to go through the step op by op.` }),
    parity(view));
  const add = (...parts) => { for (const part of parts) if (part) box.append(part); };
  if (meta.config.dropout) add(make("p", { class: "hint" }, `Dropout, ${meta.config.dropout} in training, is off here: the step can be repeated.`));
  add(section("Attention", gallery(view), "Each square is a head: a row is a token that looks, a column one that is looked at. Choose one to see it large, with gradients."));
  add(section("Next token", predictions(view)));
  add(section("Loss of each token", losses(view)));
  add(section("Residual stream", residual(view), "The size (root mean square) of what each op leaves in the stream, and the norm of the gradient that comes back there."));
  add(section("The update", updates(view), updateWords(frame)));
  return box;
}

function parity(view) {
  const { parity, step } = view.meta, mine = view.arrays ? lossOfLogits(view) : null;
  const same = parity.exact ? "the same in every bit" : "not the same bits";
  const box = make("div", { class: "parity", id: "parity", html:
    `<b>Parity</b> with an ordinary step of the engine (step ${count(step)}): logits differ by at most <b>${number(parity.logits)}</b>, ` +
    `parameters' gradients are ${same} before rounding; as stored here they differ by at most <b>${number(parity.parameter_gradients)}</b>, activations' by ` +
    `<b>${number(parity.activation_gradients)}</b> of their largest entry (rounding to 11 binary digits: ${number(2 ** -11)}). ` +
    `Opened ops differ from their kernels by at most ${number(parity.twin)}. ` +
    (mine === null ? "" : `From its logits this page computes a loss of <b>${mine.toFixed(6)}</b>; the engine's is <b>${view.meta.frames.at(-1).loss.toFixed(6)}</b>.`) });
  return box;
}

function losses(view) {
  const { meta, store } = view, frame = meta.frames[store.state.frame], most = Math.max(Math.log(meta.config.vocab_size), ...frame.losses.filter(Number.isFinite));
  const box = make("div", { class: "bars" });
  frame.losses.forEach((loss, t) => box.append(make("button", { class: store.state.token === t ? "chosen" : "", style: `--h:${Number.isFinite(loss) ? (100 * loss) / most : 100}%`,
    "aria-label": `token ${t}, loss ${number(loss)}`, onclick: () => store.set({ token: t }), onmouseleave: () => view.tip(null),
    onmouseenter: (e) => view.tip(e.currentTarget, `${piece(meta.tokens[t][1])} → ${piece(meta.targets[t][1])}\nloss ${number(loss)} nats`) })));
  return box;
}

// Ops whose output has the stream's shape and that add to it, in order, with both sizes.
function residual(view) {
  const { meta, tree } = view, [, T, C] = [1, view.tokenCount, meta.config.channels];
  const adds = (node) => (node.inputs || []).some((input) => input.name === "residual" && input.shape);
  const ops = meta.nodes.filter((n) => n.kind === "op" && n.shape.length === 3 && n.shape[1] === T && n.shape[2] === C && (adds(n) || n.op === "embedding" || (n.op === "add" && !n.path)));
  if (ops.length < 2) return null; // with primitive ops throughout nothing but the embedding is told
  const each = Math.ceil(ops.length / MOST_ROWS), rows = ops.filter((_, i) => i % each === 0 || i === ops.length - 1).map((node) => ({ node, ...view.figures(node) }));
  const mostOut = Math.max(...rows.map((r) => r.out || 0)), mostG = Math.max(...rows.map((r) => r.g || 0));
  const bar = (value, most, kind) => `<i style="width:${most ? (100 * value) / most : 0}%;background:${css(kind, 0.8)}"></i><span>${number(value)}</span>`;
  const box = make("div", { class: "stream" });
  for (const r of rows) {
    box.append(make("button", { onclick: () => view.select(r.node.id), html:
      `<span class="left">${bar(r.out ?? 0, mostOut, "out")}</span><span class="mid">${safe(r.node.path || r.node.op)}</span><span class="right">${bar(r.g ?? 0, mostG, "g")}</span>` }));
  }
  return box;
}

function updateWords(frame) {
  const u = frame.update;
  const clip = u.clip < 1 ? `, clipped to ${number(u.norm * u.clip)} (× ${number(u.clip)})` : "";
  return `One step of <b>${safe(u.optimizer)}</b> on a copy, with this text as the whole batch: rate ${number(u.lr)}, norm of all gradients ${number(u.norm)}${clip}. ${u.note ? `Note: ${safe(u.note)}` : ""}A healthy ratio of update to weight is about 0.001 (1e-3).`;
}

function updates(view) {
  const { meta, store } = view, frame = meta.frames[store.state.frame];
  const rows = meta.names.map((name, i) => { const [w, g, d] = frame.parameters[i]; return { name, w, g, d, ratio: w === 0 ? null : d / w }; });
  const size = (r) => (Number.isNaN(r.ratio) ? Infinity : r.ratio ?? 0); // what is no number first
  const most = Math.max(0, ...rows.map(size).filter(Number.isFinite)), least = rows.map(size).sort((a, b) => (a === b ? 0 : b - a))[MOST_ROWS - 1] ?? 0;
  const shown = rows.filter((r) => size(r) >= least).slice(0, MOST_ROWS);
  const width = (x) => (x > 0 && most ? Math.max(0, 100 * (1 + Math.log10(x / most) / 4)) : 0);
  return make("table", { class: "updates", html: `<thead><tr><th>parameter</th><th>|weight|</th><th>|gradient|</th><th>|update|</th><th>update / weight</th></tr></thead><tbody>` +
    shown.map((r) => `<tr data-name="${safe(r.name)}"><td><code>${safe(r.name)}</code></td><td class="n">${number(r.w)}</td><td class="n">${number(r.g)}</td><td class="n">${number(r.d)}</td>` +
      `<td class="p"><i style="width:${width(r.ratio)}%;background:${css("d", 0.8)}"></i><span>${r.ratio === null ? "–" : number(r.ratio)}</span></td></tr>`).join("") + "</tbody>" + (rows.length > shown.length ? `<caption>The ${shown.length} of ${rows.length} parameters that moved most, for their size.</caption>` : ""),
    onclick: (e) => { const row = e.target.closest("tr[data-name]"); if (row) view.select(meta.nodes.findIndex((n) => n.kind === "param" && n.path === row.dataset.name)); } });
}
