// The step as it runs: every op forward, every gradient back, every parameter's update; one at a time, either way.

import { icon, make, number, safe, shape } from "view/words";

export class Stepper {
  constructor(view) {
    this.view = view;
    const { meta } = view, ops = meta.nodes.filter((n) => n.kind === "op").sort((a, b) => a.event - b.event);
    this.steps = [
      ...ops.map((n) => ({ pass: "forward", node: n.id })),
      ...meta.walk.map((id) => ({ pass: "backward", node: id })),
      ...meta.names.map((name) => ({ pass: "update", node: meta.nodes.findIndex((n) => n.kind === "param" && n.path === name) })),
    ];
    this.first = { forward: 0, backward: ops.length, update: ops.length + meta.walk.length };
    this.when = { out: new Map(), g: new Map(), d: new Map() }; // node -> its step of each pass
    this.steps.forEach((s, i) => this.when[{ forward: "out", backward: "g", update: "d" }[s.pass]].set(s.node, i));
    for (const id of this.when.d.keys()) { // a module is updated with the last of its parameters
      for (const up of view.tree.above(id)) this.when.d.set(up, Math.max(this.when.d.get(up) ?? 0, this.when.d.get(id)));
    }
    view.reached = (id) => this.reached(id);
    const total = this.steps.length, button = (name, title, go) => make("button", { title, "aria-label": title, onclick: go, html: icon(name) });
    const part = (pass, from, to) => make("button", { class: `part ${pass}`, style: `flex:${Math.max(to - from, total / 8)}`, onclick: (e) => {
      const box = e.currentTarget.getBoundingClientRect();
      this.go(Math.min(to - 1, from + Math.floor(((e.clientX - box.left) / box.width) * (to - from))));
    } }, make("i"), make("span", {}, pass));
    this.parts = [part("forward", 0, this.first.backward), part("backward", this.first.backward, this.first.update), part("update", this.first.update, total)];
    this.says = make("div", { class: "says", id: "says" });
    this.playButton = button("play", "Play or pause (space)", () => this.play());
    document.getElementById("stepper").append(
      make("div", { class: "buttons" }, button("start", "To the start (Home)", () => this.go(0)), button("back", "One step back (,)", () => this.go(view.store.state.step - 1)),
        this.playButton, button("on", "One step on (.)", () => this.go(view.store.state.step + 1)), button("all", "Show all again (Esc)", () => this.stop())),
      make("div", { class: "line" }, ...this.parts), this.says);
    view.store.on(["step", "ready"], () => this.draw());
    this.draw();
  }

  go(step) {
    const at = Math.max(0, Math.min(this.steps.length - 1, step));
    this.view.store.set({ step: at });
    this.view.select(this.steps[at].node, true);
  }

  stop() { clearInterval(this.timer); this.timer = null; this.view.store.set({ step: -1 }); this.draw(); }

  play() {
    if (this.timer) { clearInterval(this.timer); this.timer = null; this.draw(); return; }
    this.timer = setInterval(() => {
      if (this.view.store.state.step >= this.steps.length - 1) this.play(); else this.go(this.view.store.state.step + 1);
    }, 450);
    this.draw();
  }

  // Classes of a row while stepping: what has not come yet is pale, what is now is lit.
  reached(id) {
    const now = this.view.store.state.step;
    if (now < 0) return null;
    const { tree } = this.view, node = tree.nodes[id], shown = node.kind === "twin" ? this.op(node) : tree.shown(node), classes = ["stepping"];
    const key = shown ? shown.id : id;
    for (const pass of ["out", "g", "d"]) {
      const at = this.when[pass].get(pass === "d" ? id : key);
      if (pass === "out" && node.kind === "param") continue;
      if (at === undefined || at > now) classes.push(`no-${pass}`);
      else if (at === now && node.kind !== "module") classes.push(`now-${pass}`);
    }
    return classes;
  }

  op(node) { while (node.kind === "twin") node = this.view.tree.nodes[node.up]; return node; }

  draw() {
    const { step } = this.view.store.state, from = [0, this.first.backward, this.first.update, this.steps.length];
    this.playButton.innerHTML = icon(this.timer ? "pause" : "play");
    this.parts.forEach((part, i) => {
      const share = (step + 1 - from[i]) / Math.max(1, from[i + 1] - from[i]);
      part.firstChild.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
    });
    this.says.innerHTML = step < 0 ? "All of the step is shown. <kbd>.</kbd> goes through it op by op, <kbd>space</kbd> plays it." : this.words(step);
  }

  words(step) {
    const { tree, meta } = this.view, { pass, node: id } = this.steps[step], node = tree.nodes[id], title = `<b>${safe(tree.title(id))}</b>`;
    const where = `<i>${pass} ${step - this.first[pass] + 1} of ${{ forward: this.first.backward, backward: this.first.update - this.first.backward, update: this.steps.length - this.first.update }[pass]}</i> `;
    if (pass === "forward") {
      const reads = node.inputs.filter((i) => i.shape).map((i) => `${safe(i.name)} (${safe(shape(i.shape))})`).join(", ");
      return `${where}${title} reads ${reads} and makes ${safe(shape(node.shape))}.`;
    }
    if (pass === "backward") {
      const g = this.view.figures(node).g;
      if (node.kind === "param") return `${where}${title}: its gradient is complete, of norm ${number(g)}.`;
      const sent = node.inputs.filter((i) => i.sent !== undefined).map((i) => {
        const sum = i.before === null ? "" : `, where the sum goes from ${number(i.before)} to ${number(i.after)}`;
        return `${number(i.sent)} to ${safe(i.name)}${sum}`;
      });
      return `${where}${title}: a gradient of norm ${number(g)} arrives; it sends ${sent.join("; ") || "nothing on"}.`;
    }
    const [w, , d] = node.norms;
    return `${where}${title} moves by ${number(d)}, ${number(d / w)} of its norm ${number(w)}.`;
  }
}
