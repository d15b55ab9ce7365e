// Through the layers: what the head would answer after each (the logit lens), and how long the residual stream is.

class Layers {
  constructor(id) {
    this.table = element("table", { class: "lens" });
    const note = "The residual stream after each layer, read by the model’s own head (the logit lens), and its length.";
    this.card = card(id, "Through the layers", note, this.table);
  }

  render(frame) {
    if (!frame.lens) return;
    const levels = Array.from({ length: frame.stackDepth + 1 }, (_, level) => level);
    const norms = levels.map(frame.norm),
      longest = maximum(norms);
    const head = element(
      "tr",
      {},
      ["after", "answer", "", "stream"].map((text) => element("th", { text, scope: "col" })),
    );
    replaceChildren(
      this.table,
      head,
      levels.map((level) => this.row(frame, level, norms[level], longest)),
    );
  }

  row(frame, level, norm, longest) {
    const shares = softmax(frame.lens(level)),
      best = largest(shares, 3);
    const answers = best.map((id, rank) => {
      const name = frame.answers.name(id);
      return element("span", {
        class: "token",
        style: `opacity:${1 - 0.25 * rank}`,
        title: `${name.title}: ${percent(shares[id])}`,
        text: name.text,
      });
    });
    const length = element("span", { class: "share", style: `--share:${(100 * norm) / longest}%` });
    return element(
      "tr",
      {},
      element("th", { scope: "row", text: level ? `layer ${level}` : "embedding" }),
      element("td", {}, answers),
      element("td", { class: "number", text: percent(shares[best[0]]) }),
      element("td", { class: "length", title: short(norm) }, length),
    );
  }
}
