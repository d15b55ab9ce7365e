// The stack of blocks: it keeps every token's keys, values and residual stream, so that a token more costs one token.

class Block {
  constructor(core, weights, prefix, layer) {
    Object.assign(this, { core, layer });
    const first = layer === 0 && core.first_norm === "none";
    this.attention = this.branch(weights, `${prefix}.attention`, first ? "none" : core.norm);
    this.attention.qkv = weights.linear(`${prefix}.attention.branch.qkv`);
    this.cross = weights.has(`${prefix}.cross_attention.branch.q.weight`)
      ? this.branch(weights, `${prefix}.cross_attention`, core.norm)
      : null;
    if (this.cross) {
      this.cross.q = weights.linear(`${prefix}.cross_attention.branch.q`);
      this.cross.kv = weights.linear(`${prefix}.cross_attention.branch.kv`);
    }
    this.feedforward = this.branch(weights, `${prefix}.feedforward`, core.norm);
    this.feedforward.up = weights.linear(`${prefix}.feedforward.branch.up`);
  }

  branch(weights, prefix, kind) {
    const { core } = this,
      over = core.qk_norm_over === "all-heads" ? "branch.%_norm.1" : "branch.%_norm";
    const qk = (which) => weights.norm(`${prefix}.${over.replace("%", which)}`, core.qk_norm, core.norm_eps);
    return {
      norm: weights.norm(`${prefix}.norm`, kind, core.norm_eps),
      scale: weights.optional(`${prefix}.scale.gain`),
      out: weights.linear(`${prefix}.branch.out`),
      qNorm: qk("q"),
      kNorm: qk("k"),
    };
  }

  // x + branch(x), with the norm where the configuration places it.
  residual(x, branch, compute) {
    const { norm_placement: placement, dim } = this.core;
    let y = compute(placement === "pre" ? normalise(x, branch.norm, dim) : x);
    if (placement === "branch") y = normalise(y, branch.norm, dim);
    if (branch.scale) multiplyRows(y, branch.scale);
    y = add(x, y);
    return placement === "post" ? normalise(y, branch.norm, dim) : y;
  }

  normaliseHeads(x, norm, heads) {
    const width = this.core.head_width * (this.core.qk_norm_over === "all-heads" ? heads : 1);
    return normalise(x, norm, width);
  }
}

class Stack {
  // description: {core, position, windowPosition, graph: "causal" or "full", part}
  constructor(description, weights, prefix) {
    this.core = description.core;
    this.graph = description.graph;
    this.part = description.part ?? "self";
    this.positions = {
      shared: new Positions(description.position, weights, `${prefix}.position`),
      none: NOWHERE,
    };
    this.positions.window = description.windowPosition
      ? new Positions(description.windowPosition, weights, `${prefix}.window_position`)
      : this.positions.shared;
    const { core } = this;
    this.blocks = Array.from({ length: core.depth }, (_, n) => new Block(core, weights, `${prefix}.blocks.${n}`, n));
    this.embeddingNorm = weights.norm(`${prefix}.embedding_norm`, core.embedding_norm, core.norm_eps);
    const final = core.norm_placement === "post" || description.finalNorm === "none" ? "none" : core.norm;
    this.norm = weights.norm(`${prefix}.norm`, final, core.norm_eps);
  }

  newState(cuts = new Cuts()) {
    return new StackState(this.core, cuts);
  }

  // Tokens x (T, D) at coords behind those of the state. A graph that is not causal takes all tokens at once.
  append(state, x, coords) {
    const { dim } = this.core;
    x = x.slice();
    coords.forEach((at, n) => this.positions.shared.embed(x.subarray(n * dim, (n + 1) * dim), at));
    x = normalise(x, this.embeddingNorm, dim);
    const start = state.length;
    state.coords.push(...coords);
    for (const block of this.blocks) x = this.pass(block, x, state, start);
    state.left.push(x);
    state.out.push(normalise(x, this.norm, dim));
  }

  pass(block, x, state, start) {
    const layer = state.layers[block.layer];
    layer.entered.push(x);
    x = block.residual(x, block.attention, (y) => this.attend(block, y, state, start));
    if (block.cross) x = block.residual(x, block.cross, (y) => this.attendToMemory(block, y, state));
    layer.attended.push(x);
    return block.residual(x, block.feedforward, (y) => this.compute(block, y));
  }

  compute(block, x) {
    const hidden = activate(linear(x, block.feedforward.up), this.core.feedforward, this.core.ffn_width);
    return linear(hidden, block.feedforward.out);
  }

  attend(block, x, state, start) {
    const { core } = this,
      layer = state.layers[block.layer];
    const [queries, keys] = [core.n_heads * core.head_width, core.key_heads * core.head_width];
    const qkv = linear(x, block.attention.qkv),
      width = queries + 2 * keys,
      rows = x.length / core.dim;
    let [q, k, v] = [
      [0, queries],
      [queries, queries + keys],
      [queries + keys, width],
    ].map(([from, to]) => columns(qkv, width, from, to));
    q = block.normaliseHeads(q, block.attention.qNorm, core.n_heads);
    k = block.normaliseHeads(k, block.attention.kNorm, core.key_heads);
    const { window, positions } = core.kinds[block.layer],
      place = this.positions[positions];
    for (let n = 0; n < rows; n++) {
      place.rotate(q.subarray(n * queries, (n + 1) * queries), state.coords[start + n], core.head_width);
      place.rotate(k.subarray(n * keys, (n + 1) * keys), state.coords[start + n], core.head_width);
    }
    layer.queries.push(q);
    layer.keys.push(k);
    layer.values.push(v);
    const span = (n) => this.span(n, state.length, window);
    const mixed = this.mix(q, layer, { state, start, place, span, part: this.part, layer: block.layer }, layer.weights);
    layer.mixed.push(mixed);
    return linear(mixed, block.attention.out);
  }

  // The first key that a query at a place attends to, and the one behind the last.
  span(place, length, window) {
    const last = this.graph === "causal" ? place + 1 : length;
    return window === null ? [0, last] : [Math.max(0, place - window + 1), Math.min(last, place + window)];
  }

  attendToMemory(block, x, state) {
    const { core } = this,
      { keys, values } = state.memory[block.layer];
    const q = block.normaliseHeads(linear(x, block.cross.q), block.cross.qNorm, core.n_heads);
    const where = { state, start: state.left.count, place: NOWHERE, part: "cross", layer: block.layer };
    where.span = () => [0, keys.count];
    const mixed = this.mix(q, { keys, values }, where, state.layers[block.layer].crossWeights);
    return linear(mixed, block.cross.out);
  }

  // Keys and values of a memory (N, D), for every block that attends to it.
  remember(state, memory) {
    const width = this.core.key_heads * this.core.head_width;
    state.memory = this.blocks.map((block) => {
      const kv = linear(memory, block.cross.kv);
      const [keys, values] = [new Rows(width), new Rows(width)];
      keys.push(block.normaliseHeads(columns(kv, 2 * width, 0, width), block.cross.kNorm, this.core.key_heads));
      values.push(columns(kv, 2 * width, width, 2 * width));
      return { keys, values };
    });
  }

  // Messages: for each query and head the weighted mean of the values. Keeps the weights.
  mix(q, { keys, values }, where, weights) {
    const { n_heads, head_width, key_heads } = this.core,
      width = n_heads * head_width,
      rows = q.length / width;
    const y = new Float32Array(q.length);
    for (let n = 0; n < rows; n++) {
      const query = where.start + n,
        [first, last] = where.span(query);
      const kept = new Float32Array(n_heads * last);
      for (let head = 0; head < n_heads; head++) {
        const shared = Math.floor((head * key_heads) / n_heads) * head_width,
          at = n * width + head * head_width;
        const shares = softmax(this.scores(q, at, keys, shared, head, query, first, last, where));
        kept.set(shares, head * last + first);
        if (!where.state.cuts.hasHead(where.part, where.layer, head))
          gather(y, at, shares, values, first, shared, head_width);
      }
      weights[query] = { count: last, data: kept };
    }
    return y;
  }

  scores(q, at, keys, shared, head, query, first, last, where) {
    const { head_width, attention_scale } = this.core,
      { state, place, part, layer } = where;
    const scale = attention_scale === "none" ? 1 : 1 / Math.sqrt(head_width);
    const scores = new Float32Array(last - first),
      blocked = state.cuts.blocked(part, layer, head);
    for (let key = first; key < last; key++) {
      const score = dot(q, at, keys.data, key * keys.width + shared, head_width) * scale;
      scores[key - first] = place.biased ? score + place.bias(head, state.coords[query], state.coords[key]) : score;
      if (blocked?.has(`${query},${key}`)) scores[key - first] = -Infinity;
    }
    return scores;
  }
}

function gather(y, at, shares, values, first, shared, width) {
  for (let key = 0; key < shares.length; key++) {
    const share = shares[key],
      from = (first + key) * values.width + shared;
    if (share !== 0) for (let i = 0; i < width; i++) y[at + i] += share * values.data[from + i];
  }
}

function columns(x, width, from, to) {
  const rows = x.length / width,
    wide = to - from,
    y = new Float32Array(rows * wide);
  for (let row = 0; row < rows; row++) y.set(x.subarray(row * width + from, row * width + to), row * wide);
  return y;
}
