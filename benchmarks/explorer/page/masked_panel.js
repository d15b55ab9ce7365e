// An encoder: every token attends to every token; it fills in what is hidden, or gives labels.

class MaskedPanel extends Session {
  constructor(run, weights) {
    super(run, weights);
    this.model = new Encoder(run, weights);
    this.tokenizer = new Tokenizer(run.tokenizer);
    this.layer = this.layers - 1;
    this.hidden = new Set();
    this.commonViews();
    this.input = textInput("the text", run.prompt, () => this.typed());
    this.note = element("p", { class: "notice", "aria-live": "polite" });
    const fills = run.shape.answers === "tokens";
    const mask = run.tokenizer.special.mask;
    const hide =
      fills && mask !== undefined ? button("Hide the selected token", () => this.hide(), { id: "hide" }) : null;
    this.tokens = new TokenView(
      "tokens",
      "Tokens",
      "Point at a token to see what it attends to, before it and behind it.",
      "queries",
      (token) => this.select(token),
    );
    this.chances = new Chances(
      "chances",
      fills ? "What stands here" : run.shape.pooling ? "Label of the text" : "Label of the token",
      null,
      { actions: hide ? [hide] : [] },
    );
    this.views = [this.tokens, this.chances, this.graph, this.lensView, this.grid];
    const prompt = card("input", "Text", null, this.input, this.note, element("div", { class: "bar" }, this.restore));
    this.build([prompt, this.tokens, this.graph], [this.chances, this.lensView]);
    this.encode();
    if (hide) this.hidden.add(Math.floor(this.ids.length / 2));
    this.query = Math.floor(this.ids.length / 2);
  }

  typed() {
    this.hidden.clear();
    this.encode();
    this.update();
  }

  encode() {
    const { ids, unknown } = this.tokenizer.framed(this.input.value),
      { context } = this.model;
    this.ids = ids.slice(0, context);
    this.unknown = unknown;
    this.query = Math.min(this.query, Math.max(0, this.ids.length - 1));
    const beyond = ids.length > context ? `Only the first ${context} tokens are read. ` : "";
    this.note.textContent =
      beyond + unknownNote(unknown) + (ids.length ? "" : "Type something: there is nothing to attend to yet.");
  }

  hide() {
    if (!this.hidden.delete(this.query)) this.hidden.add(this.query);
    this.update();
  }

  *work() {
    const ids = this.ids.map((id, n) => (this.hidden.has(n) ? this.run.tokenizer.special.mask : id));
    this.read = ids;
    if (!ids.length) return;
    this.intact = this.model.read(ids);
    yield false;
    this.state = this.cuts.empty ? this.intact : this.model.read(ids, this.cuts);
  }

  makeFrame() {
    if (!this.ids.length) return emptyFrame(this);
    const { state, query, model, run } = this,
      { labels, pooling } = run.shape;
    const frame = this.frame(state, shownTokens(this.tokenizer, this.read, this.unknown));
    const answer = (of) => model.answer(pooling ? model.pooled(of) : of.out.row(query));
    frame.queries.forEach((token, n) => (token.style += this.hidden.has(n) ? " hidden" : ""));
    frame.answers = {
      logits: answer(state),
      intact: this.cuts.empty ? null : answer(this.intact),
      name: labels.length
        ? (id) => ({ text: labels[id], title: labels[id] })
        : (id) => ({ text: this.tokenizer.show(id), title: `id ${id}` }),
      caption: pooling ? "of the whole text" : `at token ${query + 1}, ${frame.queries[query].text}`,
    };
    if (!pooling || pooling === "class") frame.lens = (level) => model.lens(state, level, pooling ? 0 : query);
    return frame;
  }

  saved() {
    return { ...super.saved(), text: this.input.value, hidden: [...this.hidden] };
  }

  resume(saved) {
    this.input.value = saved.text;
    this.encode();
    this.hidden = new Set(saved.hidden);
    super.resume(saved);
  }
}
