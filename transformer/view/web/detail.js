// The chosen row in full: values, gradients, update, formula, source line, where it stands in the graph.

import { heads } from "view/attention";
import { layout, paint, pooled } from "view/heat";
import { overview, section } from "view/overview";
import { predictions } from "view/predictions";
import { bytes, count, make, number, piece, safe, shape } from "view/words";

export class Detail {
  constructor(view) {
    this.view = view;
    this.box = document.getElementById("detail");
    view.store.on(["selected", "frame", "token", "theme", "ready"], (state, changed) => this.draw(changed.includes("selected")));
    this.draw(true);
  }

  draw(toTop) {
    const { view } = this, { tree, store } = view, node = tree.nodes[store.state.selected];
    const kept = this.box.scrollTop, open = new Set([...this.box.querySelectorAll("details[open]")].map((d) => d.dataset.key));
    this.box.replaceChildren(this.head(node), node.id === 0 ? overview(view) : this.body(node));
    for (const d of this.box.querySelectorAll("details")) if (open.has(d.dataset.key)) d.open = true;
    this.box.scrollTop = toTop ? 0 : kept;
  }

  head(node) {
    const { view } = this, trail = view.tree.above(node.id).reverse();
    const crumbs = make("div", { class: "crumbs" });
    for (const id of trail) {
      const up = view.tree.nodes[id];
      crumbs.append(make("button", { onclick: () => view.select(id) }, up.kind === "module" ? up.name : up.op), " › ");
    }
    const name = node.kind === "module" || node.kind === "param" ? node.name : node.role || node.op;
    return make("div", { class: "heading" }, crumbs, make("h2", {}, name, make("span", { class: "kind" }, kindOf(node))), this.facts(node));
  }

  facts(node) {
    const { view } = this, facts = [];
    const add = (label, value, title) => facts.push(`<div title="${safe(title || "")}"><dt>${label}</dt><dd>${value}</dd></div>`);
    const shown = view.tree.shown(node), f = view.figures(node);
    if (shown && shown.shape) add(node.kind === "module" ? "output" : "shape", safe(shape(shown.shape)), "B × T × C: batch, time, channels");
    if (shown && shown.dtype) add("type", shown.dtype);
    if (shown && shown.bytes !== undefined) add("bytes", bytes(shown.bytes));
    if (node.parameters) add("parameters", `${count(node.parameters)} <small>(${bytes(4 * node.parameters)})</small>`);
    if (node.event !== undefined && node.kind === "op") add("forward", `op ${node.event + 1}`);
    if (f.ratio !== null) add("update / weight", number(f.ratio));
    return make("dl", { class: "facts", html: facts.join("") });
  }

  body(node) {
    const box = make("div", {}), { view } = this;
    const add = (part) => { if (part) box.append(part); };
    if (node.kind === "module") {
      if (node.doc) box.append(make("p", { class: "lead" }, node.doc));
      const last = view.tree.shown(node);
      if (last) box.append(make("p", { class: "hint", html: `Shown is the output of its last op, <code>${safe(last.op)}</code>.` }));
    }
    if (node.also && node.also.length) box.append(make("p", { class: "hint" }, `Tied: the same numbers are ${node.also.join(", ")}.`));
    if (node.attention !== undefined) add(section("Heads", heads(view, node.attention), "From the op opened into its twin on the recorded inputs: the kernel that trains makes these weights block by block and keeps none. Below the diagonal only: a token sees what came before it. Hover to see who looks where, in the text above too."));
    if (node.role === "logits" || node.op === "linear_cross_entropy") add(section("Next token", predictions(view)));
    if (node.op) add(this.formula(node));
    const shown = view.tree.shown(node), stale = view.store.state.frame !== view.meta.frames.length - 1;
    if (shown && view.arrays) {
      if (stale) box.append(make("p", { class: "hint warn" }, `The pictures below are of step ${count(view.meta.step)}: of earlier checkpoints the page keeps losses, attention, sizes and the small pictures to the left.`));
      add(this.picture(shown, "out", node.kind === "param" ? "Weight" : "Value", "c-out"));
      add(this.picture(shown, "g", node.kind === "param" ? "Gradient" : "Gradient of the loss", "c-g"));
      add(this.picture(shown, "d", "Update", "c-d"));
    }
    if (node.moved) add(this.moved(node));
    if (node.inputs) add(this.edges(node));
    return box;
  }

  picture(node, which, title, tone) {
    const number_ = node[which];
    if (number_ === undefined) return null;
    if (number_ === null) {
      const why = which === "g" ? (node.dtype && node.dtype.startsWith("int") ? "Integers have no gradient." : "No gradient reaches it.")
        : "The same numbers as its input's, in another order: look there.";
      return section(title, make("p", { class: "hint" }, why));
    }
    const { view } = this, array = view.arrays.get(number_), place = layout(array, view.tokenCount), kind = which;
    const part = pooled(array, place, 1024, 512), canvas = paint(Math.max(1, part.w), Math.max(1, part.h), part.value, array.full, kind);
    canvas.className = "pixels";
    const height = part.h < 8 ? 24 + 12 * part.h : Math.min(260, part.h * Math.max(1, Math.floor(240 / part.h)));
    canvas.style.height = `${height}px`;
    const holder = make("div", { class: "canvas" }, canvas);
    if (place.tokens && view.store.state.token !== null) {
      holder.append(make("i", { class: "cursor", style: `left:${(100 * view.store.state.token) / place.columns}%;width:${100 / place.columns}%` }));
    }
    canvas.addEventListener("mousemove", (event) => this.hover(event, canvas, array, place, number_));
    canvas.addEventListener("mouseleave", () => view.tip(null));
    const exact = array.type === "f1" ? "rounded to 4 binary digits" : array.type === "f4" ? "exact" : "rounded to 11 binary digits";
    const cut = array.of ? `, ${count(array.data.length)} of ${count(array.of.reduce((a, b) => a * b, 1))} entries (${cutWords(array, node)})` : "";
    const axes = place.tokens ? "tokens to the right" : "rows down, columns to the right";
    const words = `rms ${number(array.rms)} · norm ${number(array.norm)} · from ${number(array.least)} to ${number(array.most)} · mean ${number(array.mean)}`;
    return make("section", {}, make("h3", { class: tone }, title, make("small", {}, words)), holder,
      make("p", { class: "hint", html: `<span class="scale ${kind}"></span> −${number(array.full)} to ${number(array.full)}: ${axes}; ${exact}${cut}` }));
  }

  hover(event, canvas, array, place, number_) {
    const box = canvas.getBoundingClientRect();
    const x = Math.min(place.columns - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * place.columns)));
    const y = Math.min(place.rows - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * place.rows)));
    const flat = place.at(x, y), token = place.tokens ? `\nat token ${x} “${piece(this.view.meta.tokens[x][1])}”` : "";
    this.view.tip(canvas, `[${place.index(flat).join(", ")}] = ${number(array.data[flat], array.type === "f1" ? 2 : 5)}${token}`, event);
  }

  formula(node) {
    const { view } = this, op = view.meta.ops[node.op], place = node.place === null || node.place === undefined ? null : view.meta.places[node.place];
    const box = make("section", { class: "formula" });
    box.append(make("p", { class: "doc" }, op.doc.split("\n\n")[0]));
    if (place) {
      const [file, line, , , statement, from, to] = place;
      const code = to > from ? `${safe(statement.slice(0, from))}<mark>${safe(statement.slice(from, to))}</mark>${safe(statement.slice(to))}` : safe(statement);
      box.append(make("p", { class: "place", html: `<span>${safe(file)}:${line}</span><code>${code}</code>` }));
    }
    const parameters = Object.entries(node.params || {}).map(([k, v]) => `${k}=${v}`).join(", ");
    if (parameters) box.append(make("p", { class: "hint" }, parameters));
    const rules = op.rules.length ? `\n\n# the gradient of each input\n${[...new Set(op.rules.map(([, text]) => text))].join("\n")}` : "";
    const fused = op.fused ? `<p class="hint">A kernel computes it; the text is its readable twin, which gives the gradients too. Unfold the row to see the twin's ops, run on the same inputs${node.difference === undefined ? "" : `: its output is within ${number(node.difference)} of the kernel's`}.</p>` : "";
    box.append(make("details", { "data-key": "formula", html: `<summary>formula and rules of <code>${safe(node.op)}</code></summary>${fused}<pre>${safe(op.source + rules)}</pre>` }));
    return box;
  }

  edges(node) {
    const { view } = this, back = node.inputs.some((i) => i.sent !== undefined);
    const link = (id) => `<button data-node="${id}">${safe(view.tree.title(id))}</button>`;
    const rows = node.inputs.filter((i) => i.shape || i.value !== "None").map((i) => {
      const from = i.node !== undefined ? link(i.node) : safe(i.label || i.value || "given");
      const sums = i.sent === undefined ? `<td colspan="3" class="hint">${back ? "needs none" : ""}</td>`
        : `<td class="n">${number(i.sent)}</td><td class="n">${i.before === null ? "nothing" : number(i.before)}</td><td class="n">${number(i.after)}${i.waiting ? ` <small>waits for ${i.waiting}</small>` : ""}</td>`;
      return `<tr><td><code>${safe(i.name)}</code></td><td>${from}</td><td class="n">${i.shape ? safe(shape(i.shape)) : safe(i.value)}</td>${back ? sums : ""}</tr>`;
    });
    const all = view.tree.readers[node.id], readers = all.filter((id) => !all.includes(view.tree.nodes[id].up)); // not again inside an opened op
    const box = make("section", { class: "edges", onclick: (e) => { const b = e.target.closest("button[data-node]"); if (b) view.select(Number(b.dataset.node)); } },
      make("h3", {}, "Reads"), make("table", { html: `<thead><tr><th>input</th><th>from</th><th>shape</th>${back ? "<th title='norm of the gradient that this op sends there'>sends back</th><th title='norm of the sum there before'>sum before</th><th>sum after</th>" : ""}</tr></thead><tbody>${rows.join("")}</tbody>` }));
    if (readers.length) box.append(make("h3", {}, "Read by"), make("p", { class: "links", html: [...new Set(readers)].map(link).join(" ") }));
    return box;
  }

  moved(node) {
    const told = (x) => x ?? NaN; // what is no number is null in JSON
    const rows = node.moved.map(([at, ...values]) => [at, ...values.map(told)]).map(([at, before, g, after]) => `<tr><td><code>[${at.join(", ")}]</code></td><td class="n">${number(before, 4)}</td><td class="n">${number(g)}</td><td class="n">${number(after - before)}</td><td class="n">${number(after, 4)}</td></tr>`);
    const [w, g, d] = node.norms.map(told);
    return section("Which weights moved most", make("table", { html: `<thead><tr><th>entry</th><th>before</th><th>gradient</th><th>moved by</th><th>after</th></tr></thead><tbody>${rows.join("")}</tbody>` }),
      `${count(node.changed)} of ${count(node.parameters)} moved; |weight| ${number(w)}, |gradient| ${number(g)}, |update| ${number(d)}, update / weight <b>${number(w === 0 ? null : d / w)}</b>`);
  }
}

function kindOf(node) {
  if (node.kind === "module") return node.class;
  if (node.kind === "param") return "parameter";
  return node.kind === "twin" ? "op of the twin" : "op";
}

function cutWords(array, node) {
  const axis = Number(Object.keys(array.picks)[0]);
  if (node.kind === "param") return "the rows with the largest gradients";
  if (node.role === "logits") return "the targets and the largest";
  return axis === array.shape.length - 1 ? "every so many columns" : "every so many rows";
}
