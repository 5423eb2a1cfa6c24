// Puts the page together: first what is said in words, then, once they are unpacked, the numbers.

import { Arrays, inflate } from "view/codec";
import { Detail } from "view/detail";
import { keyboard } from "view/keys";
import { RowMap } from "view/map";
import { Stepper } from "view/stepper";
import { Store } from "view/store";
import { Tokens } from "view/tokens";
import { Tree } from "view/tree";
import { count, make, safe } from "view/words";

const text = (id) => document.getElementById(id).textContent;

class View {
  constructor(meta) {
    for (const frame of meta.frames) { // what is not a number is null in JSON
      frame.loss ??= NaN;
      frame.losses = frame.losses.map((loss) => loss ?? NaN);
      frame.out = frame.out.map((x) => x ?? NaN);
      frame.parameters = frame.parameters.map((sizes) => sizes.map((x) => x ?? NaN));
      frame.update.norm ??= NaN;
    }
    this.meta = meta;
    this.tokenCount = meta.tokens.length;
    this.arrays = null;
    this.tree = new Tree(meta.nodes);
    this.place = new Map(meta.names.map((name, i) => [name, i]));
    this.store = new Store({ selected: 0, token: null, frame: meta.frames.length - 1, open: this.tree.start(), query: "", step: -1,
      theme: document.documentElement.dataset.theme, ready: false, looking: null });
    this.integers = new Set(meta.nodes.filter((n) => n.kind === "op" && n.dtype.startsWith("int")).map((n) => n.event));
    this.most = meta.frames.map((f) => this.largest(f));
  }

  // -- numbers ------------------------------------------------------------------------------------------
  largest(frame) {
    const top = (list) => list.reduce((a, b) => (b > a ? b : a), 0);
    const out = top([...frame.out.filter((x, i) => !this.integers.has(i)), ...frame.parameters.map(([w], i) => this.rms(i, w))]);
    return { out, g: top([...frame.g, ...frame.parameters.map(([, g]) => g)]), ratio: top(frame.parameters.map(([w, , d]) => (w ? d / w : 0))) };
  }
  rms(i, norm) {
    if (!this.sizes) this.sizes = new Map(this.meta.nodes.filter((n) => n.kind === "param").map((n) => [n.path, n.parameters]));
    return norm / Math.sqrt(this.sizes.get(this.meta.names[i]));
  }

  // The numbers of a row in the chosen frame: size of the value, norm of the gradient, update over weight.
  figures = (node) => {
    const frame = this.meta.frames[this.store.state.frame], most = this.most[this.store.state.frame];
    const found = { out: null, g: null, ratio: null, outMost: most.out, gMost: most.g, ratioMost: most.ratio };
    if (node.kind === "param") {
      const i = this.place.get(node.path), [w, g, d] = frame.parameters[i];
      return Object.assign(found, { out: this.rms(i, w), g, ratio: w === 0 ? null : d / w });
    }
    if (node.kind === "twin") {
      if (this.store.state.frame !== this.meta.frames.length - 1) return found;
      const of = (number) => (number === null || number === undefined ? null : this.meta.arrays[number]);
      return Object.assign(found, { out: node.dtype.startsWith("int") ? null : of(node.out)?.rms ?? null, g: of(node.g)?.norm ?? null });
    }
    const op = this.tree.shown(node);
    if (op) Object.assign(found, { out: op.dtype.startsWith("int") ? null : frame.out[op.event], g: frame.g[op.event] ?? (op.g === null ? null : NaN) });
    if (node.kind === "module" && node.parameters) found.ratio = this.ratioWithin(node, frame);
    return found;
  };

  ratioWithin(node, frame) {
    this.within = this.within || new Map();
    if (!this.within.has(node.id)) {
      this.within.set(node.id, this.tree.below(node.id).filter((id) => this.tree.nodes[id].kind === "param").map((id) => this.place.get(this.tree.nodes[id].path)));
    }
    let w = 0, d = 0;
    for (const i of this.within.get(node.id)) { w += frame.parameters[i][0] ** 2; d += frame.parameters[i][2] ** 2; }
    return w === 0 ? null : Math.sqrt(d / w);
  }

  // -- what the reader does -----------------------------------------------------------------------------
  select(id, keepStep = false) {
    const { open, selected } = this.store.state, missing = this.tree.above(id).filter((up) => !open.has(up));
    if (!keepStep && this.store.state.step >= 0 && id !== selected) this.stepper.stop();
    this.store.set(missing.length ? { selected: id, open: new Set([...open, ...missing]) } : { selected: id });
    this.map.reveal(id);
  }
  toggle(id) {
    if (!this.tree.children[id].length) return;
    const open = new Set(this.store.state.open);
    if (!open.delete(id)) open.add(id);
    this.store.set({ open });
  }
  openAll(wanted) {
    const open = new Set(this.store.state.open);
    for (const id of this.tree.below(this.store.state.selected)) if (this.tree.children[id].length) wanted ? open.add(id) : open.delete(id);
    this.store.set({ open });
  }
  move(by) {
    const { visible, order } = this.map, at = order.get(this.store.state.selected) ?? -1;
    const to = visible[Math.max(0, Math.min(visible.length - 1, at + by))];
    if (to !== undefined) this.select(to);
  }
  right() {
    const { selected, open } = this.store.state;
    if (this.tree.children[selected].length && !open.has(selected)) this.toggle(selected); else this.move(1);
  }
  left() {
    const { selected, open } = this.store.state;
    if (open.has(selected) && this.tree.children[selected].length) this.toggle(selected);
    else if (this.tree.nodes[selected].up !== null) this.select(this.tree.nodes[selected].up);
  }
  frame(index) {
    this.store.set({ frame: Math.max(0, Math.min(this.meta.frames.length - 1, index)) });
  }
  theme() {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try { localStorage.setItem("tgl-view-theme", theme); } catch { /* it holds for this visit only */ }
    this.store.set({ theme });
  }

  tip(near, words, event) {
    const tip = document.getElementById("tip");
    tip.hidden = !near;
    if (!near) return;
    tip.textContent = words;
    const box = near.getBoundingClientRect(), x = event ? event.clientX + 14 : box.left, y = event ? event.clientY + 16 : box.bottom + 6;
    tip.style.left = `${Math.max(4, Math.min(innerWidth - tip.offsetWidth - 8, x))}px`;
    tip.style.top = `${y + tip.offsetHeight > innerHeight - 4 ? (event ? event.clientY : box.top) - tip.offsetHeight - 8 : y}px`;
  }
}

function header(view) {
  const { meta } = view, c = meta.config;
  document.getElementById("title").innerHTML = `<h1>One training step</h1><p>${safe(meta.name)} · step ${count(meta.step)} · GPT, ${c.layers} layers, ${c.heads} heads, ${c.channels} channels · ${count(meta.parameters)} parameters</p>`;
  const box = document.getElementById("frames"), last = meta.frames.length - 1;
  if (last === 0) { box.hidden = true; return; }
  const slider = make("input", { type: "range", min: 0, max: last, value: last, "aria-label": "Checkpoint", oninput: () => view.frame(Number(slider.value)) });
  const says = make("output", {}), losses = meta.frames.map((f) => f.loss), finite = losses.filter(Number.isFinite), high = Math.max(...finite), low = Math.min(...finite);
  const height = (loss) => (Number.isFinite(loss) ? 3 + (18 * (high - loss)) / (high - low || 1) : 3); // what is no number is at the top
  const dots = losses.map((loss, i) => [7 + (166 * i) / last, height(loss)]);
  const line = make("div", { class: "spark", title: "the loss of this text at each checkpoint", html:
    `<svg width="180" height="24" aria-hidden="true"><polyline points="${dots.map((p) => p.join(",")).join(" ")}"/><circle r="3"/></svg>` });
  box.append(make("label", {}, "checkpoint"), make("div", {}, line, slider), says);
  const draw = () => {
    const frame = meta.frames[view.store.state.frame];
    slider.value = view.store.state.frame;
    const [x, y] = dots[view.store.state.frame], dot = line.querySelector("circle");
    dot.setAttribute("cx", x); dot.setAttribute("cy", y);
    says.innerHTML = `<b>step ${count(frame.step)}</b>${frame.step ? "" : " (untrained)"} · loss ${frame.loss.toFixed(3)}`;
  };
  view.store.on(["frame"], draw);
  draw();
}

function divider(view) {
  const bar = document.getElementById("divider"), main = bar.parentElement;
  bar.addEventListener("pointerdown", (down) => {
    bar.setPointerCapture(down.pointerId);
    bar.onpointermove = (move) => main.style.setProperty("--map", `${Math.max(30, Math.min(75, (100 * move.clientX) / innerWidth))}%`);
    bar.onpointerup = () => { bar.onpointermove = null; view.map.draw(); };
  });
}

async function start() {
  const view = new View(JSON.parse(new TextDecoder().decode(await inflate(text("meta")))));
  window.view = view;
  header(view);
  view.tokens = new Tokens(view);
  view.map = new RowMap(view);
  view.stepper = new Stepper(view);
  view.detail = new Detail(view);
  keyboard(view, view.stepper);
  divider(view);
  document.getElementById("theme").addEventListener("click", () => view.theme());
  document.getElementById("tip").hidden = true;
  document.getElementById("scroll").focus();
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  performance.mark("first paint");
  view.arrays = new Arrays(view.meta.arrays, await inflate(text("data")));
  view.store.set({ ready: true });
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  const box = make("p", { class: "failed" }, `This page could not be drawn: ${error.message}. It needs a browser of 2023 or later (import maps, DecompressionStream).`);
  document.body.prepend(box);
  throw error;
});
