// What the reader has chosen, and who is told when it changes.

export class Store {
  constructor(state) { this.state = state; this.listeners = []; }
  // listener(state, changed keys) after any of the keys changed, at once: nothing waits for a timer.
  on(keys, listener) { this.listeners.push([new Set(keys), listener]); }
  set(patch) {
    const changed = Object.keys(patch).filter((key) => this.state[key] !== patch[key]);
    if (!changed.length) return;
    Object.assign(this.state, patch);
    for (const [keys, listener] of this.listeners) {
      if (changed.some((key) => keys.has(key))) listener(this.state, changed);
    }
  }
}
