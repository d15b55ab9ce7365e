// The Vision Transformer: squares of an image, or convolutions of it, become tokens; their pool is classified.

class ViT {
  constructor(run, weights) {
    const { shape } = run;
    Object.assign(this, shape);
    this.stack = new Stack(run.stacks.core, weights, "core");
    this.dim = this.stack.core.dim;
    this.project = weights.has("embed.patches.project.weight") ? weights.linear("embed.patches.project") : null;
    this.convolutions = (shape.convolutions ?? []).map((name) => ({
      weight: weights.get(name),
      shape: weights.shape(name),
    }));
    this.learned = weights.optional("embed.learned") ?? new Float32Array(0);
    this.norm = weights.norm("norm", shape.pooledNorm, this.stack.core.norm_eps);
    this.attention = weights.has("pool.attention.weight") ? weights.linear("pool.attention") : null;
    this.head = weights.linear("head");
  }

  get learnedCount() {
    return this.learned.length / this.dim;
  }

  // pixels: Float32Array (C, S, S) in 0..1
  normalised(pixels) {
    const area = this.size * this.size;
    return pixels.map((value, i) => (value - this.mean[Math.floor(i / area)]) / this.std[Math.floor(i / area)]);
  }

  embed(image) {
    const patches = this.project ? linear(this.patchify(image), this.project) : this.convolve(image);
    const x = new Float32Array(this.learned.length + patches.length);
    x.set(this.learned);
    x.set(patches, this.learned.length);
    return x;
  }

  patchify(image) {
    const { size, patch, channels } = this,
      side = size / patch,
      wide = channels * patch * patch;
    const y = new Float32Array(side * side * wide);
    for (let c = 0; c < channels; c++) {
      for (let row = 0; row < size; row++) {
        for (let column = 0; column < size; column++) {
          const token = Math.floor(row / patch) * side + Math.floor(column / patch);
          const inside = (c * patch + (row % patch)) * patch + (column % patch);
          y[token * wide + inside] = image[(c * size + row) * size + column];
        }
      }
    }
    return y;
  }

  // Convolution, ReLU, max pooling, layer by layer; then channels last: (side side, D).
  convolve(image) {
    let side = this.size,
      x = image;
    for (const { weight, shape } of this.convolutions) {
      x = maxPool(convolve3(x, weight, shape, side).map(ACTIVATIONS.relu), shape[0], side);
      side = Math.ceil(side / 2);
    }
    const y = new Float32Array(x.length),
      area = side * side;
    for (let c = 0; c < this.dim; c++) for (let n = 0; n < area; n++) y[n * this.dim + c] = x[c * area + n];
    return y;
  }

  read(pixels, cuts = new Cuts()) {
    const state = this.stack.newState(cuts.copy());
    this.stack.append(
      state,
      this.embed(this.normalised(pixels)),
      this.coords.map((at) => at.slice()),
    );
    return state;
  }

  // The share of each token in the pooled vector.
  shares(state) {
    const shares = new Float32Array(state.length),
      first = this.pool === "class" ? 0 : this.learnedCount;
    if (this.pool === "class") shares[0] = 1;
    else if (this.attention) {
      const rows = state.out.data.subarray(first * this.dim, state.length * this.dim);
      shares.set(softmax(linear(rows, this.attention)), first);
    } else shares.fill(1 / (state.length - first), first);
    return shares;
  }

  answer(pooled) {
    return linear(normalise(pooled, this.norm, this.dim), this.head);
  }

  scores(state) {
    return this.answer(weightedRows(state.out, this.shares(state)));
  }

  // The scores of the stream at a level, pooled evenly as the last one is.
  lens(state, level) {
    const rows = new Rows(this.dim, state.length),
      shares = this.shares(state);
    for (let n = 0; n < state.length; n++) rows.push(normalise(state.residual(level, n), this.stack.norm, this.dim));
    return this.answer(weightedRows(rows, shares));
  }

  logits(pixels, cuts) {
    return this.scores(this.read(Float32Array.from(pixels), cuts));
  }
}

function weightedRows(rows, shares) {
  const y = new Float32Array(rows.width);
  shares.forEach((share, n) => rows.row(n).forEach((value, i) => (y[i] += share * value)));
  return y;
}

// A 3 x 3 convolution with a border of zeros: (C, S, S) -> (O, S, S).
function convolve3(x, weight, [outputs, inputs], side) {
  const y = new Float32Array(outputs * side * side);
  for (let o = 0; o < outputs; o++) {
    for (let c = 0; c < inputs; c++) {
      for (let k = 0; k < 9; k++) {
        addShifted(y, o, x, c, weight[(o * inputs + c) * 9 + k], Math.floor(k / 3) - 1, (k % 3) - 1, side);
      }
    }
  }
  return y;
}

function addShifted(y, o, x, c, weight, down, right, side) {
  for (let row = Math.max(0, -down); row < Math.min(side, side - down); row++) {
    const to = (o * side + row) * side,
      from = (c * side + row + down) * side + right;
    for (let i = Math.max(0, -right); i < Math.min(side, side - right); i++) y[to + i] += weight * x[from + i];
  }
}

// The greatest of 3 x 3, every second row and column: (C, S, S) -> (C, S/2, S/2).
function maxPool(x, channels, side) {
  const half = Math.ceil(side / 2),
    y = new Float32Array(channels * half * half).fill(-Infinity);
  for (let c = 0; c < channels; c++) {
    for (let row = 0; row < half; row++) {
      for (let column = 0; column < half; column++) {
        y[(c * half + row) * half + column] = greatestAround(x, c, 2 * row, 2 * column, side);
      }
    }
  }
  return y;
}

function greatestAround(x, c, row, column, side) {
  let greatest = -Infinity;
  for (let r = Math.max(0, row - 1); r <= Math.min(side - 1, row + 1); r++) {
    for (let k = Math.max(0, column - 1); k <= Math.min(side - 1, column + 1); k++) {
      greatest = Math.max(greatest, x[(c * side + r) * side + k]);
    }
  }
  return greatest;
}

// How much of each token reaches each other through the layers: the product of (A + I) / 2 (Abnar & Zuidema 2020).
function rollout(state, heads) {
  const count = state.length;
  let total = null;
  for (const layer of state.layers) {
    const mixed = layer.weights.map(({ count: keys, data }, query) => {
      const row = new Float32Array(count);
      for (let head = 0; head < heads; head++) for (let k = 0; k < keys; k++) row[k] += data[head * keys + k] / heads;
      row[query] += 1;
      const sum = sumOf(row, 0, count);
      return row.map((value) => value / sum);
    });
    total = total ? mixed.map((row) => mixRows(row, total)) : mixed;
  }
  return total;
}

function mixRows(shares, rows) {
  const y = new Float32Array(rows[0].length);
  shares.forEach((share, n) => {
    if (share !== 0) for (let i = 0; i < y.length; i++) y[i] += share * rows[n][i];
  });
  return y;
}
