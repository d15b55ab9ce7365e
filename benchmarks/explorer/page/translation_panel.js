// An encoder-decoder: the target is written token by token, and each of its tokens attends to the source.

const PARTS = [
  ["cross", "target → source"],
  ["self", "target → target"],
  ["encoder", "source → source"],
];

class TranslationPanel extends Session {
  constructor(run, weights) {
    super(run, weights);
    this.model = new Seq2Seq(run, weights);
    this.tokenizer = new Tokenizer(run.tokenizer);
    this.shownPart = "cross";
    this.layer = Math.max(0, this.layers - 2);
    this.commonViews();
    this.input = textInput("the source", run.prompt, () => this.typed());
    this.note = element("p", { class: "notice", "aria-live": "polite" });
    this.output = element("p", { class: "written", "aria-live": "polite", lang: "und" });
    this.parts = choice("whose attention is shown", PARTS, "cross", (part) => this.showPart(part));
    this.source = new TokenView("source", "Source tokens", null, "keys", () => {});
    this.target = new TokenView(
      "tokens",
      "Target tokens",
      "Point at one to see which source tokens it attends to.",
      "queries",
      (token) => this.select(token),
    );
    this.target.onlook = (query) => this.source.shade(query);
    this.map = new LabelledMap("alignment", (...edge) => this.cutEdge(...edge, "head"));
    this.chances = new Chances("chances", "Next target token", null);
    this.views = [this.source, this.target, this.map, this.chances, this.graph, this.lensView, this.grid];
    const prompt = card(
      "input",
      "Source",
      null,
      this.input,
      this.note,
      this.output,
      element("div", { class: "bar" }, this.parts, this.restore),
    );
    this.build([prompt, this.source, this.target, this.map, this.graph], [this.chances, this.lensView]);
    this.encode();
  }

  get stack() {
    return this.shownPart === "encoder" ? this.model.encoder : this.model.stack;
  }

  get part() {
    return this.shownPart;
  }

  showPart(part) {
    this.shownPart = part;
    this.parts.set(part);
    Object.assign(this, { layer: Math.min(this.layer, this.layers - 1), query: 0 });
    this.draw();
  }

  typed() {
    this.encode();
    this.update();
  }

  encode() {
    const { ids, unknown } = this.tokenizer.encode(this.input.value),
      { context, eos } = this.run.shape;
    this.ids = ids.length ? [...ids.slice(0, context - 1), eos] : [];
    this.unknown = unknown;
    const beyond = ids.length >= context ? `Only the first ${context - 1} tokens are read. ` : "";
    this.note.textContent =
      beyond + unknownNote(unknown) + (ids.length ? "" : "Type something: there is nothing to attend to yet.");
  }

  // The source is encoded, then the most probable token is written each time: first intact, then with the cuts.
  *work() {
    if (!this.ids.length) return;
    const kept = [new Cuts(), ...(this.cuts.empty ? [] : [this.cuts])];
    const found = [];
    for (const cuts of kept) {
      const memory = this.model.encode(this.ids, cuts);
      yield false;
      const reader = this.model.newReader(memory, cuts),
        target = [this.run.shape.start];
      while (this.extend(reader, target, cuts)) yield false;
      found.push({ memory, target, state: reader.state });
    }
    this.intact = found[0];
    this.now = found.at(-1);
  }

  extend(reader, target, cuts) {
    const { context, eos, undecoded } = this.run.shape;
    reader.read(target, cuts);
    const logits = this.model.answer(reader.state.out.row(target.length - 1));
    undecoded.forEach((id) => (logits[id] = -Infinity));
    const next = largest(logits, 1)[0];
    if (next === eos || target.length >= Math.min(context, 2 * this.ids.length + 10)) return false;
    target.push(next);
    return true;
  }

  makeFrame() {
    if (!this.ids.length) return emptyFrame(this);
    const { shape } = this.run,
      { memory, target, state } = this.now;
    const source = shownTokens(this.tokenizer, this.ids, this.unknown),
      written = shownTokens(this.tokenizer, target);
    source.at(-1).text = "(end)";
    written[0].text = "(start)";
    this.output.textContent = this.tokenizer.decode(target.slice(1));
    const encoder = this.shownPart === "encoder",
      cross = this.shownPart === "cross";
    this.query = Math.min(this.query, (encoder ? source : written).length - 1);
    const frame = this.frame(
      encoder ? memory : state,
      encoder ? source : written,
      cross ? source : undefined,
      cross ? "crossWeights" : "weights",
    );
    if (encoder) return frame;
    const { query } = this,
      same =
        this.intact.target.length > query &&
        String(this.intact.target.slice(0, query + 1)) === String(target.slice(0, query + 1));
    frame.answers = {
      logits: this.model.answer(state.out.row(query)),
      intact: this.cuts.empty || !same ? null : this.model.answer(this.intact.state.out.row(query)),
      name: (id) => ({ text: id === shape.eos ? "(end)" : this.tokenizer.show(id), title: `id ${id}` }),
      caption: `after ${written[query].text}`,
    };
    frame.lens = (level) => this.model.lens(state, level, query);
    return frame;
  }

  saved() {
    return { ...super.saved(), text: this.input.value, shownPart: this.shownPart };
  }

  resume(saved) {
    this.input.value = saved.text;
    this.encode();
    this.shownPart = saved.shownPart;
    this.parts.set(saved.shownPart);
    super.resume(saved);
  }
}

// A map with its tokens named: rows attend to columns. A click on a cell cuts its edge.
class LabelledMap {
  constructor(id, cut) {
    this.cut = cut;
    this.table = element("table", { class: "alignment" });
    this.card = card(
      id,
      "Alignment",
      "Rows attend to columns, in the chosen layer and head. Click a cell to cut its edge.",
      element("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": "alignment" }, this.table),
    );
  }

  render(frame) {
    const head = element(
      "tr",
      {},
      element("td"),
      frame.keys.map((key) => element("th", { scope: "col" }, element("span", { text: key.text }))),
    );
    replaceChildren(
      this.table,
      head,
      frame.queries.map((query, q) => this.row(frame, query, q)),
    );
  }

  row(frame, query, q) {
    const shares = frame.row(frame.layer, frame.head, q);
    const cells = frame.keys.map((key, k) => {
      const gone = frame.isCut(q, k),
        title = `${query.text} attends to ${key.text}: ${gone ? "cut" : percent(shares[k] ?? 0)}`;
      const cell = element("td", {
        title,
        class: gone ? "severed" : "",
        style: `background:${rgb(scale()[shade(shares[k] ?? 0)])}`,
      });
      cell.addEventListener("click", () => this.cut(q, k, !gone));
      return cell;
    });
    return element("tr", {}, element("th", { scope: "row", text: query.text }), cells);
  }
}
