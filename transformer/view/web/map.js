// The map: one row a module, op or parameter; activations left, gradients right, the update at the edge.
// Only the rows that can be seen are in the document, so ten thousand cost what forty do.

import { css, smallStrip, STRIP, strip } from "view/heat";
import { make, number, piece, safe, shape } from "view/words";

export const ROW = 34;

export class RowMap {
  constructor(view) {
    this.view = view;
    this.scroll = document.getElementById("scroll");
    this.rows = document.getElementById("rows");
    this.shown = new Map(); // by node
    this.free = [];
    this.version = 0; // of the list of rows
    this.sheets = { out: make("canvas", { class: "sheet" }), g: make("canvas", { class: "sheet" }) };
    this.rows.append(this.sheets.out, this.sheets.g);
    this.nothing = this.scroll.appendChild(make("p", { class: "hint nothing" }));
    this.scratch = make("canvas", { width: STRIP.columns, height: STRIP.rows }).getContext("2d");
    this.visible = [];
    this.order = new Map();
    document.getElementById("heads").innerHTML =
      `<div><b class="c-out">forward</b> ↓ activations</div><div title="root mean square">rms</div><div>module · op · parameter</div>` +
      `<div><b class="c-g">backward</b> ↑ gradients</div><div title="square root of the sum of squares">norm</div><div title="norm of the update over norm of the weights"><b class="c-d">update</b> / weight</div>`;
    this.scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => { this.columns = null; this.draw(); }).observe(this.scroll);
    this.rows.addEventListener("click", (event) => this.click(event));
    this.rows.addEventListener("mousemove", (event) => this.hover(event));
    this.rows.addEventListener("mouseleave", () => view.tip(null));
    view.store.on(["open", "query"], () => this.flatten());
    view.store.on(["selected", "frame", "token", "step", "theme", "ready"], () => this.draw());
    this.flatten();
  }

  flatten() {
    const { open, query } = this.view.store.state;
    this.visible = this.view.tree.visible(open, query);
    this.version += 1;
    this.order = new Map(this.visible.map((id, i) => [id, i]));
    this.rows.style.height = `${this.visible.length * ROW}px`;
    this.nothing.textContent = this.visible.length ? "" : `No module, op, parameter or shape matches “${query}”. Esc shows all again.`;
    this.draw();
  }

  // Rows keep their element while they are in sight: folding moves them, and only what changed is written again.
  draw() {
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / ROW) - 4);
    const last = Math.min(this.visible.length, first + Math.ceil(this.scroll.clientHeight / ROW) + 9);
    const wanted = new Set(this.visible.slice(first, last));
    for (const [id, row] of this.shown) if (!wanted.has(id)) { this.shown.delete(id); this.free.push(row); row.hidden = true; }
    for (let at = first; at < last; at++) {
      const id = this.visible[at];
      let row = this.shown.get(id);
      if (!row) {
        row = this.free.pop() || this.rows.appendChild(newRow());
        row.hidden = false;
        this.shown.set(id, row);
      }
      if (row.at !== at) row.style.transform = `translateY(${(row.at = at) * ROW}px)`;
      this.fill(row, id);
    }
    this.paint(first, last);
  }

  fill(row, id) {
    const { tree, store } = this.view, node = tree.nodes[id], state = store.state;
    const has = tree.children[id].length > 0, open = Boolean(state.query || state.open.has(id));
    const classes = ["row", node.kind, ...(this.view.reached ? this.view.reached(id) || [] : [])];
    if (id === state.selected) classes.push("selected");
    if (node.role) classes.push("role");
    if (state.query && !tree.matches(state.query, id)) classes.push("holds");
    const looks = classes.join(" "), holds = `${id} ${open}`, values = `${id} ${state.frame} ${state.token} ${state.theme} ${state.ready}`;
    if (row.looks !== looks) {
      row.className = row.looks = looks;
      row.setAttribute("aria-selected", id === state.selected);
    }
    if (row.holds !== holds) {
      row.holds = holds;
      row.dataset.id = id;
      row.setAttribute("aria-level", tree.depth[id] + 1);
      if (has) row.setAttribute("aria-expanded", open); else row.removeAttribute("aria-expanded");
      const name = row.children[2].firstChild;
      name.style.paddingLeft = `${tree.depth[id] * 12}px`;
      name.innerHTML = `<i class="fold">${has ? (open ? "▾" : "▸") : ""}</i>${label(node)}`;
    }
    if (row.values === values) return;
    row.values = values;
    const [out, rms, , g, norm, update] = row.children, f = this.view.figures(node);
    row.pictures = { out: this.strip(out, node, "out"), g: this.strip(g, node, "g") };
    rms.innerHTML = bar(f.out, "out", f.outMost);
    norm.innerHTML = bar(f.g, "g", f.gMost);
    update.innerHTML = f.ratio === null ? "" : bar(f.ratio, "d", f.ratioMost);
  }

  // What a row's strip shows: {image, alpha, tokens} or null, and the look of its cell.
  strip(cell, node, which) {
    const { tree, arrays, store, tokenCount, meta } = this.view, frame = meta.frames[store.state.frame], shown = tree.shown(node);
    const numberOf = shown && shown[which], dims = (shown && shown.shape) || [];
    const has = arrays && numberOf !== null && numberOf !== undefined && dims.length > 0; // one number has no picture
    const tokens = dims[dims.length - 2] === tokenCount || dims[0] === tokenCount;
    const small = has && frame.strips !== null && shown.kind === "op" && tokens, stale = frame.strips !== null && !small; // of an earlier checkpoint
    cell.classList.toggle("empty", !has);
    cell.classList.toggle("stale", stale);
    if (!has) return null;
    const image = small ? smallStrip(arrays.get(frame.strips), shown.event, which) : strip(arrays.get(numberOf), numberOf, which, tokenCount);
    return { image, alpha: stale ? 0.22 : 1, tokens };
  }

  // The strips of all rows on one canvas a column: sixty small ones took longer than all else together.
  paint(first, last) {
    const { store, tokenCount } = this.view, { frame, token, theme, ready, step } = store.state;
    this.columns = this.columns || this.measure();
    if (!this.columns) return;
    const key = [first, last, this.version, frame, token, theme, ready, step, this.columns.out.width].join(" ");
    if (key === this.painted) return;
    this.painted = key;
    for (const which of ["out", "g"]) {
      const sheet = this.sheets[which], { left, width } = this.columns[which], context = sheet.getContext("2d");
      if (sheet.width !== width || sheet.height !== (last - first) * ROW) { sheet.width = width; sheet.height = (last - first) * ROW; }
      else context.clearRect(0, 0, sheet.width, sheet.height);
      sheet.style.transform = `translate(${left}px, ${first * ROW}px)`;
      context.imageSmoothingEnabled = false;
      for (let at = first; at < last; at++) {
        const row = this.shown.get(this.visible[at]), found = row.pictures[which];
        if (!found) continue;
        const { image, alpha, tokens } = found, top = (at - first) * ROW + 4, height = ROW - 8;
        context.globalAlpha = row.classList.contains(`no-${which}`) ? 0.07 : alpha;
        this.scratch.putImageData(image, 0, 0);
        context.drawImage(this.scratch.canvas, 0, 0, image.width, image.height, 0, top, width, height);
        if (token === null || !tokens) continue;
        context.strokeStyle = theme === "dark" ? "#fff" : "#000";
        context.strokeRect(Math.floor((token * width) / tokenCount) - 0.5, top + 0.5, Math.ceil(width / tokenCount) + 1, height - 1);
      }
    }
  }

  measure() {
    const row = this.shown.values().next().value;
    const column = (cell) => ({ left: cell.offsetLeft, width: cell.offsetWidth });
    return row && row.offsetWidth ? { out: column(row.children[0]), g: column(row.children[3]) } : null;
  }

  click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const id = Number(row.dataset.id);
    if (event.target.closest(".fold")) this.view.toggle(id);
    else this.view.select(id);
  }

  // Over a strip: the token whose column it is.
  hover(event) {
    const strip = event.target.closest(".strip"), { tree, meta, tokenCount } = this.view;
    const shown = strip && tree.shown(tree.nodes[Number(strip.parentElement.dataset.id)]);
    const dims = (shown && shown.shape) || [];
    if (!strip || strip.classList.contains("empty") || (dims[dims.length - 2] !== tokenCount && dims[0] !== tokenCount)) return this.view.tip(null);
    const box = strip.getBoundingClientRect(), t = Math.min(tokenCount - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * tokenCount)));
    this.view.tip(strip, `token ${t} “${piece(meta.tokens[t][1])}”`, event);
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
  const strip = (name) => make("div", { class: `strip ${name}` });
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
