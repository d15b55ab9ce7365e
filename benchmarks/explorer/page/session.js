// A model being looked at: what is selected, what is cut, and the frame that all views are drawn from.

const NOTHING = new Float32Array(0),
  SLICE = 12; // milliseconds of work between two looks at the keyboard

// One query's shares among its keys, for a head or (below 0) the mean of all.
function sharesOf(entry, heads, head) {
  if (!entry) return NOTHING;
  if (head >= 0) return entry.data.subarray(head * entry.count, (head + 1) * entry.count);
  const mean = new Float32Array(entry.count);
  for (let i = 0; i < entry.data.length; i++) mean[i % entry.count] += entry.data[i] / heads;
  return mean;
}

class Session {
  constructor(run, weights) {
    Object.assign(this, { run, weights, cuts: new Cuts(), query: 0, head: -1, turn: 0, views: [] });
    this.settings = { temperature: 1, topK: 0, topP: 1 };
    this.root = element("div", { class: `panel ${run.panel}` });
    this.onframe = () => {};
  }

  // The stack whose attention is shown, by its part.
  get stack() {
    return this.model.stack;
  }

  get part() {
    return this.stack.part;
  }

  get heads() {
    return this.stack.core.n_heads;
  }

  get layers() {
    return this.stack.core.depth;
  }

  // What is read from left to right: what goes in, what comes out, and below both the maps of all heads.
  build(left, right) {
    const columns = [left, right].map((cards) =>
      element(
        "div",
        { class: "column" },
        cards.map((view) => view.card ?? view),
      ),
    );
    replaceChildren(this.root, columns, this.grid.card);
  }

  commonViews() {
    this.graph = new EdgeGraph(
      "graph",
      (token) => this.select(token),
      (...edge) => this.cutEdge(...edge),
    );
    this.grid = new HeadGrid(
      "heads",
      (layer, head) => this.look(layer, head),
      (layer, head) => this.toggleHead(layer, head),
    );
    this.lensView = new Layers("layers");
    this.restore = button("Restore all", () => this.restoreAll(), { class: "quiet", hidden: true });
  }

  // What every view reads; a panel adds what it answers.
  frame(state, queries, keys = queries, weightsName = "weights") {
    const { layer, head, query, cuts, part, heads, layers } = this;
    const row = (l, h, q) => sharesOf(state.layers[l]?.[weightsName][q], heads, h);
    return {
      state,
      queries,
      keys,
      layer,
      head,
      query,
      cuts,
      part,
      heads,
      layers,
      row,
      ownKeys: keys === queries,
      isCut: (q, k) => this.isCut(q, k),
      stackDepth: state.layers.length,
      norm: (level) => lengthOf(state.residual(level, this.readAt ?? query)),
    };
  }

  isCut(query, key) {
    const { part, layer, head, cuts } = this;
    if (head >= 0) return cuts.has(part, layer, head, query, key);
    return Array.from({ length: this.heads }, (_, h) => h).every((h) => cuts.has(part, layer, h, query, key));
  }

  select(token) {
    this.query = token;
    this.draw();
  }

  look(layer, head) {
    Object.assign(this, { layer, head });
    this.draw();
  }

  toggleHead(layer, head) {
    this.cuts.toggleHead(this.part, layer, head);
    this.update();
  }

  // where: "head" (all heads where the mean is looked at), "layer" or "all"
  cutEdge(query, key, cut, where) {
    const all = (count) => Array.from({ length: count }, (_, n) => n);
    const layers = where === "all" ? all(this.layers) : [this.layer];
    const heads = where === "head" && this.head >= 0 ? [this.head] : all(this.heads);
    for (const layer of layers) for (const head of heads) this.cuts.set(this.part, layer, head, query, key, cut);
    this.update();
  }

  restoreAll() {
    this.cuts = new Cuts();
    this.update();
  }

  // Computes, in slices of time, then draws; a later call replaces an earlier one.
  async update() {
    const turn = ++this.turn;
    let began = performance.now();
    for (const done of this.work()) {
      if (done) break;
      if (performance.now() - began > SLICE) {
        this.root.classList.add("busy");
        await nextFrame();
        if (turn !== this.turn) return;
        began = performance.now();
      }
    }
    this.root.classList.remove("busy");
    this.draw();
  }

  draw() {
    const frame = (this.current = this.makeFrame());
    this.restore.hidden = this.cuts.empty;
    this.root.classList.toggle("empty", Boolean(frame.empty));
    if (frame.empty) return;
    for (const view of this.views) view.render(frame);
    this.onframe(frame);
  }

  // What a saved page goes on with.
  saved() {
    const { query, layer, head, settings } = this;
    return { query, layer, head, settings, heads: [...this.cuts.heads], edges: this.cuts.list() };
  }

  resume({ query, layer, head, settings, heads, edges }) {
    Object.assign(this, { query, layer, head });
    Object.assign(this.settings, settings);
    heads.forEach((place) => this.cuts.heads.add(place));
    edges.forEach((edge) => this.cuts.set(...edge, true));
  }
}

// A text that is typed, and what is done with it.
function textInput(label, value, changed) {
  const area = element("textarea", { id: "prompt", "aria-label": label, rows: 3, spellcheck: "false" });
  area.value = value;
  area.addEventListener("input", changed);
  return area;
}

// Token ids as views show them; characters that the vocabulary lacks hang on the token that follows, or the last.
function shownTokens(tokenizer, ids, unknown = []) {
  const tokens = ids.map((id, n) => ({
    text: tokenizer.show(id),
    title: `token ${n + 1}, id ${id}`,
    style: tokenizer.isBytes(id) ? "bytes" : "",
    before: "",
    after: "",
  }));
  for (const { before, character } of unknown) {
    if (before < tokens.length) tokens[before].before += character;
    else if (tokens.length) tokens[tokens.length - 1].after += character;
  }
  return tokens;
}

function unknownNote(unknown) {
  if (!unknown.length) return "";
  const characters = [...new Set(unknown.map(({ character }) => character))].join(" ");
  return `Not in the vocabulary, shown struck out and not read: ${characters}`;
}
