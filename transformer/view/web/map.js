// The map: one row a module, op or parameter; activations left, gradients right, the update at the edge.
// Only the rows that can be seen are in the document, so ten thousand cost what forty do.

import { css, strip } from "view/heat";
import { make, number, safe, shape } from "view/words";

export const ROW = 30;

export class RowMap {
  constructor(view) {
    this.view = view;
    this.scroll = document.getElementById("scroll");
    this.rows = document.getElementById("rows");
    this.pool = [];
    this.visible = [];
    this.order = new Map();
    document.getElementById("heads").innerHTML =
      `<div class="h-out"><b>forward</b> ↓ activations</div><div class="h-name">module · op · parameter</div>` +
      `<div class="h-g"><b>backward</b> ↑ gradients</div><div class="h-d"><b>update</b> / weight</div>`;
    this.scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.scroll);
    this.rows.addEventListener("click", (event) => this.click(event));
    view.store.on(["open", "query"], () => this.flatten());
    view.store.on(["selected", "frame", "token", "step", "theme", "ready", "stepping"], () => this.draw());
    this.flatten();
  }

  flatten() {
    const { open, query } = this.view.store.state;
    this.visible = this.view.tree.visible(open, query);
    this.order = new Map(this.visible.map((id, i) => [id, i]));
    this.rows.style.height = `${this.visible.length * ROW}px`;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / ROW) - 4);
    const last = Math.min(this.visible.length, first + Math.ceil(this.scroll.clientHeight / ROW) + 9);
    while (this.pool.length < last - first) this.pool.push(this.rows.appendChild(newRow()));
    for (let i = 0; i < this.pool.length; i++) {
      const row = this.pool[i], at = first + i;
      row.hidden = at >= last;
      if (!row.hidden) this.fill(row, this.visible[at], at);
    }
  }

  fill(row, id, at) {
    const { tree, store, figures } = this.view, node = tree.nodes[id], state = store.state;
    const depth = tree.depth[id], has = tree.children[id].length > 0, open = state.query || state.open.has(id);
    row.style.transform = `translateY(${at * ROW}px)`;
    row.dataset.id = id;
    row.className = `row ${node.kind}${id === state.selected ? " selected" : ""}${node.role ? " role" : ""}`;
    row.setAttribute("aria-selected", id === state.selected);
    row.setAttribute("aria-level", depth + 1);
    if (has) row.setAttribute("aria-expanded", Boolean(open)); else row.removeAttribute("aria-expanded");
    if (state.query && !tree.matches(state.query, id)) row.classList.add("holds");
    const past = this.view.reached ? this.view.reached(id) : null;
    if (past) row.classList.add(...past);
    const [out, rms, name, g, norm, update] = row.children;
    name.firstChild.style.paddingLeft = `${depth * 14}px`;
    name.firstChild.innerHTML = `<i class="fold">${has ? (open ? "▾" : "▸") : ""}</i>${label(node)}`;
    const f = figures(node);
    this.strip(out, node, "out");
    this.strip(g, node, node.kind === "module" ? "g" : "g");
    rms.innerHTML = bar(f.out, "out", f.outMost);
    norm.innerHTML = bar(f.g, "g", f.gMost);
    update.innerHTML = f.ratio === null ? "" : bar(f.ratio, "d", f.ratioMost);
  }

  strip(cell, node, which) {
    const { tree, arrays, store, tokenCount } = this.view, shown = tree.shown(node);
    const numberOf = shown && shown[which], canvas = cell.firstChild, context = canvas.getContext("2d");
    const has = arrays && numberOf !== null && numberOf !== undefined;
    cell.classList.toggle("empty", !has);
    cell.classList.toggle("stale", store.state.frame !== this.view.meta.frames.length - 1);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!has) return;
    const array = arrays.get(numberOf);
    context.imageSmoothingEnabled = false;
    context.drawImage(strip(array, numberOf, which, tokenCount), 0, 0, canvas.width, canvas.height);
    const token = store.state.token, dims = array.of || array.shape;
    if (token !== null && (dims[dims.length - 2] === tokenCount || dims[0] === tokenCount)) {
      const width = canvas.width / tokenCount;
      context.strokeStyle = getComputedStyle(canvas).color;
      context.lineWidth = 1;
      context.strokeRect(Math.floor(token * width) - 0.5, 0.5, Math.ceil(width) + 1, canvas.height - 1);
    }
  }

  click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const id = Number(row.dataset.id);
    if (event.target.closest(".fold")) this.view.toggle(id);
    else this.view.select(id);
  }

  // Scroll no more than is needed for a node to be seen.
  reveal(id) {
    const at = this.order.get(id);
    if (at === undefined) return;
    const top = at * ROW, height = this.scroll.clientHeight;
    if (top < this.scroll.scrollTop + ROW) this.scroll.scrollTop = Math.max(0, top - 2 * ROW);
    else if (top + 2 * ROW > this.scroll.scrollTop + height) this.scroll.scrollTop = top + 3 * ROW - height;
  }
}

function newRow() {
  const strip = (name) => make("div", { class: `strip ${name}` }, make("canvas", { width: 256, height: 22 }));
  return make("div", { class: "row", role: "treeitem" }, strip("out"), make("div", { class: "bar b-out" }),
    make("div", { class: "name" }, make("div")), strip("g"), make("div", { class: "bar b-g" }), make("div", { class: "bar b-d" }));
}

function label(node) {
  const dims = node.shape ? `<span class="shape">${safe(shape(node.shape))}</span>` : "";
  if (node.kind === "module") return `<b>${safe(node.name)}</b> <span class="kind">${safe(node.class)}</span>`;
  if (node.kind === "param") return `<span class="mark">■</span>${safe(node.name)} ${dims}`;
  const what = node.role || node.label || "";
  const shown = what && what !== node.name ? `<span class="label">${safe(what)}</span>` : "";
  return `<code>${safe(node.op)}</code> ${shown} ${dims}`;
}

// A number and a bar: the full width is the largest of its column, each third of it a factor of ten.
function bar(value, kind, most) {
  if (value === null || value === undefined) return "";
  const width = value > 0 && most > 0 ? Math.max(0, Math.min(1, 1 + Math.log10(value / most) / 3)) : 0;
  return `<span>${number(value, 2)}</span><i style="width:${(100 * width).toFixed(1)}%;background:${css(kind, 0.85)}"></i>`;
}
