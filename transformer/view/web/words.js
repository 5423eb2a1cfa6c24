// Numbers, bytes and tokens as text, and small helpers for the document.

export function number(x, digits = 3) {
  if (x === null || x === undefined) return "–";
  if (!Number.isFinite(x)) return String(x).replace("Infinity", "∞");
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e-3 && size < 1e5) return String(Number(x.toPrecision(digits)));
  const [mantissa, exponent] = x.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${Number(exponent)}`;
}

export const count = (n) => n.toLocaleString("en-US");
export const percent = (p) => (Number.isNaN(p) ? "NaN" : p >= 0.0995 ? `${(100 * p).toFixed(0)}%` : p >= 0.001 ? `${(100 * p).toFixed(1)}%` : "<0.1%");
export const shape = (dims) => (dims && dims.length ? dims.join("×") : "scalar");

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  return n < 1024 * 1024 ? `${number(n / 1024)} KiB` : `${number(n / 1024 / 1024)} MiB`;
}

const PATHS = {
  start: "M3 2v12M13 2L5 8l8 6z", back: "M11 2L4 8l7 6z", on: "M5 2l7 6-7 6z", play: "M4 2l9 6-9 6z", pause: "M5 2v12M11 2v12", all: "M3 3h10v10H3z",
};
// Pictures of buttons, drawn: fonts differ in which of these signs they have.
export const icon = (name) => `<svg viewBox="0 0 16 16" width="12" height="12" fill="${name === "all" ? "none" : "currentColor"}" stroke="currentColor" stroke-width="1.6" stroke-linejoin="round" aria-hidden="true"><path d="${PATHS[name]}"/></svg>`;

// A token so that its spaces and line ends are seen.
export const piece = (text) => text.replace(/ /g, "·").replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/\r/g, "␍") || "∅";

const SAFE = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
export const safe = (text) => String(text).replace(/[&<>"]/g, (c) => SAFE[c]);

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "html") node.innerHTML = value;
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
