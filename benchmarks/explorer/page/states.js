// What a pass left of each layer: rows of (T, ...), and for each query its weights, heads one after another.
class LayerState {
  constructor(core) {
    const heads = core.n_heads * core.head_width,
      keys = core.key_heads * core.head_width;
    this.entered = new Rows(core.dim);
    this.attended = new Rows(core.dim);
    this.queries = new Rows(heads);
    this.keys = new Rows(keys);
    this.values = new Rows(keys);
    this.mixed = new Rows(heads);
    this.weights = [];
    this.crossWeights = [];
  }

  truncate(count) {
    for (const rows of [this.entered, this.attended, this.queries, this.keys, this.values, this.mixed]) {
      rows.truncate(count);
    }
    this.weights.length = Math.min(this.weights.length, count);
    this.crossWeights.length = Math.min(this.crossWeights.length, count);
  }
}

class StackState {
  constructor(core, cuts) {
    this.coords = [];
    this.layers = Array.from({ length: core.depth }, () => new LayerState(core));
    this.left = new Rows(core.dim); // the residual stream above the last block
    this.out = new Rows(core.dim); // the same, after the final norm
    this.cuts = cuts;
    this.memory = null;
  }

  get length() {
    return this.coords.length;
  }

  truncate(count) {
    this.coords.length = Math.min(this.coords.length, count);
    this.left.truncate(count);
    this.out.truncate(count);
    this.layers.forEach((layer) => layer.truncate(count));
  }

  // The residual stream of a token below block `level`, or above the last.
  residual(level, token) {
    return level < this.layers.length ? this.layers[level].entered.row(token) : this.left.row(token);
  }
}
