// The models: embedding, core, head. Each reads an input into states, and answers from any level of the stream.

function embedRows(table, width, ids, scale = 1) {
  const x = new Float32Array(ids.length * width);
  ids.forEach((id, n) => x.set(table.subarray(id * width, (id + 1) * width), n * width));
  return scale === 1 ? x : x.map((value) => value * scale);
}

function places(count, start = 0) {
  return Array.from({ length: count }, (_, n) => [start + n]);
}

// The first query whose answer may change when cuts do: everything before it can be kept.
function firstChanged(before, after, part) {
  for (const head of new Set([...before.heads, ...after.heads])) {
    if (before.heads.has(head) !== after.heads.has(head) && head.startsWith(`${part}/`)) return 0;
  }
  const [old, now] = [before, after].map(
    (cuts) =>
      new Set(
        cuts
          .list()
          .filter(([p]) => p === part)
          .map(String),
      ),
  );
  const changed = [...old, ...now].filter((edge) => old.has(edge) !== now.has(edge));
  return Math.min(Infinity, ...changed.map((edge) => +edge.split(",")[3]));
}

// Tokens read one after another; what has been read stays while a text grows.
class CausalReader {
  constructor(stack, embed) {
    Object.assign(this, { stack, embed });
    this.state = stack.newState();
    this.ids = [];
  }

  // Forget what differs from these ids and cuts; `advance` then reads the rest.
  prepare(ids, cuts) {
    let same = 0;
    while (same < this.state.length && same < ids.length && this.ids[same] === ids[same]) same++;
    this.state.truncate(Math.min(same, firstChanged(this.state.cuts, cuts, this.stack.part)));
    this.state.cuts = cuts.copy();
    this.ids = ids.slice();
  }

  // Reads so many tokens more; whether all are read.
  advance(count) {
    const start = this.state.length,
      ids = this.ids.slice(start, start + count);
    if (ids.length) this.stack.append(this.state, this.embed(ids), places(ids.length, start));
    return this.state.length === this.ids.length;
  }

  read(ids, cuts = new Cuts()) {
    this.prepare(ids, cuts);
    this.advance(Infinity);
    return this.state;
  }
}

class GPT {
  constructor(run, weights) {
    const { shape } = run;
    this.stack = new Stack(run.stacks.core, weights, "core");
    this.table = weights.get("embed.weight");
    this.head = weights.linear("head");
    this.dim = this.stack.core.dim;
    Object.assign(this, { context: shape.context, softcap: shape.logit_softcap });
  }

  newReader() {
    return new CausalReader(this.stack, (ids) => embedRows(this.table, this.dim, ids));
  }

  // Logits of a row that left the stack's last norm.
  answer(row) {
    const logits = linear(row, this.head),
      bound = this.softcap;
    return bound ? logits.map((x) => bound * Math.tanh(x / bound)) : logits;
  }

  // What the head would say of the residual stream at a level: the logit lens.
  lens(state, level, token) {
    return this.answer(normalise(state.residual(level, token), this.stack.norm, this.dim));
  }

  logits(ids, cuts) {
    const state = this.newReader().read(ids, cuts);
    return Float32Array.from(ids.flatMap((_, n) => [...this.answer(state.out.row(n))]));
  }
}

// A linear map, an activation and a norm before the scores, as each task's head has them.
class ScoreHead {
  constructor(shape, weights, prefix, core) {
    const { transform, activation } = shape;
    this.out = weights.linear(`${prefix}.out`);
    this.dense = transform === "none" ? null : weights.linear(`${prefix}.transform.dense`);
    this.activation = ACTIVATIONS[activation];
    const kind = transform === "dense-norm" ? core.norm : "none";
    this.norm = weights.norm(`${prefix}.transform.norm`, kind, core.norm_eps);
  }

  scores(x) {
    if (this.dense) x = normalise(linear(x, this.dense).map(this.activation), this.norm, this.dense.outputs);
    return linear(x, this.out);
  }
}

class Encoder {
  constructor(run, weights) {
    const { shape } = run;
    this.stack = new Stack(run.stacks.core, weights, "encoder.core");
    this.dim = this.stack.core.dim;
    this.table = weights.get("encoder.embed.weight");
    this.types = weights.optional("encoder.types.weight");
    this.near = weights.optional("encoder.neighbours.table.weight");
    this.head = shape.head ? new ScoreHead(shape.head, weights, "head", this.stack.core) : null;
    Object.assign(this, { context: shape.context, pooling: shape.pooling, reach: shape.neighbours });
  }

  embed(ids) {
    const x = embedRows(this.table, this.dim, ids);
    if (this.near) this.addNeighbours(x, ids);
    if (this.types) addToRows(x, this.types.subarray(0, this.dim));
    return x;
  }

  addNeighbours(x, ids) {
    const { reach, dim } = this,
      tokens = this.table.length / dim;
    ids.forEach((_, n) => {
      for (let d = -reach, table = 0; d <= reach; d++) {
        if (d === 0) continue;
        if (n + d >= 0 && n + d < ids.length) this.addRow(x, n, table * tokens + ids[n + d]);
        table++;
      }
    });
  }

  addRow(x, n, row) {
    for (let i = 0; i < this.dim; i++) x[n * this.dim + i] += this.near[row * this.dim + i];
  }

  read(ids, cuts = new Cuts()) {
    const state = this.stack.newState(cuts.copy());
    this.stack.append(state, this.embed(ids), places(ids.length));
    return state;
  }

  // Scores of one token, or of the pooled text.
  answer(row) {
    return this.head.scores(row);
  }

  pooled(state) {
    return poolRows(state.out, this.pooling === "class" ? [0] : state.coords.map((_, n) => n), this.pooling);
  }

  lens(state, level, token) {
    return this.answer(normalise(state.residual(level, token), this.stack.norm, this.dim));
  }

  logits(ids, cuts) {
    const state = this.read(ids, cuts);
    if (this.pooling) return this.answer(this.pooled(state));
    return Float32Array.from(ids.flatMap((_, n) => [...this.answer(state.out.row(n))]));
  }
}

// The first, the mean or the maximum of some rows.
function poolRows(rows, chosen, pooling) {
  const y = rows.row(chosen[0]).slice();
  for (const n of chosen.slice(1)) {
    const row = rows.row(n);
    for (let i = 0; i < y.length; i++) y[i] = pooling === "max" ? Math.max(y[i], row[i]) : y[i] + row[i];
  }
  return pooling === "mean" ? y.map((value) => value / chosen.length) : y;
}

class Seq2Seq {
  constructor(run, weights) {
    const { shape } = run;
    this.encoder = new Stack(run.stacks.encoder, weights, "encoder");
    this.stack = new Stack(run.stacks.decoder, weights, "decoder");
    this.table = weights.get("embed.weight");
    this.head = weights.linear("head");
    this.dim = this.stack.core.dim;
    Object.assign(this, shape);
  }

  newReader(memory, cuts) {
    const reader = new CausalReader(this.stack, (ids) => embedRows(this.table, this.dim, ids, this.embeddingScale));
    reader.state.cuts = cuts.copy();
    this.stack.remember(reader.state, memory.out.data.subarray(0, memory.out.count * this.dim));
    return reader;
  }

  // The state of a source; its `out` is the memory.
  encode(ids, cuts = new Cuts()) {
    const state = this.encoder.newState(cuts.copy());
    this.encoder.append(state, embedRows(this.table, this.dim, ids, this.embeddingScale), places(ids.length));
    return state;
  }

  answer(row) {
    return linear(this.headScale === 1 ? row : row.map((value) => value * this.headScale), this.head);
  }

  lens(state, level, token) {
    return this.answer(normalise(state.residual(level, token), this.stack.norm, this.dim));
  }

  logits(source, target, cuts = new Cuts()) {
    const state = this.newReader(this.encode(source, cuts), cuts).read(target, cuts);
    return Float32Array.from(target.flatMap((_, n) => [...this.answer(state.out.row(n))]));
  }
}
