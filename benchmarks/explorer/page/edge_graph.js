// Attention as a graph: tokens that attend on the left, tokens attended to on the right, an edge for every message.
// A click on an edge cuts it, and the prediction moves.

const SHOWN = 24,
  LINE = 22,
  WIDE = 400,
  MOST_LETTERS = 14,
  LEAST = 0.02;

class EdgeGraph {
  constructor(id, choose, cut) {
    Object.assign(this, { choose, cut });
    this.svg = svgElement("svg", { class: "graph", role: "group", "aria-label": "edges of attention" });
    this.edges = element("ol", { class: "edges" });
    this.where = "head";
    this.scopes = choice(
      "where an edge is cut",
      [
        ["head", "this map"],
        ["layer", "this layer"],
        ["all", "all layers"],
      ],
      "head",
      (value) => (this.where = value),
    );
    this.caption = element("h3", {});
    const bar = element("div", { class: "bar" }, element("span", { class: "note", text: "Cut in" }), this.scopes);
    const list = element("div", { class: "edge-list" }, this.caption, this.edges);
    const note =
      "The weight of an edge is the share of the message that comes along it. Cut one: the others share what it had.";
    this.card = card(id, "The graph", note, bar, element("div", { class: "graph-box" }, this.svg, list));
  }

  render(frame) {
    this.frame = frame;
    this.svg.toggleAttribute("hidden", Boolean(frame.onPicture)); // the image itself shows the edges
    this.window();
    if (!frame.onPicture) this.renderGraph();
    this.renderList();
  }

  // The tokens shown: those around the selected one.
  window() {
    const { frame } = this,
      part = (count, middle) => {
        const first = Math.max(0, Math.min(count - SHOWN, middle - Math.floor(SHOWN * 0.75)));
        return { first, last: Math.min(count, first + SHOWN) };
      };
    this.queries = part(frame.queries.length, frame.query);
    const row = frame.row(frame.layer, frame.head, frame.query),
      peak = largest(row, 1)[0] ?? 0;
    this.keys = frame.ownKeys ? this.queries : part(frame.keys.length, peak + 6);
  }

  renderGraph() {
    const { frame, queries, keys } = this,
      rows = Math.max(queries.last - queries.first, keys.last - keys.first);
    this.svg.setAttribute("viewBox", `0 0 ${WIDE} ${rows * LINE + 8}`);
    this.margins = [
      [frame.queries, queries],
      [frame.keys, keys],
    ].map(([tokens, part]) => this.margin(tokens, part));
    const lines = [];
    for (let query = queries.first; query < queries.last; query++)
      if (query !== frame.query) lines.push(...this.lines(query));
    lines.push(...this.lines(frame.query));
    replaceChildren(this.svg, lines, this.names(queries, frame.queries, "query"), this.names(keys, frame.keys, "key"));
  }

  // Room for the longest name.
  margin(tokens, { first, last }) {
    return 22 + 7.4 * Math.max(...tokens.slice(first, last).map((token) => shortened(token).length));
  }

  lines(query) {
    const { frame, keys } = this,
      row = frame.row(frame.layer, frame.head, query),
      chosen = query === frame.query,
      made = [];
    for (let key = keys.first; key < keys.last; key++) {
      const share = row[key] ?? 0,
        gone = frame.isCut(query, key);
      if (gone || share >= (chosen ? LEAST : 0.12)) made.push(this.line(query, key, share, chosen, gone));
    }
    return made;
  }

  line(query, key, share, chosen, gone) {
    const y = (place, part) => (place - part.first + 0.5) * LINE + 4;
    const [from, to] = [this.margins[0], WIDE - this.margins[1]],
      middle = (from + to) / 2;
    const d =
      `M${from} ${y(query, this.queries)}C${middle} ${y(query, this.queries)} ${middle} ${y(key, this.keys)} ` +
      `${to} ${y(key, this.keys)}`;
    const width = gone ? 1.5 : 0.6 + 7 * share;
    const seen = svgElement("path", {
      d,
      class: "seen",
      "stroke-width": width,
      opacity: gone ? 1 : chosen ? 0.3 + 0.7 * share : 0.16,
    });
    const classes = ["edge", chosen ? "chosen" : "", gone ? "severed" : ""].join(" ");
    const title = svgElement("title", { text: `${this.edgeName(query, key)}: ${gone ? "cut" : percent(share)}` });
    const group = svgElement("g", { class: classes, "data-query": query, "data-key": key }, title, seen);
    if (chosen || gone) group.append(svgElement("path", { d, class: "reach" }));
    group.addEventListener("click", () => this.cut(query, key, !gone, this.where));
    return group;
  }

  names(part, tokens, side) {
    const left = side === "query";
    return Array.from({ length: part.last - part.first }, (_, n) => {
      const place = part.first + n,
        token = tokens[place],
        chosen = left && place === this.frame.query;
      const text = svgElement("text", {
        x: left ? this.margins[0] - 8 : WIDE - this.margins[1] + 8,
        y: (n + 0.5) * LINE + 8,
        "text-anchor": left ? "end" : "start",
        class: `name ${chosen ? "chosen" : ""}`,
        text: shortened(token),
      });
      text.append(svgElement("title", { text: token.title }));
      if (left) text.addEventListener("click", () => this.choose(place));
      return text;
    });
  }

  renderList() {
    const { frame } = this,
      { query } = frame,
      row = frame.row(frame.layer, frame.head, query);
    this.caption.textContent = `${nameOf(frame.queries[query])} attends to`;
    const cut = frame.keys.map((_, key) => key).filter((key) => frame.isCut(query, key));
    const shown = [...new Set([...cut, ...largest(row, 10).filter((key) => row[key] > 0)])];
    replaceChildren(
      this.edges,
      shown.map((key) => this.item(query, key, row[key] ?? 0)),
    );
  }

  item(query, key, share) {
    const gone = this.frame.isCut(query, key),
      bar = element("span", { class: "share", style: `--share:${100 * share}%` });
    const flip = button(gone ? "restore" : "cut", () => this.cut(query, key, !gone, this.where), {
      "aria-label": `${gone ? "restore" : "cut"} the edge ${this.edgeName(query, key)}`,
      class: "small",
    });
    const name = element("span", {
      class: "token",
      text: nameOf(this.frame.keys[key]),
      title: this.frame.keys[key].title,
    });
    return element(
      "li",
      { class: gone ? "severed" : "" },
      name,
      bar,
      element("span", { class: "number", text: gone ? "cut" : percent(share) }),
      flip,
    );
  }

  edgeName(query, key) {
    const { frame } = this;
    return `from ${frame.queries[query].title} to ${frame.keys[key].title}`;
  }
}

// A token by a name of its own, where its text alone would not tell it apart.
function nameOf({ name, text }) {
  return name ?? text;
}

function shortened(token) {
  const name = nameOf(token);
  return name.length > MOST_LETTERS ? `${name.slice(0, MOST_LETTERS - 1)}…` : name;
}
