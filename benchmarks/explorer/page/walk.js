// A guided walk: one token through the model in eight steps, with the numbers of this very model.

const STEPS = [
  {
    title: "A token becomes a vector",
    at: "tokens",
    say: () =>
      "Attention passes messages on a graph. Its nodes are tokens, and each begins as a vector: a row of a " +
      "table, or a linear map of pixels or numbers. This is how the selected token enters the first block.",
    show: ({ frame, query }) => [strip(frame.state.residual(0, query), "what enters the first block")],
  },
  {
    title: "Where it stands",
    at: "tokens",
    say: ({ stack }) =>
      `A set of nodes has no order, so places must come in. Here: ${POSITION_WORDS[stack.positions.shared.kind]}.`,
    show: ({ frame, stack, query }) => [
      element("p", {
        class: "note",
        text: `Coordinates of this token: ${frame.state.coords[query].map(short).join(", ")}.`,
      }),
      ...rotated(stack, frame, query),
    ],
  },
  {
    title: "Query, key and value",
    at: "heads",
    say: () =>
      "Each node makes three vectors: a query (what it looks for), a key (what it offers) and a value (what " +
      "it passes on if it is attended to). These are the first head’s, or the chosen one’s.",
    show: ({ layer, part, query }) =>
      ["queries", "keys", "values"].map((name) =>
        strip(part(layer[name], query), name.slice(0, -1).replace("querie", "query")),
      ),
  },
  {
    title: "Softmax: shares of attention",
    at: "graph",
    say: ({ frame, query }) =>
      `Query times key is a score for every edge; softmax turns the scores into shares that add up to one. ` +
      `${frame.queries[query].text} attends most to:`,
    show: ({ frame, query }) => [shareBars(frame, query)],
  },
  {
    title: "Heads: several messages at once",
    at: "heads",
    say: ({ frame }) =>
      `The message is the mean of the values, weighted by the shares. ${frame.heads} head${frame.heads > 1 ? "s" : ""} ` +
      "do this side by side, each with its own graph. How long each one’s message is:",
    show: ({ session, layer, query }) => [headBars(session, layer, query)],
  },
  {
    title: "Feed-forward: then each computes alone",
    at: "layers",
    say: () =>
      "After communicating, every token computes by itself, through two linear maps with an activation " +
      "between. These are the hidden numbers of this token in the chosen layer.",
    show: ({ session, stack, frame, query }) => [
      strip(hiddenOf(stack, stack.blocks[session.layer], frame.state, query), "hidden numbers"),
    ],
  },
  {
    title: "Residual stream: nothing is overwritten",
    at: "layers",
    say: () =>
      "Both branches only add to the vector that came in. So a token carries a stream from the first block " +
      "to the last, and each block writes into it. Its length, block by block:",
    show: ({ frame, query }) => [streamBars(frame, query)],
  },
  {
    title: "Logits: the answer",
    at: "chances",
    say: () =>
      "The head compares the last vector with everything that could be answered: logits, and by softmax " +
      "probabilities. Cut an edge or a head now, and watch them move.",
    show: () => [],
  },
];

const POSITION_WORDS = {
  none: "the tokens carry their time themselves, as a vector that was added to them",
  learned: "a learned vector for every place is added to the token",
  sinusoidal: "sines and cosines of the place are added to the token",
  rotary: "queries and keys are rotated by angles that grow with the place, so that scores depend on distances",
  alibi: "scores are lowered by the distance between two tokens",
  t5: "a learned number for the distance is added to every score",
};

function rotated(stack, frame, query) {
  const place = stack.positions.shared;
  if (place.kind !== "rotary") return [];
  return [strip(Float32Array.from(place.angles(frame.state.coords[query]), Math.cos), "cosines of its angles")];
}

function valueBars(pairs) {
  const most = Math.max(...pairs.map(([, value]) => value)) || 1;
  return element(
    "ol",
    { class: "bars" },
    pairs.map(([name, value, shown]) =>
      element(
        "li",
        {},
        element("span", { class: "token", text: name }),
        element("span", { class: "share", style: `--share:${(100 * value) / most}%` }),
        element("span", { class: "number", text: shown ?? short(value) }),
      ),
    ),
  );
}

function shareBars(frame, query) {
  const row = frame.row(frame.layer, frame.head, query);
  return valueBars(largest(row, 5).map((key) => [frame.keys[key].text, row[key], percent(row[key])]));
}

function headBars(session, layer, query) {
  const width = session.stack.core.head_width,
    mixed = layer.mixed.row(query);
  return valueBars(
    Array.from({ length: session.heads }, (_, h) => [
      `head ${h + 1}`,
      lengthOf(mixed.subarray(h * width, (h + 1) * width)),
    ]),
  );
}

function streamBars(frame, query) {
  return valueBars(
    Array.from({ length: frame.stackDepth + 1 }, (_, level) => [
      level ? `after ${level}` : "before",
      lengthOf(frame.state.residual(level, query)),
    ]),
  );
}

function hiddenOf(stack, block, state, query) {
  const { core } = stack,
    x = state.layers[block.layer].attended.row(query).slice();
  const read = core.norm_placement === "pre" ? normalise(x, block.feedforward.norm, core.dim) : x;
  return activate(linear(read, block.feedforward.up), core.feedforward, core.ffn_width);
}

class Walk {
  constructor(session) {
    this.session = session;
    this.step = 0;
    this.heading = element("h3", {});
    this.text = element("p", {});
    this.body = element("div", { class: "walk-body" });
    this.back = button("Back", () => this.go(-1));
    this.next = button("Next", () => this.go(1), { class: "primary" });
    const close = button("✕", () => this.close(), { class: "close", "aria-label": "end the walk" });
    this.root = element(
      "aside",
      { class: `walk ${session.run.panel}`, role: "dialog", "aria-label": "guided walk", hidden: true },
      close,
      this.heading,
      this.text,
      this.body,
      element("div", { class: "bar" }, this.back, this.next),
    );
    this.root.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
  }

  open(step = 0) {
    this.step = step;
    this.root.hidden = false;
    this.session.onframe = () => this.render();
    this.render();
    this.next.focus();
    this.pointOut();
  }

  close() {
    this.root.hidden = true;
    this.session.onframe = () => {};
    this.marked?.classList.remove("pointed");
  }

  go(by) {
    if (this.step + by >= STEPS.length) return this.close();
    this.step = Math.max(0, this.step + by);
    this.render();
    this.pointOut();
  }

  // Marks the part of the page that the step is about, and brings it into sight.
  pointOut() {
    this.marked?.classList.remove("pointed");
    this.marked = document.getElementById(STEPS[this.step].at);
    this.marked?.classList.add("pointed");
    this.marked?.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
  }

  render() {
    const { session } = this,
      step = STEPS[this.step],
      frame = session.current;
    if (frame.empty) return this.close();
    const layer = frame.state.layers[session.layer],
      head = Math.max(0, session.head),
      width = session.stack.core.head_width;
    const part = (rows, token) =>
      rows
        .row(token)
        .slice()
        .subarray(...headRange(rows, head, width, session.heads));
    const seen = { session, frame, stack: session.stack, query: frame.query, layer, part };
    this.heading.textContent = `${this.step + 1} of ${STEPS.length} · ${step.title}`;
    this.text.textContent = step.say(seen);
    replaceChildren(this.body, step.show(seen));
    this.back.disabled = this.step === 0;
    this.next.textContent = this.step + 1 === STEPS.length ? "Done" : "Next";
  }
}

// The channels of a head; several heads may share keys and values.
function headRange(rows, head, width, heads) {
  const own = Math.floor((head * (rows.width / width)) / heads);
  return [own * width, (own + 1) * width];
}
