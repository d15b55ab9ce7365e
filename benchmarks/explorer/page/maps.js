// Numbers as pixels: attention maps, strips of a vector.

// Draws a map of queries (rows) and keys (columns) onto a canvas, at most `most` pixels a side.
function drawMap(canvas, queries, keys, rowOf, most = 160) {
  const wide = Math.min(keys, most),
    high = Math.min(queries, most);
  canvas.width = wide;
  canvas.height = high;
  const context = canvas.getContext("2d"),
    image = context.createImageData(wide, high),
    colours = scale();
  for (let y = 0; y < high; y++) {
    const greatest = new Float32Array(wide);
    const [from, to] = [Math.floor((y * queries) / high), Math.floor(((y + 1) * queries) / high)];
    for (let q = from; q < to; q++) pool(greatest, rowOf(q), keys, wide);
    for (let x = 0; x < wide; x++) setPixel(image, (y * wide + x) * 4, colours[shade(greatest[x])]);
  }
  context.putImageData(image, 0, 0);
}

// The greatest share of the keys that fall on each pixel.
function pool(greatest, row, keys, wide) {
  if (keys === wide) {
    for (let k = 0; k < row.length; k++) if (row[k] > greatest[k]) greatest[k] = row[k];
    return;
  }
  for (let k = 0; k < row.length; k++) {
    const x = Math.floor((k * wide) / keys);
    if (row[k] > greatest[x]) greatest[x] = row[k];
  }
}

function setPixel(image, at, [r, g, b]) {
  image.data[at] = r;
  image.data[at + 1] = g;
  image.data[at + 2] = b;
  image.data[at + 3] = 255;
}

// A vector as a strip of coloured cells.
function strip(vector, label) {
  const reach = maximum(vector.map(Math.abs)),
    canvas = element("canvas", { class: "strip", role: "img" });
  canvas.setAttribute("aria-label", `${label}: ${vector.length} numbers, length ${short(lengthOf(vector))}`);
  canvas.width = vector.length;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  vector.forEach((value, i) => {
    context.fillStyle = signedColour(value, reach);
    context.fillRect(i, 0, 1, 1);
  });
  const caption = element("span", {
    class: "caption",
    text: `${label} · ${vector.length} numbers, length ${short(lengthOf(vector))}`,
  });
  return element("div", { class: "strip-row" }, caption, canvas);
}
