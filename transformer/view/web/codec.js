// From the page's text to numbers: base85, deflate, and the three roundings of pack.py.

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";
const VALUE = new Uint8Array(128);
for (let i = 0; i < 85; i++) VALUE[ALPHABET.charCodeAt(i)] = i;

function bytesOf(text) {
  const colon = text.indexOf(":"), length = Number(text.slice(0, colon));
  const out = new Uint8Array(Math.ceil(length / 4) * 4);
  for (let i = colon + 1, o = 0; o < out.length; i += 5, o += 4) {
    let n = 0;
    for (let k = 0; k < 5; k++) n = n * 85 + VALUE[text.charCodeAt(i + k)];
    out[o] = n >>> 24; out[o + 1] = n >>> 16; out[o + 2] = n >>> 8; out[o + 3] = n;
  }
  return out.subarray(0, length);
}

export async function inflate(text) {
  const stream = new Blob([bytesOf(text.trim())]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// value of every code of a small float: sign, exponent, mantissa; all ones in the exponent are infinity and NaN
function table(bits, mantissa, bias) {
  const exponents = bits - 1 - mantissa, top = (1 << exponents) - 1, out = new Float32Array(1 << bits);
  for (let code = 0; code < out.length; code++) {
    const sign = code >> (bits - 1) ? -1 : 1, e = (code >> mantissa) & top, m = code & ((1 << mantissa) - 1);
    const part = m / (1 << mantissa);
    out[code] = e === top ? (m ? NaN : sign * Infinity) : sign * (e ? (1 + part) * 2 ** (e - bias) : part * 2 ** (1 - bias));
  }
  return out;
}
const HALF = table(16, 10, 15), EIGHT = table(8, 3, 7);

function decode(bytes, entry) {
  const count = entry.shape.reduce((a, b) => a * b, 1), out = new Float32Array(count), at = entry.at;
  const factor = 2 ** entry.exponent;
  if (entry.type === "f2") {
    for (let i = 0; i < count; i++) out[i] = HALF[bytes[at + i] | (bytes[at + count + i] << 8)] * factor;
  } else if (entry.type === "f1") {
    for (let i = 0; i < count; i++) out[i] = EIGHT[bytes[at + i]] * factor;
  } else if (entry.type === "u1") {
    for (let i = 0; i < count; i++) out[i] = bytes[at + i] / 255;
  } else {
    const word = new Uint32Array(out.buffer);
    for (let i = 0; i < count; i++) {
      word[i] = bytes[at + i] | (bytes[at + count + i] << 8) | (bytes[at + 2 * count + i] << 16) | (bytes[at + 3 * count + i] << 24);
    }
  }
  return out;
}

// The arrays of the page, each decoded when it is first asked for.
export class Arrays {
  constructor(entries, bytes) { this.entries = entries; this.bytes = bytes; this.known = new Map(); }
  get(number) {
    if (number === null || number === undefined) return null;
    let found = this.known.get(number);
    if (!found) {
      const entry = this.entries[number];
      found = { ...entry, data: decode(this.bytes, entry) };
      this.known.set(number, found);
    }
    return found;
  }
}
