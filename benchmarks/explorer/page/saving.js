// The page saved as it stands: as HTML that opens again in the same state, or as a picture.

function download(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function pageWithState(state) {
  const copy = document.documentElement.cloneNode(true);
  copy.querySelector("#app").replaceChildren();
  copy.querySelector("#state").textContent = JSON.stringify(state).replaceAll("</", "<\\/");
  return `<!doctype html>\n${copy.outerHTML}`;
}

// Draws the graph, the answers and the maps of all heads onto one canvas.
async function picture(session) {
  const canvas = element("canvas", { width: 1400, height: 1000 }),
    context = canvas.getContext("2d");
  const ink = rgb(styleColour("--ink")),
    frame = session.current;
  context.fillStyle = rgb(styleColour("--paper"));
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = ink;
  context.font = "28px Georgia, serif";
  const head = frame.head < 0 ? "mean of the heads" : `head ${frame.head + 1}`;
  context.fillText(`${session.run.name}: layer ${frame.layer + 1}, ${head}`, 40, 56);
  drawAnswers(context, frame, ink);
  drawMaps(context, session.grid.cells, frame, ink);
  const graph = await imageOf(session.graph.svg);
  const ratio = Math.min(640 / graph.width, 860 / graph.height);
  context.drawImage(graph, 40, 96, graph.width * ratio, graph.height * ratio);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function drawAnswers(context, frame, ink) {
  if (!frame.answers) return;
  const shares = softmax(frame.answers.logits);
  context.font = "18px system-ui, sans-serif";
  context.fillText(frame.answers.caption, 740, 110);
  largest(shares, 6).forEach((id, n) => {
    const y = 146 + 34 * n;
    context.fillStyle = rgb(styleColour("--scale-2"));
    context.fillRect(920, y - 16, 300 * shares[id], 20);
    context.fillStyle = ink;
    context.fillText(frame.answers.name(id).text, 740, y);
    context.fillText(percent(shares[id]), 1240, y);
  });
}

function drawMaps(context, cells, frame, ink) {
  const side = Math.min(140, 600 / (frame.heads + 1), 560 / frame.layers);
  context.imageSmoothingEnabled = false;
  context.fillStyle = context.strokeStyle = ink;
  for (const { layer, head, canvas } of cells) {
    const [x, y] = [740 + (head < 0 ? frame.heads : head) * side, 390 + layer * side];
    context.drawImage(canvas, x, y, side - 8, side - 8);
    if (layer === frame.layer && head === frame.head) context.strokeRect(x - 2, y - 2, side - 4, side - 4);
  }
}

// An SVG of the page as an image: its styles are written into it.
function imageOf(svg) {
  const copy = svg.cloneNode(true),
    [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  copyStyles(svg, copy);
  copy.setAttribute("xmlns", SVG);
  copy.setAttribute("width", width * 2);
  copy.setAttribute("height", height * 2);
  const image = new Image(width * 2, height * 2);
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  return image.decode().then(() => image);
}

const INLINED = ["fill", "stroke", "stroke-dasharray", "opacity", "font-family", "font-size", "font-weight"];

function copyStyles(from, to) {
  const style = getComputedStyle(from);
  INLINED.forEach((name) => to.style.setProperty(name, style.getPropertyValue(name)));
  [...from.children].forEach((child, n) => copyStyles(child, to.children[n]));
}
