// Attention: each head as a picture of who looks at whom; queries downwards, keys to the right.

import { paint } from "view/heat";
import { make, number, percent, piece } from "view/words";

// The weights (H, T, T) of one attention op in a frame, and their gradient where the page has it.
export function weightsOf(view, index) {
  const { meta, arrays, store } = view, frame = store.state.frame, newest = frame === meta.frames.length - 1;
  const node = meta.nodes[meta.attention[index].weights];
  if (newest) return { values: arrays.get(node.out), g: arrays.get(node.g), offset: 0 };
  const all = arrays.get(meta.frames[frame].attention), [, H, T, S] = all.shape;
  return { values: { ...all, shape: [1, H, T, S] }, g: null, offset: index * H * T * S };
}

// A deep model has hundreds of heads: they are painted when they come into sight.
const inSight = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) if (isIntersecting) { target.paint(); inSight.unobserve(target); }
}, { rootMargin: "200px" });

function head(view, index, h, which, title) {
  const found = weightsOf(view, index), array = which === "g" ? found.g : found.values;
  if (!array) return null;
  const T = view.tokenCount, base = (which === "g" ? 0 : found.offset) + h * T * T;
  const canvas = make("canvas", { class: "pixels" }), kind = which === "g" ? "g" : "p";
  canvas.paint = () => paint(T, T, (x, y) => (x > y ? NaN : array.data[base + y * T + x]), kind === "g" ? array.full : 1, kind, canvas);
  inSight.observe(canvas);
  const name = `${view.tree.title(view.meta.attention[index].node).split(" · ")[0]} head ${h}`;
  const figure = make("figure", { class: "head", "data-index": index, "data-head": h, "data-which": which }, canvas, make("figcaption", {}, title));
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * T), y = Math.floor(((event.clientY - box.top) / box.height) * T);
    if (x < 0 || y < 0 || x >= T || y >= T) return;
    const v = array.data[base + y * T + x], word = (t) => `“${piece(view.meta.tokens[t][1])}” (${t})`;
    const said = x > y ? "not seen: it comes later" : which === "g" ? `gradient of this weight ${number(v)}` : `weight ${percent(v)} (${number(v)})`;
    view.tip(canvas, `${name}\nfrom ${word(y)} to ${word(x)}\n${said}`, event);
    if (which !== "g") {
      const weights = Array.from({ length: T }, (_, k) => found.values.data[base + y * T + k]);
      view.store.set({ looking: { name, from: y, weights, key: `${index}.${h}.${y}` } });
    }
  });
  canvas.addEventListener("mouseleave", () => { view.tip(null); view.store.set({ looking: null }); });
  return figure;
}

// All heads of all layers, small: what the slider over checkpoints changes.
export function gallery(view) {
  const { meta, arrays } = view;
  if (!arrays || !meta.attention.length) return null;
  const heads = meta.config.heads, box = make("div", { class: "gallery", style: `--heads:${heads}` });
  meta.attention.forEach((one, index) => {
    for (let h = 0; h < heads; h++) {
      const figure = head(view, index, h, "out", `layer ${index} · head ${h}`);
      figure.addEventListener("click", () => view.select(one.node));
      box.append(figure);
    }
  });
  return box;
}

// One op's heads, large: weights beside their gradients.
export function heads(view, index) {
  if (!view.arrays) return null;
  const box = make("div", { class: "heads" });
  for (let h = 0; h < view.meta.config.heads; h++) {
    const row = make("div", { class: "pair" }, head(view, index, h, "out", `head ${h}: weights`));
    const g = head(view, index, h, "g", `head ${h}: gradient of the weights`);
    if (g) row.append(g);
    box.append(row);
  }
  return box;
}
