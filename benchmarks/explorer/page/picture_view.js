// An image as a grid of tokens: shares of attention over it, edges from the square that is looked through.

const OVERLAYS = [
  ["attention", "attention of the square"],
  ["rollout", "rollout to the answer"],
  ["none", "image alone"],
];

class PictureView {
  constructor(id, choose, cut) {
    Object.assign(this, { choose, cut, overlay: "attention" });
    this.image = element("canvas", { class: "picture" });
    this.heat = element("canvas", { class: "heat" });
    this.edges = svgElement("svg", { class: "picture-edges", "aria-hidden": "true" });
    this.stage = element(
      "div",
      { class: "stage", tabindex: 0, role: "application" },
      this.image,
      this.heat,
      this.edges,
    );
    this.stage.setAttribute("aria-label", "squares of the image; arrow keys move, c cuts the strongest edge");
    this.stage.addEventListener("click", (event) => this.pick(event));
    this.stage.addEventListener("pointermove", (event) => this.preview(event));
    this.stage.addEventListener("pointerleave", () => this.paint(this.frame.query));
    this.stage.addEventListener("keydown", (event) => this.move(event));
    this.modes = choice("what is drawn over the image", OVERLAYS, "attention", (mode) => {
      this.overlay = mode;
      this.paint(this.frame.query);
    });
    this.caption = element("p", { class: "note" });
    const note =
      "Point at a square to see what it attends to; select it to look through it everywhere. Click an edge to cut it.";
    this.card = card(id, "Squares", note, this.modes, this.stage, this.caption);
  }

  render(frame) {
    this.frame = frame;
    paintPixels(this.image, frame.pixels, frame.shape);
    this.paint(frame.query);
  }

  paint(query) {
    const { frame } = this,
      { side } = frame.shape,
      row = frame.row(frame.layer, frame.head, query);
    const shares = this.overlay === "rollout" ? frame.rolled() : row;
    this.heat.hidden = this.overlay === "none";
    paintHeat(this.heat, frame.onPicture(shares), side);
    this.edges.setAttribute("viewBox", `0 0 ${side} ${side}`);
    replaceChildren(this.edges, this.overlay === "attention" ? this.lines(query, row) : [], this.marker(query));
    this.caption.textContent =
      this.overlay === "rollout"
        ? "How much of each square reaches the answer through all layers, the residual paths counted (attention " +
          "rollout)."
        : `${frame.queries[query].title}: layer ${frame.layer + 1}, ${frame.head < 0 ? "mean of the heads" : `head ${frame.head + 1}`}`;
  }

  centre(token) {
    const { side } = this.frame.shape,
      n = token - this.frame.learnedCount;
    return n < 0 ? [0, 0] : [(n % side) + 0.5, Math.floor(n / side) + 0.5];
  }

  lines(query, row) {
    const { frame } = this,
      cut = frame.keys.map((_, key) => key).filter((key) => frame.isCut(query, key));
    const ends = [...new Set([...cut, ...largest(row, 10)])].filter((key) => key !== query);
    return ends.map((key) => {
      const [[x, y], [u, v]] = [this.centre(query), this.centre(key)],
        gone = frame.isCut(query, key);
      const line = svgElement("line", {
        x1: x,
        y1: y,
        x2: u,
        y2: v,
        class: gone ? "severed" : "",
        "stroke-width": gone ? 0.06 : 0.03 + 0.6 * (row[key] ?? 0),
      });
      line.append(svgElement("title", { text: `${frame.keys[key].title}: ${gone ? "cut" : percent(row[key])}` }));
      line.addEventListener("click", (event) => {
        event.stopPropagation();
        this.cut(query, key, !gone);
      });
      return line;
    });
  }

  marker(query) {
    const [x, y] = this.centre(query);
    return query < this.frame.learnedCount
      ? []
      : [svgElement("rect", { x: x - 0.5, y: y - 0.5, width: 1, height: 1, class: "marker" })];
  }

  tokenAt(event) {
    const box = this.stage.getBoundingClientRect(),
      { side } = this.frame.shape;
    const [column, row] = [event.clientX - box.left, event.clientY - box.top].map((at) =>
      Math.floor((at / box.width) * side),
    );
    if (Math.min(row, column) < 0 || Math.max(row, column) >= side) return null;
    return this.frame.learnedCount + row * side + column;
  }

  preview(event) {
    const token = this.tokenAt(event);
    if (token !== null && this.overlay === "attention" && event.target === this.stage) this.paint(token);
  }

  pick(event) {
    const token = this.tokenAt(event);
    if (token !== null) this.choose(token);
  }

  move(event) {
    const { side } = this.frame.shape,
      step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -side, ArrowDown: side }[event.key];
    const { frame } = this,
      row = frame.row(frame.layer, frame.head, frame.query);
    if (event.key === "c") this.cut(frame.query, largest(row, 1)[0], true);
    else if (step) this.choose(Math.max(0, Math.min(frame.queries.length - 1, frame.query + step)));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

// Shares over an image: where there is little the image is darkened, where there is much it shows.
function paintHeat(canvas, values, side) {
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d"),
    image = context.createImageData(side, side);
  values.forEach((value, n) => {
    const index = 4 * n;
    image.data[index] = 12;
    image.data[index + 1] = 14;
    image.data[index + 2] = 30;
    image.data[index + 3] = 205 * (1 - Math.sqrt(value));
  });
  context.putImageData(image, 0, 0);
}
