// The keyboard, and the card that lists it.

const KEYS = [
  ["↑ ↓", "the row above, below"], ["→ ←", "unfold, fold (or to what holds it)"], ["Enter", "fold or unfold"], ["⇧ →  ⇧ ←", "unfold, fold all within"],
  [". ,", "one step on, back"], ["space", "play the step"], ["Esc", "show all again"], ["[ ]", "earlier, later checkpoint"],
  ["a d", "token before, after"], ["/", "search: every word must match"], ["t", "light or dark"], ["Home", "to the whole model"], ["?", "this card"],
];

export function keyboard(view, stepper) {
  const card = document.getElementById("keys");
  card.innerHTML = `<h2>Keys</h2><dl>${KEYS.map(([k, what]) => `<div><dt>${k.split(" ").filter(Boolean).map((x) => `<kbd>${x}</kbd>`).join(" ")}</dt><dd>${what}</dd></div>`).join("")}</dl>
    <h2>Colours</h2><p><span class="scale out"></span> activations and weights: blue below zero, orange above</p><p><span class="scale g"></span> gradients: teal below zero, magenta above</p><p><span class="scale d"></span> updates: violet below zero, green above</p><p><span class="scale p"></span> attention: 0 to 1</p>
    <p class="hint">Colours are full at the 99.5th percentile of an array's sizes. In a row a cell shows the value of the largest size that falls into it. Bars are logarithmic.</p><form method="dialog"><button>Close</button></form>`;
  const help = () => (card.open ? card.close() : card.showModal());
  document.getElementById("help").addEventListener("click", help);
  card.addEventListener("click", (event) => { if (event.target === card) card.close(); });
  const search = document.getElementById("search");
  const { store, tree, map } = view;
  const actions = {
    ArrowDown: () => view.move(1), ArrowUp: () => view.move(-1), ArrowRight: (e) => (e.shiftKey ? view.openAll(true) : view.right()), ArrowLeft: (e) => (e.shiftKey ? view.openAll(false) : view.left()),
    Enter: () => view.toggle(store.state.selected), ".": () => stepper.go(store.state.step + 1), ",": () => stepper.go(store.state.step - 1), " ": () => stepper.play(),
    Escape: () => { stepper.stop(); search.value = ""; store.set({ query: "", token: null }); map.reveal(store.state.selected); },
    "[": () => view.frame(store.state.frame - 1), "]": () => view.frame(store.state.frame + 1),
    a: () => store.set({ token: Math.max(0, (store.state.token ?? view.tokenCount) - 1) }), d: () => store.set({ token: Math.min(view.tokenCount - 1, (store.state.token ?? -1) + 1) }),
    "/": () => search.focus(), t: () => view.theme(), "?": help, Home: () => view.select(0),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || card.open) return;
    if (event.target === search) {
      if (event.key === "Escape") { search.blur(); actions.Escape(); }
      else if (event.key === "Enter") { const hit = map.visible.find((id) => tree.matches(store.state.query, id)); if (hit !== undefined) view.select(hit); search.blur(); }
      return;
    }
    if (event.target.type === "range") return;
    if ((event.key === "Enter" || event.key === " ") && event.target.closest("button, summary")) return;
    const act = actions[event.key];
    if (act) { event.preventDefault(); act(event); }
  });
  search.addEventListener("input", () => store.set({ query: search.value.trim() }));
}
