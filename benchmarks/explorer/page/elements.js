// Small parts of the page: elements, sliders, choices.

const SVG = "http://www.w3.org/2000/svg";

// An element with properties (on..., data-... and style among them) and children.
function element(tag, properties = {}, ...children) {
  return completed(document.createElement(tag), properties, children);
}

function svgElement(tag, properties = {}, ...children) {
  return completed(document.createElementNS(SVG, tag), properties, children);
}

function completed(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "text") made.textContent = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

function replaceChildren(parent, ...children) {
  parent.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

function button(text, onclick, properties = {}) {
  return element("button", { type: "button", text, onclick, ...properties });
}

// A part of the page with a heading, a sentence of what is seen, and a body.
function card(id, title, note, ...body) {
  const heading = element("h2", { text: title, id: `${id}-title` });
  const said = note ? element("p", { class: "note", text: note }) : null;
  return element("section", { class: "card", id, "aria-labelledby": `${id}-title` }, heading, said, ...body);
}

// A labelled slider; `shown` writes its value.
function slider(label, { min, max, step, value, shown = String, id }, changed) {
  const written = element("output", { text: shown(value) });
  const input = element("input", { type: "range", min, max, step, value, id, "aria-label": label });
  input.addEventListener("input", () => {
    written.textContent = shown(+input.value);
    changed(+input.value);
  });
  const row = element("label", { class: "slider" }, element("span", { text: label }), input, written);
  row.set = (next) => {
    input.value = next;
    written.textContent = shown(next);
  };
  return row;
}

// One of several, as a row of buttons.
function choice(label, options, chosen, changed) {
  const row = element("div", { class: "choice", role: "radiogroup", "aria-label": label });
  const pick = (value) => {
    [...row.children].forEach((made) =>
      made.setAttribute("aria-checked", String(made.dataset.value === String(value))),
    );
  };
  for (const [value, text] of options) {
    const take = () => {
      pick(value);
      changed(value);
    };
    row.append(button(text, take, { role: "radio", "data-value": value }));
  }
  pick(chosen);
  row.set = pick;
  return row;
}

function percent(share) {
  if (share >= 0.9995) return "100 %";
  return share >= 0.1 ? `${(100 * share).toFixed(0)} %` : share >= 0.0005 ? `${(100 * share).toFixed(1)} %` : "0 %";
}

function short(number) {
  return Math.abs(number) >= 100 ? number.toFixed(0) : Math.abs(number) >= 10 ? number.toFixed(1) : number.toFixed(2);
}

function nextFrame() {
  return new Promise((resolve) => setTimeout(resolve));
}

// Whether nothing is to move by itself.
function calm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
