// A GPT: type, and see what comes next and why.

class TextPanel extends Session {
  constructor(run, weights) {
    super(run, weights);
    this.model = new GPT(run, weights);
    this.tokenizer = new Tokenizer(run.tokenizer);
    this.layer = this.layers - 1;
    this.intactReader = this.model.newReader();
    this.cutReader = this.model.newReader();
    this.commonViews();
    this.input = textInput("the prompt", run.prompt, () => this.typed());
    this.note = element("p", { class: "notice", "aria-live": "polite" });
    this.tokens = new TokenView(
      "tokens",
      "Tokens",
      "Point at a token to see what it attends to; select it to look through it everywhere.",
      "queries",
      (token) => this.select(token),
    );
    this.chances = new Chances("chances", "Next token", null, {
      sampled: true,
      settings: this.settings,
      changed: () => this.draw(),
      take: (id) => this.write(id),
      actions: [
        button("Draw one", () => this.write(draw(this.chances.now)), { id: "draw" }),
        button("Most probable", () => this.write(largest(this.chances.now, 1)[0]), { id: "likeliest" }),
        button("Write 20", () => this.writeOn(20), { id: "write" }),
      ],
    });
    this.views = [this.tokens, this.chances, this.graph, this.lensView, this.grid];
    const prompt = card("input", "Prompt", null, this.input, this.note, element("div", { class: "bar" }, this.restore));
    this.build([prompt, this.tokens, this.graph], [this.chances, this.lensView]);
    this.encode();
  }

  typed() {
    this.encode();
    this.update();
  }

  encode() {
    const { ids, unknown } = this.tokenizer.encode(this.input.value),
      { bos } = this.run.tokenizer;
    if (bos !== null) unknown.forEach((each) => each.before++);
    this.setIds(bos === null ? ids : [bos, ...ids], unknown);
  }

  // What fits into the context: a quarter of it is dropped at a time, so that most keys cost one token.
  setIds(ids, unknown = []) {
    const { context } = this.model,
      step = Math.max(1, Math.floor(context / 4));
    const dropped = Math.max(0, Math.ceil((ids.length - context) / step) * step);
    Object.assign(this, { all: ids, ids: ids.slice(dropped), dropped });
    this.unknown = unknown
      .filter(({ before }) => before >= dropped)
      .map((each) => ({ ...each, before: each.before - dropped }));
    this.query = Math.max(0, this.ids.length - 1);
    const beyond = dropped ? `The first ${dropped} tokens are beyond the context of ${context}. ` : "";
    this.note.textContent =
      beyond +
      unknownNote(this.unknown) +
      (this.ids.length ? "" : "Type something: there is nothing to attend to yet.");
  }

  write(id) {
    if (!this.current) return;
    this.setIds([...this.all, id]);
    this.input.value = this.tokenizer.decode(this.all.slice(this.run.tokenizer.bos === null ? 0 : 1));
    return this.update();
  }

  async writeOn(count) {
    for (let n = 0; n < count && !this.run.tokenizer.stops.includes(this.all.at(-1)); n++) {
      await this.write(draw(this.chances.now));
      await nextFrame();
    }
  }

  *work() {
    this.intactReader.prepare(this.ids, new Cuts());
    if (!this.cuts.empty) this.cutReader.prepare(this.ids, this.cuts);
    const readers = this.cuts.empty ? [this.intactReader] : [this.intactReader, this.cutReader];
    for (const reader of readers) while (!reader.advance(4)) yield false;
  }

  makeFrame() {
    if (!this.ids.length) return emptyFrame(this);
    const intact = this.intactReader.state,
      state = this.cuts.empty ? intact : this.cutReader.state;
    this.query = Math.min(this.query, this.ids.length - 1);
    const frame = this.frame(state, shownTokens(this.tokenizer, this.ids, this.unknown)),
      { query } = this;
    frame.answers = {
      logits: this.model.answer(state.out.row(query)),
      intact: this.cuts.empty ? null : this.model.answer(intact.out.row(query)),
      name: (id) => ({ text: this.tokenizer.show(id), title: `id ${id}` }),
      caption: `after ${query + 1 === this.ids.length ? "the last token" : `token ${query + 1}`}, ${frame.queries[query].text}`,
    };
    frame.lens = (level) => this.model.lens(state, level, query);
    return frame;
  }

  saved() {
    return { ...super.saved(), text: this.input.value };
  }

  resume(saved) {
    this.input.value = saved.text;
    this.encode();
    super.resume(saved);
  }
}

// A frame of no tokens: views draw nothing.
function emptyFrame(session) {
  const { layer, head, cuts, part, heads, layers } = session;
  return {
    empty: true,
    queries: [],
    keys: [],
    ownKeys: true,
    query: 0,
    layer,
    head,
    cuts,
    part,
    heads,
    layers,
    row: () => NOTHING,
    isCut: () => false,
    stackDepth: layers,
    norm: () => 0,
  };
}
