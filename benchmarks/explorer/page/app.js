// The page: one tab a run, keys, light and dark, saving.

const PANELS = {
  gpt: TextPanel,
  encoder: MaskedPanel,
  seq2seq: TranslationPanel,
  vit: PicturePanel,
  agent: AgentPanel,
};
const KEYS = [
  ["← →", "the token before, behind"],
  ["↑ ↓", "the layer above, below"],
  ["[ ]", "the head before, behind"],
  ["x", "switch the head off and on"],
  ["c", "cut the strongest edge"],
  ["r", "restore all"],
  ["w", "walk"],
  ["d", "dark or light"],
  ["?", "these keys"],
];

const jsonOf = (id) => JSON.parse(document.getElementById(id).textContent);

class App {
  // bytes: of each run's weights
  constructor(runs, bytes) {
    Object.assign(this, { runs, bytes });
    this.sessions = [];
    this.stage = element("main", {});
    const saved = jsonOf("state");
    if (saved?.theme) document.documentElement.dataset.theme = saved.theme;
    replaceChildren(document.getElementById("app"), this.header(), this.stage, this.keyHelp());
    document.addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    saved?.runs.forEach((state, n) => state && this.session(n).resume(state));
    this.open(saved?.open ?? 0);
  }

  header() {
    this.tabs = this.runs.map((run, n) =>
      button(run.name, () => this.open(n), { role: "tab", class: run.panel, title: `${run.panel}, ${run.kind}` }),
    );
    const tools = [
      button("Walk", () => this.walk.open(), { id: "walk", title: "one token through the model in eight steps" }),
      button("Save PNG", () => this.savePicture(), {
        id: "save-png",
        title: "the graph, the answers and the maps as a picture",
      }),
      button("Save HTML", () => this.savePage(), { id: "save-html", title: "save this page as it stands" }),
      button("◐", () => this.flipTheme(), { id: "theme", title: "dark or light", "aria-label": "dark or light" }),
      button("?", () => this.keyDialog.showModal(), { id: "help", title: "keys", "aria-label": "keys" }),
    ];
    const name = element("h1", {}, element("b", { text: "Triptych" }), " explorer");
    return element(
      "header",
      {},
      name,
      element("div", { class: "tabs", role: "tablist", "aria-label": "models" }, this.tabs),
      element("div", { class: "tools" }, tools),
    );
  }

  keyHelp() {
    const rows = KEYS.map(([key, what]) =>
      element("tr", {}, element("th", {}, element("kbd", { text: key })), element("td", { text: what })),
    );
    this.keyDialog = element(
      "dialog",
      { "aria-label": "keys" },
      element("h2", { text: "Keys" }),
      element("table", {}, rows),
      element(
        "div",
        { class: "bar" },
        button("Close", () => this.keyDialog.close()),
      ),
    );
    return this.keyDialog;
  }

  // The session of a run, its weights decoded when it is first opened.
  session(n) {
    if (!this.sessions[n]) {
      const run = this.runs[n];
      this.sessions[n] = new PANELS[run.kind](run, new Weights(run.tensors, run.format, this.bytes[n]));
    }
    return this.sessions[n];
  }

  open(n) {
    this.walk?.close();
    this.at = n;
    const session = (this.current = this.session(n));
    this.walk = new Walk(session);
    this.tabs.forEach((tab, m) => tab.setAttribute("aria-selected", String(m === n)));
    document.title = `${session.run.name} · Triptych explorer`;
    replaceChildren(this.stage, session.root, facts(session.run), this.walk.root);
    return session.update();
  }

  key(event) {
    if (event.target.closest("textarea, input, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = this.actions()[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  actions() {
    const { current: session } = this,
      { layers, heads } = session,
      count = session.current?.queries.length ?? 0;
    const token = (by) => () => session.select(Math.max(0, Math.min(count - 1, session.query + by)));
    const layer = (by) => () => session.look(Math.max(0, Math.min(layers - 1, session.layer + by)), session.head);
    const head = (by) => () => session.look(session.layer, Math.max(-1, Math.min(heads - 1, session.head + by)));
    return {
      ArrowLeft: token(-1),
      ArrowRight: token(1),
      ArrowUp: layer(-1),
      ArrowDown: layer(1),
      "[": head(-1),
      "]": head(1),
      x: () => session.head >= 0 && session.toggleHead(session.layer, session.head),
      c: () => cutStrongest(session),
      r: () => session.restoreAll(),
      w: () => this.walk.open(),
      d: () => this.flipTheme(),
      "?": () => this.keyDialog.showModal(),
    };
  }

  flipTheme() {
    const { dataset } = document.documentElement,
      system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    dataset.theme = (dataset.theme ?? system) === "dark" ? "light" : "dark";
    this.recolour();
  }

  recolour() {
    forgetColours();
    this.current.draw();
  }

  state() {
    return {
      open: this.at,
      theme: document.documentElement.dataset.theme,
      runs: this.runs.map((_, n) => this.sessions[n]?.saved() ?? null),
    };
  }

  savePage() {
    download("explorer.html", new Blob([pageWithState(this.state())], { type: "text/html" }));
  }

  async savePicture() {
    download(`${this.current.run.name.replaceAll("/", "-")}.png`, await picture(this.current));
  }
}

function cutStrongest(session) {
  const { current: frame } = session,
    row = frame.row(frame.layer, frame.head, frame.query);
  if (row.length) session.cutEdge(frame.query, largest(row, 1)[0], true, session.graph.where);
}

// What the model is, in one line.
function facts({ kind, parameters, format, change, stacks }) {
  const { core } = stacks.core ?? stacks.decoder,
    places = (stacks.core ?? stacks.decoder).position.kind;
  const said = [
    `${(parameters / 1e6).toFixed(2)} million parameters in ${format}${roundingNote(change)}`,
    `${core.depth} blocks, ${core.dim} wide, ${core.n_heads} heads`,
    `${places} positions`,
    core.norm,
    core.feedforward,
    kind,
  ];
  return element("footer", {
    text: `${said.join(" · ")}. Everything is computed on this page, to 1e-4 as PyTorch computes it with these weights; nothing is sent anywhere.`,
  });
}

// What rounding did, where it is more than the page may differ by from PyTorch.
function roundingNote(change) {
  if (change <= 1e-4) return "";
  return ` (rounded for a small page: the logits of the weights as trained differ by up to ${change.toPrecision(1)})`;
}

async function start() {
  if (!window.DecompressionStream) throw new Error("it cannot unpack the models (DecompressionStream)");
  const runs = jsonOf("runs");
  const bytes = await Promise.all(runs.map((_, n) => inflated(document.getElementById(`weights-${n}`).textContent)));
  window.explorer = Object.assign(new App(runs, bytes), { Cuts, probabilities });
}

start().catch((error) => {
  document.getElementById("app").textContent = `This browser cannot show the page: ${error.message}.`;
  throw error;
});
