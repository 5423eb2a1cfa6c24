// Arrays as colours. Blue to orange: activations and weights; teal to magenta: gradients; violet to green: updates.

const RAMPS = {
  light: { out: [[30, 90, 200], [250, 250, 248], [226, 92, 10]], g: [[0, 128, 128], [250, 250, 248], [196, 20, 110]],
           d: [[98, 60, 200], [250, 250, 248], [70, 140, 10]], p: [[250, 250, 248], [120, 150, 230], [20, 40, 130]] },
  dark: { out: [[90, 160, 255], [22, 26, 34], [255, 150, 60]], g: [[50, 215, 205], [22, 26, 34], [255, 90, 170]],
          d: [[170, 140, 255], [22, 26, 34], [160, 225, 80]], p: [[22, 26, 34], [60, 90, 190], [190, 215, 255]] },
};
const STEPS = 255, tables = new Map();

// Colours of -1 to 1 (for `p`: of 0 to 1) as 32-bit pixels.
function colours(kind) {
  const theme = document.documentElement.dataset.theme, key = theme + kind;
  if (!tables.has(key)) {
    const [low, middle, high] = RAMPS[theme][kind], table = new Uint32Array(2 * STEPS + 1);
    for (let i = 0; i <= 2 * STEPS; i++) {
      const x = i / STEPS - 1, to = x < 0 ? low : high;
      const share = kind === "p" ? Math.abs(x) : Math.abs(x) ** 0.75; // small values are seen
      const mix = middle.map((c, k) => Math.round(c + (to[k] - c) * share));
      table[i] = 0xff000000 | (mix[2] << 16) | (mix[1] << 8) | mix[0];
    }
    tables.set(key, table);
  }
  return tables.get(key);
}
const NONE = { light: 0xffe8ecec, dark: 0xff332923 }; // infinite or not a number

export function css(kind, x) {
  const pixel = colours(kind)[Math.round((Math.max(-1, Math.min(1, x)) + 1) * STEPS)];
  return `rgb(${pixel & 255},${(pixel >> 8) & 255},${(pixel >> 16) & 255})`;
}

// width x height pixels, pixel (x, y) = value(x, y) / full.
function picture(width, height, value, full, kind) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer), table = colours(kind), none = NONE[document.documentElement.dataset.theme];
  const scale = full > 0 ? 1 / full : 0;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const v = value(x, y);
      if (!(v > -Infinity && v < Infinity)) { pixels[i] = none; continue; }
      let share = v * scale;
      if (kind === "p") share = 2 * share - 1;
      pixels[i] = table[Math.round(((share < -1 ? -1 : share > 1 ? 1 : share) + 1) * STEPS)];
    }
  }
  return image;
}

export function paint(width, height, value, full, kind, canvas = document.createElement("canvas")) {
  canvas.width = width; canvas.height = height;
  canvas.getContext("2d").putImageData(picture(width, height, value, full, kind), 0, 0);
  return canvas;
}

// How an array lies on the screen: tokens from left to right where it has them, everything else downwards.
// Returns {columns, rows, at(column, row) -> index, tokens: bool, name(column, row) -> text}
export function layout(array, tokenCount) {
  const full = array.of || array.shape, dims = array.shape;
  const axis = dims.length === 1 ? (dims[0] === tokenCount ? 0 : -1)
    : dims.length >= 2 && full[dims.length - 2] === tokenCount && dims[dims.length - 2] === tokenCount ? dims.length - 2 : -1;
  const size = array.data.length;
  const pick = (k, i) => { const kept = array.picks && array.picks[k]; return kept ? kept[i] : i; };
  const index = (flat) => {
    const at = [];
    for (let k = dims.length - 1; k >= 0; k--) { at.unshift(pick(k, flat % dims[k])); flat = Math.floor(flat / dims[k]); }
    return at;
  };
  if (axis >= 0) {
    const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1), outer = size / (tokenCount * inner) || 0;
    const at = (x, y) => (Math.floor(y / inner) * tokenCount + x) * inner + (y % inner);
    return { columns: tokenCount, rows: outer * inner, at, index, tokens: true, axis };
  }
  const columns = dims.length ? dims[dims.length - 1] : 1;
  return { columns, rows: size / columns || 0, at: (x, y) => y * columns + x, index, tokens: false, axis };
}

// At most columns x rows cells; each shows the value of the largest size within it, so that nothing large is lost.
export function pooled(array, place, columns, rows) {
  const w = Math.min(place.columns, columns), h = Math.min(place.rows, rows);
  if (w === place.columns && h === place.rows) return { w, h, value: (x, y) => array.data[place.at(x, y)] };
  const out = new Float32Array(w * h);
  for (let y = 0; y < place.rows; y++) {
    const row = Math.floor((y * h) / place.rows) * w;
    for (let x = 0; x < place.columns; x++) {
      const to = row + Math.floor((x * w) / place.columns), v = array.data[place.at(x, y)];
      if (Math.abs(v) > Math.abs(out[to])) out[to] = v;
    }
  }
  return { w, h, value: (x, y) => out[y * w + x] };
}

export const STRIP = { columns: 128, rows: 22 }; // the most cells of a small picture
const strips = new Map(); // by array, kind and theme: small pictures, made once

// An op's picture in an earlier checkpoint, which keeps nothing larger: (2, ops, bins, tokens), full at 1.
export function smallStrip(array, event, kind) {
  const key = `${document.documentElement.dataset.theme}${kind}${array.at}.${event}`, [, ops, bins, tokens] = array.shape;
  if (!strips.has(key)) {
    const at = ((kind === "g" ? ops : 0) + event) * bins * tokens;
    strips.set(key, picture(tokens, bins, (x, y) => array.data[at + y * tokens + x], 1, kind));
  }
  return strips.get(key);
}

export function strip(array, number, kind, tokenCount) {
  const key = `${document.documentElement.dataset.theme}${kind}${number}`;
  if (!strips.has(key)) {
    const place = layout(array, tokenCount), part = pooled(array, place, STRIP.columns, STRIP.rows);
    strips.set(key, picture(Math.max(1, part.w), Math.max(1, part.h), part.value, array.full, kind));
  }
  return strips.get(key);
}
