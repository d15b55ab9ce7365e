// Tokens in reading order. The one that is looked at draws its edges to those it attends to.

class TokenView {
  // title: heading; side: "queries" or "keys" of a frame; choose(token): when one is selected
  constructor(id, title, note, side, choose) {
    Object.assign(this, { side, choose, spans: [], shownFor: null });
    this.list = element("div", { class: "tokens", role: "listbox", "aria-label": title, tabindex: "-1" });
    this.curves = svgElement("svg", { class: "curves", "aria-hidden": "true" });
    this.frameBox = element("div", { class: "token-box" }, this.curves, this.list);
    this.card = card(id, title, note, this.frameBox);
    this.list.addEventListener("pointerover", (event) => this.look(event.target));
    this.list.addEventListener("pointerleave", () => this.look(null));
    this.list.addEventListener("focusin", (event) => this.look(event.target));
    this.list.addEventListener("click", (event) => this.pick(event.target));
    this.list.addEventListener("keydown", (event) => this.move(event));
  }

  render(frame) {
    this.frame = frame;
    const tokens = frame[this.side];
    while (this.spans.length > tokens.length) this.spans.pop().remove();
    tokens.forEach((token, n) => this.renderToken(token, n));
    this.shade(frame.query);
  }

  renderToken(token, n) {
    const span = (this.spans[n] ??= this.list.appendChild(element("span", { role: "option", "data-token": n })));
    const classes = ["token", token.style, this.asks && n === this.frame.query ? "selected" : ""]
      .filter(Boolean)
      .join(" ");
    if (span.textContent !== token.text) span.textContent = token.text;
    if (span.className !== classes) span.className = classes;
    span.title = token.title;
    for (const side of ["before", "after"]) {
      if (token[side]) span.dataset[side] = token[side];
      else delete span.dataset[side];
    }
    span.tabIndex = n === (this.asks ? this.frame.query : 0) ? 0 : -1;
    span.setAttribute("aria-selected", String(this.asks && n === this.frame.query));
  }

  // Whether tokens of this view ask; else they are only attended to.
  get asks() {
    return this.side === "queries";
  }

  look(target) {
    const token = target?.dataset?.token;
    this.shade(token === undefined || !this.asks ? this.frame.query : +token);
    this.onlook?.(token === undefined ? this.frame.query : +token);
  }

  pick(target) {
    const token = target.dataset?.token;
    if (token !== undefined) this.choose(+token);
  }

  move(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -8, ArrowDown: 8, Home: -1e9, End: 1e9 }[event.key];
    if (!step || !this.asks) return;
    event.preventDefault();
    event.stopPropagation();
    const token = Math.max(0, Math.min(this.spans.length - 1, this.frame.query + step));
    this.choose(token);
    this.spans[token].focus();
  }

  // Shades the keys of a query by their shares, and draws curves to the largest of them.
  shade(query) {
    const { frame } = this,
      row = frame.row(frame.layer, frame.head, query);
    if (frame.ownKeys || !this.asks) {
      this.spans.forEach((span, n) => {
        const share = row[n] ?? 0;
        span.style.setProperty("--share", `${Math.round(100 * Math.sqrt(share))}%`);
        span.classList.toggle("strong", share > 0.3);
        span.classList.toggle("severed", frame.isCut(query, n));
      });
    }
    this.spans.forEach((span, n) => span.classList.toggle("looking", this.asks && n === query && n !== frame.query));
    if (frame.ownKeys) this.drawCurves(query, row);
  }

  drawCurves(query, row) {
    const ends = largest(row, 8).filter((key) => row[key] > 0.03 && key !== query && this.spans[key]);
    const middle = (span) => [span.offsetLeft + span.offsetWidth / 2, span.offsetTop];
    const from = this.spans[query];
    if (!from) return replaceChildren(this.curves);
    const [x, y] = middle(from);
    replaceChildren(
      this.curves,
      ends.map((key) => {
        const [u, v] = middle(this.spans[key]),
          lift = Math.max(1, Math.min(y, v) - Math.min(26, 8 + Math.abs(x - u) / 12));
        const path = `M${x} ${y + 2}C${x} ${lift} ${u} ${lift} ${u} ${v + 2}`;
        return svgElement("path", { d: path, "stroke-width": 1 + 4 * row[key], opacity: 0.35 + 0.65 * row[key] });
      }),
    );
  }
}
