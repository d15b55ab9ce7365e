// Layers by heads: a map of each, from which one is chosen, and where heads are switched off.

class HeadGrid {
  constructor(id, choose, toggle) {
    Object.assign(this, { choose, toggle, turn: 0 });
    this.grid = element("div", { class: "head-grid" });
    const note =
      "Rows of a map are tokens that attend, columns those attended to. Choose a map to look through it; " +
      "switch a head off, and its messages are lost.";
    this.card = card(id, "Layers × heads", note, this.grid);
  }

  render(frame) {
    this.frame = frame;
    const shape = `${frame.part} ${frame.layers} ${frame.heads}`;
    if (this.shape !== shape) this.build(frame, shape);
    this.cells.forEach((cell) => this.mark(cell));
    this.drawSoon();
  }

  build(frame, shape) {
    this.shape = shape;
    this.cells = [];
    this.grid.style.setProperty("--heads", frame.heads + 1);
    this.grid.style.setProperty("--cell", `${Math.max(5, Math.min(11.5, 44 / frame.layers))}rem`);
    const corner = element("span", { class: "axis", text: "layer" });
    const names = Array.from({ length: frame.heads }, (_, h) =>
      element("span", { class: "axis", text: `head ${h + 1}` }),
    );
    const rows = Array.from({ length: frame.layers }, (_, layer) => [
      element("span", { class: "axis", text: String(layer + 1) }),
      ...Array.from({ length: frame.heads }, (_, head) => this.cell(layer, head)),
      this.cell(layer, -1),
    ]);
    replaceChildren(this.grid, corner, names, element("span", { class: "axis", text: "mean" }), rows);
  }

  cell(layer, head) {
    const canvas = element("canvas"),
      name = head < 0 ? "mean of the heads" : `head ${head + 1}`;
    const open = element("button", { type: "button", class: "map", onclick: () => this.choose(layer, head) }, canvas);
    open.setAttribute("aria-label", `layer ${layer + 1}, ${name}`);
    const off = head < 0 ? null : button("✕", () => this.toggle(layer, head), { class: "off" });
    const box = element("div", { class: "cell" }, open, off);
    this.cells.push({ layer, head, canvas, open, off, box });
    return box;
  }

  mark({ layer, head, open, off, box }) {
    const { frame } = this,
      gone = head >= 0 && frame.cuts.hasHead(frame.part, layer, head);
    open.setAttribute("aria-pressed", String(layer === frame.layer && head === frame.head));
    box.classList.toggle("gone", gone);
    off?.setAttribute("aria-pressed", String(gone));
    off?.setAttribute("aria-label", `switch layer ${layer + 1}, head ${head + 1} ${gone ? "on" : "off"}`);
    if (off) off.title = gone ? "switch this head on again" : "switch this head off";
  }

  // A few maps a frame, so that long texts do not hold up the page.
  async drawSoon() {
    const turn = ++this.turn,
      most = Math.max(48, Math.min(160, Math.floor(900 / this.frame.heads)));
    await nextFrame();
    for (const { layer, head, canvas } of this.cells) {
      if (turn !== this.turn) return;
      const { frame } = this,
        start = performance.now();
      if (frame.cellMap) drawGrid(canvas, frame.cellMap(layer, head));
      else drawMap(canvas, frame.queries.length, frame.keys.length, (q) => frame.row(layer, head, q), most);
      if (performance.now() - start > 4) await nextFrame();
    }
    this.drawn = turn;
  }
}

// What the selected square attends to, as a picture.
function drawGrid(canvas, { side, values }) {
  drawMap(canvas, side, side, (row) => values.subarray(row * side, (row + 1) * side));
}
