// A Vision Transformer: what each square of an image attends to, drawn over the image.

class PicturePanel extends Session {
  constructor(run, weights) {
    super(run, weights);
    this.model = new ViT(run, weights);
    this.layer = this.layers - 1;
    this.pixels = run.examples.length ? this.exampleOf(run.examples[0]) : this.drawn(gradient);
    this.query = this.model.learnedCount + Math.floor(run.shape.side ** 2 / 2 + run.shape.side / 2);
    this.commonViews();
    this.picture = new PictureView(
      "tokens",
      (token) => this.select(token),
      (...edge) => this.cutEdge(...edge, this.graph.where),
    );
    this.chances = new Chances("chances", "Class", null);
    this.views = [this.picture, this.chances, this.graph, this.lensView, this.grid];
    this.build([this.chooser(), this.picture, this.graph], [this.chances, this.lensView]);
  }

  chooser() {
    const thumbs = this.run.examples.map((example) => {
      const canvas = element("canvas"),
        pixels = this.exampleOf(example);
      paintPixels(canvas, pixels, this.run.shape);
      return element(
        "button",
        {
          type: "button",
          class: "thumb",
          title: example.label,
          "aria-label": `image: ${example.label}`,
          onclick: () => this.open(pixels),
        },
        canvas,
      );
    });
    this.file = element("input", { type: "file", accept: "image/*", id: "file", "aria-label": "an image file" });
    this.file.addEventListener("change", () => this.openFile(this.file.files[0]));
    this.note = element("p", { class: "notice", "aria-live": "polite" });
    const made = card(
      "input",
      "Image",
      "Choose one, or drop or paste your own anywhere on the page.",
      element("div", { class: "thumbs" }, thumbs),
      element("div", { class: "bar" }, this.file, this.restore),
      this.note,
    );
    this.root.addEventListener("dragover", (event) => event.preventDefault());
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.openFile(event.dataTransfer.files[0]);
    });
    this.root.ownerDocument.addEventListener("paste", (event) => {
      if (this.root.isConnected && event.clipboardData.files.length) this.openFile(event.clipboardData.files[0]);
    });
    return made;
  }

  exampleOf({ pixels }) {
    return Float32Array.from(bytesOf(pixels), (byte) => byte / 255);
  }

  open(pixels, note = "") {
    this.pixels = pixels;
    this.note.textContent = note;
    return this.update();
  }

  async openFile(file) {
    if (!file) return;
    try {
      const image = await createImageBitmap(file),
        { size } = this.run.shape;
      const note =
        image.width === size && image.height === size
          ? ""
          : `${image.width} × ${image.height} pixels: its central square was made ${size} × ${size} by the browser.`;
      await this.open(
        this.drawn((context) => drawSquare(context, image, this.run.shape)),
        note,
      );
    } catch {
      this.note.textContent = `${file.name} is not an image that this browser reads.`;
    }
  }

  // Pixels (C, S, S) of what is drawn onto a canvas.
  drawn(paint) {
    const { size, channels } = this.run.shape,
      canvas = element("canvas", { width: size, height: size });
    const context = canvas.getContext("2d", { willReadFrequently: true }),
      pixels = new Float32Array(channels * size * size);
    paint(context, size);
    const { data } = context.getImageData(0, 0, size, size),
      area = size * size;
    for (let i = 0; i < area; i++) {
      const [r, g, b] = data.subarray(4 * i, 4 * i + 3);
      if (channels === 1) pixels[i] = Math.round(0.299 * r + 0.587 * g + 0.114 * b) / 255;
      else [r, g, b].forEach((value, c) => (pixels[c * area + i] = value / 255));
    }
    return pixels;
  }

  *work() {
    this.intact = this.model.read(this.pixels);
    yield false;
    this.state = this.cuts.empty ? this.intact : this.model.read(this.pixels, this.cuts);
  }

  makeFrame() {
    const { state, model, run } = this,
      { classes, side } = run.shape,
      { learnedCount } = model;
    const tokens = state.coords.map((_, n) => patchToken(n - learnedCount, side));
    const frame = this.frame(state, tokens),
      { query } = frame;
    const grid = (row) => Float32Array.from({ length: side * side }, (_, n) => row[learnedCount + n] ?? 0);
    frame.onPicture = (row) => scaled(grid(row));
    frame.cellMap = (layer, head) => ({ side, values: frame.onPicture(frame.row(layer, head, query)) });
    frame.rolled = () => mixRows(model.shares(state), rollout(state, this.heads));
    Object.assign(frame, { pixels: this.pixels, shape: run.shape, learnedCount });
    frame.answers = {
      logits: model.scores(state),
      intact: this.cuts.empty ? null : model.scores(this.intact),
      name: (id) => ({ text: classes[id], title: classes[id] }),
      caption: "of the whole image",
    };
    frame.lens = (level) => model.lens(state, level);
    return frame;
  }
}

function patchToken(n, side) {
  if (n < 0) return { text: "learned", title: "a learned token", style: "" };
  const row = Math.floor(n / side) + 1,
    column = (n % side) + 1;
  return { text: `${row},${column}`, title: `the square in row ${row}, column ${column}`, style: "" };
}

function scaled(values) {
  const greatest = maximum(values) || 1;
  return values.map((value) => value / greatest);
}

function gradient(context, size) {
  const made = context.createLinearGradient(0, 0, size, size);
  made.addColorStop(0, "#20407f");
  made.addColorStop(1, "#f2d38a");
  context.fillStyle = made;
  context.fillRect(0, 0, size, size);
}

// The central square of an image, as much of it as the model's own preparation takes.
function drawSquare(context, image, { size, crop }) {
  const edge = Math.max(1, Math.round(Math.min(image.width, image.height) * crop));
  context.imageSmoothingQuality = "high";
  context.drawImage(
    image,
    Math.floor((image.width - edge) / 2),
    Math.floor((image.height - edge) / 2),
    edge,
    edge,
    0,
    0,
    size,
    size,
  );
}

function paintPixels(canvas, pixels, { size, channels }) {
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d"),
    image = context.createImageData(size, size),
    area = size * size;
  for (let i = 0; i < area; i++) {
    const colour = [0, 1, 2].map((c) => 255 * pixels[(channels === 1 ? 0 : c) * area + i]);
    setPixel(image, 4 * i, colour);
  }
  context.putImageData(image, 0, 0);
}
