// The tree of modules, ops, parameters and twins: what is open, what is found, what therefore is to be drawn.

export class Tree {
  constructor(nodes) {
    this.nodes = nodes;
    this.children = nodes.map(() => []);
    this.depth = new Uint16Array(nodes.length);
    this.readers = nodes.map(() => []);
    for (const node of nodes) {
      if (node.up === null) continue;
      this.children[node.up].push(node.id);
      this.depth[node.id] = this.depth[node.up] + 1;
      for (const input of node.inputs || []) if (input.node !== undefined) this.readers[input.node].push(node.id);
    }
    this.text = nodes.map((n) => [n.path, n.name, n.class, n.op, n.label, (n.shape || []).join("x"), n.role].join(" ").toLowerCase());
  }

  // Whole GPT first: its own children, the blocks one by one, and of the first one what a block is made of.
  start() {
    const open = new Set([0]), lists = this.children[0].filter((id) => this.nodes[id].class === "ModuleList");
    for (const id of lists) { open.add(id); if (this.children[id].length) open.add(this.children[id][0]); }
    return open;
  }

  // The rows to draw, top to bottom: with a query, what matches and what holds it.
  visible(open, query) {
    const rows = [];
    if (query) {
      const wanted = query.toLowerCase().split(/\s+/).filter(Boolean), keep = new Uint8Array(this.nodes.length);
      for (let id = this.nodes.length - 1; id >= 0; id--) {
        if (keep[id] || wanted.every((word) => this.text[id].includes(word))) {
          keep[id] = keep[id] || 2;
          if (this.nodes[id].up !== null && !keep[this.nodes[id].up]) keep[this.nodes[id].up] = 1;
        }
      }
      for (let id = 0; id < keep.length; id++) if (keep[id]) rows.push(id);
      return rows;
    }
    const stack = [0];
    while (stack.length) {
      const id = stack.pop();
      rows.push(id);
      if (open.has(id)) for (let i = this.children[id].length - 1; i >= 0; i--) stack.push(this.children[id][i]);
    }
    return rows;
  }

  matches(query, id) {
    return query.toLowerCase().split(/\s+/).filter(Boolean).every((word) => this.text[id].includes(word));
  }

  // What must be open so that a node is drawn.
  above(id) {
    const ids = [];
    for (let up = this.nodes[id].up; up !== null; up = this.nodes[up].up) ids.push(up);
    return ids;
  }

  below(id) {
    const ids = [], stack = [id];
    while (stack.length) { const one = stack.pop(); ids.push(one); stack.push(...this.children[one]); }
    return ids;
  }

  // The op whose values a row shows: of a module its last one.
  shown(node) { return node.kind === "module" ? (node.last === undefined ? null : this.nodes[node.last]) : node; }

  title(id) {
    const node = this.nodes[id];
    if (node.kind === "module" || node.kind === "param") return node.path || node.name;
    return [node.path, node.role || node.name].filter(Boolean).join(" · ");
  }
}
