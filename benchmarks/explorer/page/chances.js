// What the model answers: probabilities, now and before anything was cut.

class Chances {
  // sampled: whether temperature, top-k and top-p apply; take(id): puts an answer to use
  constructor(id, title, note, { sampled = false, settings, changed, take = null, actions = [] } = {}) {
    Object.assign(this, { sampled, settings, changed, take });
    this.bars = element("ol", { class: "bars" });
    this.caption = element("p", { class: "reading" });
    this.moved = element("p", { class: "moved", "aria-live": "polite" });
    const controls = sampled ? element("div", { class: "controls" }, this.sliders()) : null;
    const row = actions.length ? element("div", { class: "bar" }, actions) : null;
    this.card = card(id, title, note, this.caption, this.bars, this.moved, row, controls);
  }

  sliders() {
    const set = (name) => (value) => {
      this.settings[name] = value;
      this.changed();
    };
    const { settings } = this;
    return [
      slider(
        "temperature",
        { min: 0, max: 2, step: 0.05, value: settings.temperature, shown: (v) => v.toFixed(2), id: "temperature" },
        set("temperature"),
      ),
      slider(
        "top-k",
        { min: 0, max: 50, step: 1, value: settings.topK, shown: (v) => (v ? String(v) : "all"), id: "top-k" },
        set("topK"),
      ),
      slider(
        "top-p",
        { min: 0.05, max: 1, step: 0.05, value: settings.topP, shown: (v) => v.toFixed(2), id: "top-p" },
        set("topP"),
      ),
    ];
  }

  render({ answers }) {
    if (!answers) return;
    const settings = this.sampled ? this.settings : {},
      now = probabilities(answers.logits, settings);
    const before = answers.intact ? probabilities(answers.intact, settings) : null;
    const shown = largest(
      now.map((share, id) => Math.max(share, before?.[id] ?? 0)),
      10,
    ).filter((id) => Math.max(now[id], before?.[id] ?? 0) > 0);
    shown.sort((a, b) => now[b] - now[a]);
    this.caption.textContent = answers.caption;
    replaceChildren(
      this.bars,
      shown.map((id) => this.bar(id, now[id], before?.[id], answers)),
    );
    this.moved.textContent = before ? this.movement(now, before, answers) : "";
    this.now = now;
  }

  bar(id, share, before, answers) {
    const drawn = element("span", { class: "share", style: `--share:${100 * share}%` });
    if (before !== undefined)
      drawn.append(
        element("i", { class: "before", style: `left:${100 * before}%`, title: `${percent(before)} before` }),
      );
    const name = answers.name(id),
      taken = this.take
        ? button(name.text, () => this.take(id), { class: "token", title: `${name.title}: take it` })
        : element("span", { class: "token", text: name.text, title: name.title });
    return element("li", {}, taken, drawn, element("span", { class: "number", text: percent(share) }));
  }

  // How far cutting has moved the answer: the Kullback-Leibler divergence, and whether the first has changed.
  movement(now, before, answers) {
    let divergence = 0;
    before.forEach((share, id) => (divergence += share > 0 ? share * Math.log(share / Math.max(now[id], 1e-9)) : 0));
    const [was, is] = [before, now].map((shares) => largest(shares, 1)[0]);
    const first =
      was === is ? "the first answer stays" : `${answers.name(was).text} was first, now ${answers.name(is).text}`;
    return `Cut: ${first}; the distributions differ by ${divergence.toFixed(3)} nats (the marks show where they were).`;
  }
}
